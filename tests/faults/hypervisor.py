"""The hypervisor of the harness: it holds the disks of all machines, and what it is asked for is judged."""

import random
from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from datetime import datetime, timedelta
from functools import partial
from typing import TYPE_CHECKING, Any, Final

from inventory.data_class import dataclass
from inventory.machine import Machine
from tasks.domain.components import Component, ComponentOrder
from tasks.domain.protocols.clock import Deadline
from tasks.domain.protocols.machine_provider import MachineProvider
from tasks.domain.protocols.transport import Script, ScriptRecord
from tasks.domain.provided_machines import DiskRole, PowerState, ProvidedMachine, ProviderAct, ProviderOrder
from tasks.domain.states import OperationState
from tasks.rules.runs.snapshots import REVERT_ACT, SNAPSHOT_ACT
from tests.faults.controller import Controller
from tests.faults.hub import START
from tests.faults.machine import FaultyMachine
from tests.support.fake_packages import Shelf
from tests.support.fake_provider import FakeHypervisor, ProviderFault
from tests.support.image_fleet import NETWORK

if TYPE_CHECKING:
    from tests.faults.world import World

BOOT_SECONDS = 40.0
JUST_BEGUN = timedelta(seconds=3)
IDENTITY: Final[tuple[ScriptRecord, ...]] = (
    {"kind": "host_key", "type": "ed25519", "private": "secret\n", "public": "ssh-ed25519 AAAA root@m"},
    {"kind": "identity", "name": "m", "machine_id": "0" * 32, "machine_id_file": "/etc/machine-id"},
    NETWORK,
)
CHANGING = ("install", "repair", "remove")
SNAPSHOT_ACTS = (
    ProviderAct.TAKE_SNAPSHOT,
    ProviderAct.TAKE_SNAPSHOT,
    ProviderAct.REVERT,
    ProviderAct.DELETE_SNAPSHOT,
)
DISK_ACTS = (ProviderAct.REPLACE_OS_DISK, ProviderAct.RESTORE_OS_DISK, ProviderAct.START)
COPY_ACTS = (ProviderAct.START_OVERLAY, ProviderAct.DELETE_OVERLAY)


@dataclass(frozen=True, slots=True)
class Kept:
    """What a snapshot has of a machine: its packages, and its folder of locks and jobs."""

    shelf: Shelf
    locked_by: Any
    lock_kind: str
    attempt: int
    jobs: dict[str, Any]


