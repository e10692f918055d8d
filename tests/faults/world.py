"""One case's world: a fleet, the records, controllers that come and go, and what was seen that must never be."""

import random
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime
from functools import partial
from typing import Any, cast
from unittest.mock import patch

import flows.engine.fleet_run
import flows.engine.machine_queue
import flows.engine.rehearsals
import flows.engine.run_lease
import flows.execution
from flows.engine.shard_state import read_left_state
from flows.engine.undo_orders import find_undo_order
from flows.execution import RunnerFactory, execute_run, open_run
from flows.ports.caller import Caller
from flows.ports.ports import GateDecision, Ports
from flows.request.patch_request import PatchRequest
from inventory.machine import Inventory, Machine
from inventory.scope import Scope
from tasks.domain.errors import RecordsError, RequestError
from tasks.domain.model import Outcome, RunInfo, RunReport, Wave
from tasks.domain.protocols.leases import StopRequest
from tasks.domain.protocols.records import JournalMark
from tasks.domain.rows.snapshots import SnapshotRow
from tasks.domain.run_errors import EndUnknown, LeaseHeld
from tasks.domain.states import UNFINISHED_RUN_STATES, NotificationOccasion, OperationState, Step
from tasks.domain.undo import UndoOrder, UndoSnapshot
from tasks.records.queries.history import History
from tasks.rules.calendar.freezes import Freeze, find_freeze
from tasks.steps.context.run_control import StopToken
from tests.faults.controller import (
    ORDERS,
    Controller,
    ControllerClock,
    Keeper,
    LeasesLine,
    Outage,
    RecordsLine,
    Steps,
    Wire,
    current_hub,
    use,
    virtual_time,
)
from tests.faults.hub import Endless, Hub, HubClock, Notice, Pool, Task, Turnstile
from tests.faults.hypervisor import FaultyHypervisor, ProviderLine
from tests.faults.machine import FaultyMachine
from tests.faults.outputs import ENDS, Outputs, WatchedRunner, outputs_in_virtual_time, tell_end
from tests.support.fake_leases import FakeLeases
from tests.support.fake_manager import FakeManager
from tests.support.fake_packages import FakePackage
from tests.support.fake_records import FakeHistory, FakeRecords
from tests.support.mortal import Killed
from tests.support.unused_ports import UNUSED_PORTS

OPEN = (OperationState.IN_PROGRESS, OperationState.UNKNOWN, OperationState.NOT_STARTED)
EXPECTED = (Killed, RecordsError, LeaseHeld, RequestError, EndUnknown)
"""What a controller that was disturbed may end with."""


def _open_pool(workers: int, **_: str) -> Pool:
    return Pool(current_hub(), workers)


@contextmanager
def engine_in_virtual_time() -> Iterator[None]:
    """Have the engine's own threads and its monotonic clock be those of the current hub."""
    with (
        patch.object(flows.execution, "LeaseRenewer", Keeper),
        patch.object(flows.engine.run_lease, "_read_seconds", virtual_time.monotonic),
        patch.object(flows.engine.fleet_run, "Lock", lambda: Turnstile(current_hub())),
        patch.object(flows.engine.machine_queue, "Condition", lambda: Notice(current_hub())),
        patch.object(flows.engine.machine_queue, "ThreadPoolExecutor", _open_pool),
        patch.object(flows.engine.rehearsals, "ThreadPoolExecutor", _open_pool),
        outputs_in_virtual_time(),
    ):
        yield


@dataclass(frozen=True, slots=True)
class Fault:
    """Something that happened: what, at which step, where."""

    kind: str
    step: str
    machine: str


Strike = Callable[["World", Controller | None], None]


