"""The hypervisor of the harness: it holds the disks of all machines, and what it is asked for is judged."""

import random
from datetime import datetime
from typing import TYPE_CHECKING, Any

from inventory.data_class import dataclass
from inventory.machine import Machine
from tasks.domain.protocols.clock import Deadline
from tasks.domain.protocols.machine_provider import MachineProvider
from tasks.domain.provided_machines import ProvidedMachine, ProviderAct, ProviderOrder
from tasks.domain.states import OperationState
from tasks.rules.runs.snapshots import REVERT_ACT, SNAPSHOT_ACT
from tests.faults.controller import Controller
from tests.faults.machine import FaultyMachine
from tests.support.fake_packages import Shelf
from tests.support.fake_provider import FakeHypervisor, ProviderFault

if TYPE_CHECKING:
    from tests.faults.world import World

REVERT_SECONDS = 40.0
CHANGING = ("install", "repair", "remove")
ACTS = (ProviderAct.TAKE_SNAPSHOT, ProviderAct.TAKE_SNAPSHOT, ProviderAct.REVERT, ProviderAct.DELETE_SNAPSHOT)


@dataclass(frozen=True, slots=True)
class Kept:
    """What a snapshot has of a machine: its packages, and its folder of locks and jobs."""

    shelf: Shelf
    locked_by: Any
    lock_kind: str
    attempt: int
    jobs: dict[str, Any]


class FaultyHypervisor(FakeHypervisor):
    """Holds the machines of a world, and complains of orders that must never be given."""

    def __init__(self, world: "World") -> None:
        super().__init__(world.clock)
        self._world = world
        self._kept: dict[str, Kept] = {}
        self.apply = self._follow

    def spoil(self, dice: random.Random) -> str:
        """Let one of the next orders go wrong; return that in words."""
        act, fault = dice.choice(ACTS), dice.choice([*ProviderFault, ProviderFault.AWAY_AFTER])
        times = dice.choice([1, 2, 40])
        self.faults.setdefault(act, []).extend([fault] * times)
        return f"hypervisor: {act} {fault} ({times} times)"

    def mend(self) -> None:
        """End all its trouble."""
        self.faults.clear()
        self.is_away = False

    def judge(self, controller: Controller, name: str, order: ProviderOrder) -> None:
        """Complain of an order that must not be given now."""
        act = {ProviderAct.TAKE_SNAPSHOT: SNAPSHOT_ACT, ProviderAct.REVERT: REVERT_ACT}.get(order.act)
        machine = self._world.machines[name]
        if act is not None and not self._world.announced(name, act, order.id):
            self._world.complain(f"{name}: {order.act} {order.id} was ordered, and no journal entry precedes it")
        if order.act is ProviderAct.REVERT:
            self._judge_revert(controller, machine)

    def _judge_revert(self, controller: Controller, machine: FaultyMachine) -> None:
        now = machine.fake_clock.now().timestamp() + machine.world.skew_seconds
        holder = machine.locked_by
        if machine.busy:
            self._world.complain(f"{machine.name} is put back while job {machine.busy} runs")
        if machine.world.half_done:
            self._world.complain(f"{machine.name} is put back while others change its packages")
        if holder is not None and holder[0] != controller.run_id and holder[2] > now:
            self._world.complain(f"{machine.name} is put back by run {controller.run_id}, and run {holder[0]} has it")
        if controller.run_id in machine.over_for:
            self._world.complain(f"{machine.name} is put back after its outcome was stored")

    def _follow(self, name: str, order: ProviderOrder) -> None:
        machine = self._world.machines[name]
        if order.act is ProviderAct.TAKE_SNAPSHOT:
            self._kept[order.id] = Kept(
                machine.world.keep_packages(),
                machine.locked_by,
                machine.lock_kind,
                machine.attempt,
                dict(machine._jobs),
            )
        elif order.act is ProviderAct.REVERT:
            self._put_back(machine, self._kept[order.id])

    def _put_back(self, machine: FaultyMachine, kept: Kept) -> None:
        machine.world.crash(machine)
        machine.world.put_packages_back(kept.shelf)
        machine.locked_by, machine.lock_kind, machine.attempt = kept.locked_by, kept.lock_kind, kept.attempt
        machine._jobs.clear()
        machine._jobs.update(kept.jobs)
        machine.is_off = machine.read_only = machine.booted_read_only = False
        machine.downs.append(machine.fake_clock.now())
        machine.begin_boot()
        machine.world.rebooted()
        machine.cut(REVERT_SECONDS)


class ProviderLine:
    """A controller's way to the provider of a machine."""

    kind = "fake"

    def __init__(self, controller: Controller, hypervisor: FaultyHypervisor, machine: Machine) -> None:
        self._of, self._hypervisor, self._name = controller, hypervisor, machine.name
        provider = hypervisor.open(machine)
        assert provider is not None
        self._provider: MachineProvider = provider

    @property
    def acts(self) -> frozenset[ProviderAct]:
        """See MachineProvider."""
        return self._provider.acts

    def read_machine(self, *, deadline: Deadline) -> ProvidedMachine:
        """See MachineProvider."""
        return self._of.call(self._name, "provider", lambda: self._provider.read_machine(deadline=deadline))

    def carry_out(self, order: ProviderOrder, *, deadline: Deadline) -> str:
        """See MachineProvider."""

        def act() -> str:
            self._hypervisor.judge(self._of, self._name, order)
            return self._provider.carry_out(order, deadline=deadline)

        return self._of.call(self._name, order.act.value, act)


def judge_snapshots(world: "World") -> None:
    """Complain of snapshots that must not be, and of changes without one that was asked for. Call it at the end."""
    for run in world.records.runs.values():
        snapshot = run.request.get("snapshot")
        is_needed = isinstance(snapshot, dict) and snapshot.get("take") == "before" and not snapshot["patch_without"]
        for name, machine in world.machines.items():
            own = world.records.read_entries(run.id, name)
            keys = {entry.key for entry in own if entry.act == SNAPSHOT_ACT}
            if len(keys) > 1:
                world.complain(f"{name}: run {run.id} has ordered {len(keys)} snapshots")
            first = _find_first_change(machine, run.id)
            taken = [one.taken_at for one in world.hypervisor.machines[name].snapshots if one.id in keys]
            if is_needed and first is not None and not any(at is not None and at <= first for at in taken):
                world.complain(f"{name}: run {run.id} changed it at {first:%H:%M:%S} without a snapshot")
            outcome = world.records.outcomes.get((run.id, name))
            result = outcome.snapshot if outcome is not None else None
            was_put_back = result is not None and result.reverted_at is not None
            if outcome is not None and was_put_back and outcome.state is not OperationState.FAILED:
                world.complain(f"{name}: run {run.id} put it back, and its outcome is {outcome.state}")


def _find_first_change(machine: FaultyMachine, run_id: str) -> datetime | None:
    jobs = [job for job in machine.orders.jobs if job.run_id == run_id and job.job.script.params["work"] in CHANGING]
    reboots = [at for at, ordered_by, _ in machine.orders.reboots if ordered_by == run_id]
    return min([*(job.at for job in jobs), *reboots], default=None)