class FaultyHypervisor(FakeHypervisor):
    """Holds the machines of a world, and complains of orders that must never be given.

    Attributes:
        group: whose image runs upgrade; None: they patch packages.
        is_bad: whether the application of a machine does not work with a version of the image.
        copies: the copies for rehearsals that exist, by their machine, and ``copied`` all that ever were.
        copy_trouble: what happens to the next copies.
        reverts: how often a run has put a machine back.
        spoiled: the acts that ``spoil`` chooses from.
    """

    def __init__(self, world: "World") -> None:
        super().__init__(world.clock)
        self._world = world
        self._kept: dict[str, Kept] = {}
        self.apply = self._follow
        self.group: Component | None = None
        self.is_bad: Callable[[str, str], bool] = lambda _machine, _version: False
        self._disks: dict[str, Kept] = {}
        self.copies: dict[str, FaultyMachine] = {}
        self.copied: list[FaultyMachine] = []
        self.copy_trouble: list[Callable[[FaultyMachine], None]] = []
        self.reverts: Counter[tuple[str, str]] = Counter()
        self._gives_order: Controller | None = None
        self.spoiled: tuple[ProviderAct, ...] = SNAPSHOT_ACTS

    def spoil(self, dice: random.Random) -> str:
        """Let one of the next orders go wrong; return that in words."""
        act, fault = dice.choice(self.spoiled), dice.choice([*ProviderFault, ProviderFault.AWAY_AFTER])
        times = dice.choice([1, 2, 40])
        self.faults.setdefault(act, []).extend([fault] * times)
        return f"hypervisor: {act} {fault} ({times} times)"

    def install_images(self, group: Component, is_bad: Callable[[str, str], bool]) -> None:
        """Let all machines have the oldest version of an image.

        Args:
            group: what runs upgrade.
            is_bad: whether the application of a machine does not work with a version.
        """
        self.group, self.is_bad, self.spoiled = group, is_bad, DISK_ACTS
        for name, provided in self.machines.items():
            disks = tuple(
                replace(disk, image=group.versions[0].version) if disk.role is DiskRole.OS else disk
                for disk in provided.disks
            )
            self.machines[name] = replace(provided, disks=disks)
            machine = self._world.machines[name]
            machine.answer("host_identity", list(IDENTITY))
            machine.answer("probe", partial(self._probe, name))

    def find_order(self, _name: str, wanted: str) -> ComponentOrder:
        """Return what a run upgrades."""
        assert self.group is not None
        return ComponentOrder(self.group, wanted)

    def find_image(self, name: str) -> dict[str, str]:
        """Return the version of the image of a machine, by the id of its update."""
        return {self.group.update_id: self.machines[name].os_disks[0].image} if self.group is not None else {}

    def _probe(self, name: str, _script: Script) -> ScriptRecord:
        is_bad = self.is_bad(name, self.machines[name].os_disks[0].image)
        return {"kind": "probe", "exit_code": int(is_bad), "text": "the application is down" if is_bad else ""}

    def mend(self) -> None:
        """End all its trouble."""
        self.faults.clear()
        self.is_away, self.is_bad = False, lambda _machine, _version: False

    def judge(self, controller: Controller, name: str, order: ProviderOrder) -> None:
        """Complain of an order that must not be given now."""
        act = {ProviderAct.TAKE_SNAPSHOT: SNAPSHOT_ACT, ProviderAct.REVERT: REVERT_ACT}.get(order.act)
        machine = self._world.machines[name]
        if act is not None and not self._world.announced(name, act, order.id):
            self._world.complain(f"{name}: {order.act} {order.id} was ordered, and no journal entry precedes it")
        if order.act is ProviderAct.REVERT:
            self._judge_change(controller, machine)
            self._gives_order = controller
        if order.act is ProviderAct.REPLACE_OS_DISK and self.machines[name].find_kept_disk(order.id) is None:
            self._judge_change(controller, machine)
            if self.machines[name].kept_disks:
                self._world.complain(f"{name} gets a second new OS disk")

    def _judge_change(self, controller: Controller, machine: FaultyMachine) -> None:
        now = machine.fake_clock.now().timestamp() + machine.world.skew_seconds
        holder = machine.locked_by
        job = machine.busy
        # a job whose directory was deleted shows itself by the lock of its packages; one without packages can't be seen
        is_unseen = job in machine._forgotten and machine._jobs[job].job.script.name == "restart_services"
        if job and not is_unseen:
            self._world.complain(f"{machine.name} gets another disk while job {job} runs")
        began = max((since for since, _ in machine.world.locks), default=START)
        if machine.world.half_done and machine.fake_clock.now() - began < JUST_BEGUN:
            self._world.happened("power cut", controller, machine.name)  # nobody could know of them in time
        elif machine.world.half_done:
            self._world.complain(f"{machine.name} gets another disk while others change its packages")
        has_other = holder is not None and holder[0] not in {controller.run_id, *machine.over_for} and holder[2] > now
        if holder is not None and has_other:
            self._world.complain(f"{machine.name} gets another disk by {controller.run_id}, and {holder[0]} has it")
        # a provider can't refuse the order of a process that was frozen with it: docs/explanation/faults.md says so
        if controller.run_id in machine.over_for and controller.frozen_until is None:
            self._world.complain(f"{machine.name} gets another disk after its outcome was stored")

    def _follow(self, name: str, order: ProviderOrder) -> None:
        machine = self._world.machines[name]
        if order.act is ProviderAct.TAKE_SNAPSHOT:
            self._kept[order.id] = _keep(machine)
        elif order.act is ProviderAct.REVERT:
            self._judge_revert(machine)
            _boot_from(machine, self._kept[order.id])
        elif order.act is ProviderAct.REPLACE_OS_DISK:
            self._disks[order.id] = kept = _keep(machine)
            _boot_from(machine, Kept(kept.shelf, None, "", 0, {}))
        elif order.act is ProviderAct.RESTORE_OS_DISK:
            _boot_from(machine, self._disks[order.id])
        elif order.act is ProviderAct.START_OVERLAY:
            self._start_copy(machine, order.id)
        elif order.act is ProviderAct.DELETE_OVERLAY:
            self.copies.pop(name).is_off = True

    def _judge_revert(self, machine: FaultyMachine) -> None:
        """Complain of a second revert by one run, and count it.

        Whether a machine that does not answer was put back can't be told. And the provider can't refuse the order of a
        process that was frozen with it.
        """
        controller = self._gives_order
        assert controller is not None
        key = controller.run_id, machine.name
        if self.reverts[key] and machine.reachable and controller.frozen_until is None:
            self._world.complain(f"{machine.name} is put back by run {key[0]} once more, and it answers")
        self.reverts[key] += 1

    def _start_copy(self, machine: FaultyMachine, overlay_id: str) -> None:
        copy = FaultyMachine(
            self._world.clock,
            f"{machine.name} ({overlay_id})",
            machine.world.keep_packages().packages,
            self._world.complain,
            lambda *_: True,  # nothing of a copy is kept in the records
        )
        copy.world.shelf.reboot_reasons += machine.world.shelf.reboot_reasons
        copy.world.skew_seconds, copy.can_wait = machine.world.skew_seconds, machine.can_wait
        copy.boots = replace(machine.boots, orders=[], ordered_at=[])
        copy.cut(BOOT_SECONDS)
        for spoil in self.copy_trouble[:1]:
            spoil(copy)
        del self.copy_trouble[:1]
        self.copies[machine.name] = copy
        self.copied.append(copy)

    def find_machine(self, described: Machine) -> FaultyMachine:
        """Return who answers where a machine, or the copy of one, is reached."""
        machine = self._world.machines[described.name]
        if described.host_keys_of is None:
            return machine
        copy = self.copies.get(described.name)
        if copy is None:  # another process has deleted it
            copy = FaultyMachine(
                self._world.clock, f"{described.name} (gone)", [], self._world.complain, lambda *_: True
            )
            copy.is_off = True
        return copy