class World:
    """Everything that outlives a controller.

    Attributes:
        complaints: what was seen that must never be.
        struck: the faults that came about.
        settled: the outcomes that were written, and when; ``steps_begun`` the steps of each run and machine.
        deaths: of controllers, by the step that they were at.
        outputs: what people see; ``has_prefect`` whether flow runs execute the runs.
        at_moment: what strikes at a named moment of a run, once.
        backup: the records as they were copied.
    """

    def __init__(self, dice: random.Random, judge: Callable[["World", Outcome], None]) -> None:
        self.dice = dice
        self.judge = judge
        self.hub = Hub(random.Random(dice.random()))
        use(self.hub)
        self.clock = HubClock(self.hub)
        self.records = FakeRecords()
        self.leases = FakeLeases(self.records, self.clock)
        self.outage = Outage(self.hub)
        self.machines: dict[str, FaultyMachine] = {}
        self.hypervisor = FaultyHypervisor(self)
        self.snapshot_rows: dict[str, SnapshotRow] = {}
        self.described: list[Machine] = []
        self.controllers: list[Controller] = []
        self.complaints: list[str] = []
        self.struck: list[Fault] = []
        self.settled: list[tuple[datetime, Outcome]] = []
        self.steps_begun: list[tuple[datetime, str, str, Step]] = []
        self.deaths: Counter[str] = Counter()
        self.calls = 0
        self.tasks: list[Task] = []
        self.clock_is_honest = True
        self.freezes: list[Freeze] = []
        self.at_call: dict[int, list[Strike]] = {}
        self.at_step: dict[tuple[str, Step], list[tuple[int, Strike]]] = {}
        self.at_order: dict[str, list[tuple[int, Strike]]] = {}
        self._armed: list[tuple[str, int, Strike]] = []
        self.outputs, self.has_prefect = Outputs(), True
        self.at_moment: dict[str, Strike] = {}
        self.backup: dict[str, Any] = {}

    def add(self, name: str, packages: Sequence[FakePackage], **described: Any) -> FaultyMachine:
        """Add a machine; ``describe_schedule`` are fields of its inventory entry."""
        machine = FaultyMachine(self.clock, name, packages, self.complain, self.announced)
        machine.can_wait = len(self.machines) % 2 == 0  # Windows can't wait for the end of a job
        self.machines[name] = machine
        self.hypervisor.add_machine(name)
        self.described.append(Machine(name=name, address="192.0.2.1", provider="hypervisor", **described))
        return machine

    def complain(self, what: str) -> None:
        """Note what must never be."""
        self.complaints.append(f"{self.hub.now:%H:%M:%S} {what}")

    def announced(self, machine: str, act: str, key: str) -> bool:
        """Whether the journal has an entry that stands before an act."""
        wanted = (machine, act, key, JournalMark.BEFORE)
        return any((entry.machine, entry.act, entry.key, entry.mark) == wanted for entry in self.records.journal)

    def happened(self, kind: str, controller: Controller | None, machine: str = "") -> None:
        """Note a fault that came about."""
        self.struck.append(Fault(kind, self.step_of(controller, machine), machine))

    def step_of(self, controller: Controller | None, machine: str = "") -> str:
        """Return the step at which a controller is on a machine (or on any)."""
        if controller is None:
            return "before"
        at = controller.steps.get(machine) or next(iter(controller.steps.values()), None)
        return at.value if at is not None else "between"

    def kill(self, controller: Controller, *, after_the_act: bool) -> None:
        """End a controller as kill -9 does."""
        self.deaths[self.step_of(controller)] += 1
        if after_the_act:
            controller.dies_after_the_act = True
        else:
            controller.die()

    def living(self) -> list[Controller]:
        """Return the controllers that are at work."""
        return [each for each in self.controllers if not each.dead]

    # ---- runs

    def begin(self, request: PatchRequest, run_id: str) -> Task:
        """Let a new process begin a run."""
        controller = self._controller(run_id)
        who = Caller(Steps(controller), controller.control, "sim", run_id=run_id)
        ports = self._ports(controller)
        return self._process(controller, lambda: execute_run(request, who, self._waves(controller), ports=ports))

    def reach(self, moment: str, controller: Controller) -> None:
        """Let strike what waits for a named moment."""
        if moment in self.at_moment:
            self.at_moment.pop(moment)(self, controller)

    def take_up(self, run_id: str) -> Task:
        """Let a new process take a run up."""
        controller = self._controller(run_id)
        who = Caller(Steps(controller), controller.control, "sim")
        ports, history = self._ports(controller), FakeHistory(self.records)
        request = PatchRequest.model_validate(dict(self.records.runs[run_id].request))

        def past() -> Any:
            return controller.call("records", "past", lambda: read_left_state(history, run_id))  # type: ignore[arg-type]

        def resume() -> RunReport:
            with open_run(
                request, who, self._waves(controller), ports, run_id, read_state=past, is_resumed=True
            ) as run:
                return run.execute()

        return self._process(controller, resume)

    def is_open(self, run_id: str) -> bool:
        """Whether a run may still be taken up."""
        run = self.records.runs.get(run_id)
        return run is not None and run.state in OPEN

    def in_scope(self, scope: str) -> list[str]:
        """Return the names of the machines that a run is about."""
        return [machine.name for machine in Scope.parse(scope).select_machines(Inventory(tuple(self.described)))]

    def all_end(self) -> None:
        """Let time pass until every controller has ended; tasks that come meanwhile are waited for as well."""
        while waiting := [task for task in self.tasks if not task.over.is_set()]:
            self.hub.until(waiting[0].over.is_set)
            if not waiting[0].over.is_set():
                raise Endless("a controller waits for something that never happens")

    def report(self, run_id: str) -> RunReport:
        """Return what the records tell of a run."""
        return FakeHistory(self.records).read_report(run_id)

    def mend(self) -> None:
        """End all trouble."""
        self.outage.until, self.outage.lost_answers = None, 0
        self.at_call.clear()
        self.at_step.clear()
        self.at_order.clear()
        self._armed.clear()
        self.freezes.clear()
        self.hypervisor.mend()
        for machine in self.machines.values():
            machine.mend()

    def _process(self, controller: Controller, body: Callable[[], object]) -> Task:
        def life() -> None:
            try:
                self._tell_end(controller, body)
            except EXPECTED:
                raise
            except BaseException as error:
                self.complain(f"a controller ended with {type(error).__name__}: {error}")
                raise
            finally:
                controller.dead = True

        task = self.hub.spawn(controller, life)
        self.tasks.append(task)
        return task

    def _tell_end(self, controller: Controller, body: Callable[[], object]) -> None:
        try:
            report = body()
        except EXPECTED as error:
            if not isinstance(error, Killed):
                tell_end(controller, None, error)
            raise
        tell_end(controller, report, None)

    def _controller(self, run_id: str) -> Controller:
        number = len(self.controllers) + 1
        controller = Controller(self.hub, run_id, self._call, self._step_begins, number=number, outputs=self.outputs)
        self.controllers.append(controller)
        return controller

    def _ports(self, controller: Controller) -> Ports:
        return Ports(
            inventory=Inventory(tuple(self.described)),
            clock=ControllerClock(controller),
            records=RecordsLine(controller, self.records, self.outage, lambda item: self._wrote(controller, item)),
            leases=LeasesLine(controller, self.leases, self.outage),
            connect=lambda machine: Wire(controller, self.hypervisor.find_machine(machine)),
            find_manager=lambda facts: FakeManager(),
            open_provider=lambda machine: ProviderLine(controller, self.hypervisor, machine),
            save_snapshot=lambda row: self._save_snapshot(controller, row),
            find_undo_order=lambda run: self._find_undo_order(controller, run),
            list_components=lambda _machine: [self.hypervisor.group] if self.hypervisor.group is not None else [],
            find_component_order=self.hypervisor.find_order,
            listener=Steps(controller),
            stop_token=controller.control,
            gate=partial(self._pass_gate, controller),
            **{
                **UNUSED_PORTS,
                "read_declared_freezes": lambda: tuple(self.freezes),
                "notify": partial(self._notify, controller),
            },
        )

    def _pass_gate(self, controller: Controller, _planned: RunReport, _stop_token: StopToken) -> GateDecision:
        self.reach("approval", controller)
        controller.live()
        return GateDecision()

    def _notify(self, controller: Controller, occasion: NotificationOccasion, report: RunReport) -> None:
        """Send a message. One about an end is a call; of the others it is enough that their moment has come."""
        if occasion in ENDS:
            message = (self.hub.now, occasion, report)
            controller.call("messages", "send", lambda: self.outputs.messages.append(message))
        else:
            self.reach(f"{occasion} is told", controller)

    def _save_snapshot(self, controller: Controller, row: SnapshotRow) -> None:
        """Store what is known of a snapshot. It is answered at once, as a measure is."""
        controller.live()
        self.outage.ask(lambda: self.snapshot_rows.__setitem__(row.snapshot, row))

    def find_snapshots(self, run: RunInfo) -> dict[str, UndoSnapshot]:
        """Return the snapshots from before a run, by machine."""
        rows = (row for row in self.snapshot_rows.values() if row.run_id == run.id)
        return {row.machine: UndoSnapshot(row) for row in rows}

    def _find_undo_order(self, controller: Controller, run: str) -> UndoOrder:
        history = cast("History", FakeHistory(self.records))
        find = partial(find_undo_order, history, run, self.find_snapshots)
        return controller.call("records", "order", lambda: self.outage.ask(find))

    def _waves(self, controller: Controller) -> RunnerFactory:
        begins = partial(self._wave_begins, controller)
        return lambda request, ports: WatchedRunner(
            self, controller, ports, begins, writes_files=not getattr(request, "shard", "")
        )

    def _wave_begins(self, controller: Controller, wave: Wave) -> None:
        """Nothing may be begun on a machine once a freeze is declared; what has begun goes on."""
        touched = {entry.machine for entry in self.records.journal if entry.run_id == controller.run_id}
        new = [name for name in wave.machines if name not in touched]
        run = self.records.runs[controller.run_id]
        hit = run.kind == "patch" and run.window is not None and find_freeze(run.window, self.freezes) is not None
        if hit and new and not controller.control.is_stopping:
            self.complain(f"wave {wave.number} was begun on {new} although its window is frozen")

    def take_up_too_early(self, run_id: str) -> None:
        """Let somebody try to take up a run that is (perhaps) carried out."""
        if run_id in self.records.runs:
            self.take_up(run_id)

    def stop_request(self) -> StopRequest:
        """Return the wish of a person to stop a run."""
        return StopRequest("somebody", "enough", self.hub.now)

    # ---- what happens at calls

    def _call(self, controller: Controller, target: str, name: str) -> None:
        self.calls += 1
        self.reach(f"{target}: {name}", controller)
        for strike in self.at_call.pop(self.calls, ()):
            strike(self, controller)
        if name in ORDERS:
            self._order(controller, target)
        for armed in [each for each in self._armed if each[0] == target]:
            self._armed.remove(armed)
            if armed[1] > 1:
                self._armed.append((target, armed[1] - 1, armed[2]))
            else:
                armed[2](self, controller)

    def _order(self, controller: Controller, machine: str) -> None:
        if machine not in self.machines:  # the copy of one
            return
        stored = self.records.reports.get(controller.run_id)
        if stored is None or machine not in {plan.machine for plan in stored.plans}:
            self.complain(f"{machine} was given an order of run {controller.run_id} before its plan was stored")
        for orders, strike in self.at_order.pop(machine, ()):
            if orders == 1:
                strike(self, controller)
            else:
                self.at_order.setdefault(machine, []).append((orders - 1, strike))

    def _step_begins(self, controller: Controller, machine: str, step: Step) -> None:
        self.steps_begun.append((self.hub.now, controller.run_id, machine, step))
        for calls, strike in self.at_step.pop((machine, step), ()):
            if calls:
                self._armed.append((machine, calls, strike))
            else:
                strike(self, controller)

    def _wrote(self, controller: Controller, item: object) -> None:
        """Look at what a controller has just written: whether it may, and whether it is true."""
        lease = self.leases.held.get(controller.run_id)
        if lease is not None and lease.holder.id != controller.holder:
            self.complain(
                f"controller {controller.number} wrote {type(item).__name__} about the run of another process"
            )
        if isinstance(item, RunReport) and item.run.state not in OPEN:
            names = Counter(outcome.machine for outcome in item.outcomes)
            if names != Counter(self.in_scope(item.run.scope)):
                self.complain(f"the report of run {item.run.id} is of {dict(names)}")
        if isinstance(item, RunReport) and item.run.state not in UNFINISHED_RUN_STATES:
            self.reach("the end is recorded", controller)
        if isinstance(item, Outcome):
            self.settled.append((self.hub.now, item))
            self.judge(self, item)