def _keep(machine: FaultyMachine) -> Kept:
    packages = machine.world.keep_packages()
    return Kept(packages, machine.locked_by, machine.lock_kind, machine.attempt, dict(machine._jobs))


def _boot_from(machine: FaultyMachine, kept: Kept) -> None:
    machine.world.crash(machine)
    machine.world.others_end()
    machine.world.put_packages_back(kept.shelf)
    machine.locked_by, machine.lock_kind, machine.attempt = kept.locked_by, kept.lock_kind, kept.attempt
    machine._jobs.clear()
    machine._jobs.update(kept.jobs)
    machine.is_off = machine.read_only = machine.booted_read_only = False
    machine.downs.append(machine.fake_clock.now())
    machine.begin_boot()
    machine.world.rebooted()
    machine.cut(BOOT_SECONDS)


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


def judge_disks(world: "World") -> None:
    """Complain of machines without their disks. Call it when no run is under way any more."""
    for name, provided in world.hypervisor.machines.items():
        if len(provided.os_disks) != 1 or provided.power is not PowerState.RUNNING:
            world.complain(f"{name} is {provided.power} with {len(provided.os_disks)} OS disks")
        data = f"{name}-data"
        sources = [disk.source for disk in provided.disks if disk.role is DiskRole.DATA]
        if sources != [data] or world.hypervisor.contents[data] != "data":
            world.complain(f"{name} has lost its data disk")


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
            is_undo = bool(run.request.get("undo_of"))
            if outcome is not None and was_put_back and not is_undo and outcome.state is not OperationState.FAILED:
                world.complain(f"{name}: run {run.id} put it back, and its outcome is {outcome.state}")


def _find_first_change(machine: FaultyMachine, run_id: str) -> datetime | None:
    jobs = [job for job in machine.orders.jobs if job.run_id == run_id and job.job.script.params["work"] in CHANGING]
    reboots = [at for at, ordered_by, _ in machine.orders.reboots if ordered_by == run_id]
    return min([*(job.at for job in jobs), *reboots], default=None)
