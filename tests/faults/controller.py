"""A controller: one process that carries a run, with its own clock, its own lines, and a life that may end anywhere."""

from collections.abc import Callable, Set
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from types import SimpleNamespace
from typing import Any, TypeVar

from flows.engine.run_lease import LeaseRenewer
from tasks.domain.errors import ConnectionLost, DeadlineExceeded, RecordsUnavailable
from tasks.domain.model import Assessment, JobOutput, Outcome, RunInfo, RunReport, UpdateKey
from tasks.domain.protocols.clock import Deadline
from tasks.domain.protocols.leases import LeaseHolder, LeaselessRun, LeaseRenewal, Leases, LeaseStatus
from tasks.domain.protocols.records import JournalEntry, Records
from tasks.domain.protocols.transport import Job, JobStatus, Script, ScriptResult
from tasks.domain.states import Step
from tasks.steps.context.run_control import LoggingListener, StopToken
from tests.faults.hub import START, Flag, Hub, Task
from tests.faults.machine import FaultyMachine
from tests.support.mortal import Killed

T = TypeVar("T")

ORDERS = ("start", "reboot")
THERE = 0.04  # seconds that a question is on its way, and as many for its answer


@dataclass(eq=False)
class Controller:
    """One process.

    Attributes:
        run_id: of the run that it carries.
        offset: its clock minus the true time.
        steps: by machine, the step that it is at.
        happens: asked at every call, before it goes out: the place where faults strike.
        holder: id under which it holds its run's lease, and ``since`` when it took that.
        outputs: what its world shows to people.
    """

    hub: Hub
    run_id: str
    happens: Callable[["Controller", str, str], None]
    step_begins: Callable[["Controller", str, Step], None]
    control: StopToken = field(default_factory=StopToken)
    offset: timedelta = timedelta()
    dead: bool = False
    died_at: datetime | None = None
    dies_after_the_act: bool = False
    frozen_until: datetime | None = None
    steps: dict[str, Step] = field(default_factory=dict)
    calls: int = 0
    number: int = 1
    holder: str = ""
    since: datetime = START
    outputs: Any = None

    def call(self, target: str, name: str, act: Callable[[], T]) -> T:
        """Ask somebody for something; anything may happen on the way there and on the way back."""
        self.live()
        self.calls += 1
        self.happens(self, target, name)
        self.live()
        self.hub.sleep(THERE)
        self.live()
        try:
            return act()
        finally:
            if self.dies_after_the_act:
                self.die()
            self.hub.sleep(THERE)
            self.live()

    def live(self) -> None:
        """Go on, once the process is no longer frozen, unless it is dead.

        Raises:
            Killed: it is.
        """
        while not self.dead and self.frozen_until is not None and self.hub.now < self.frozen_until:
            self.hub.sleep((self.frozen_until - self.hub.now).total_seconds())
        if self.dead:
            raise Killed

    def die(self) -> None:
        """As after kill -9: nothing that it asks for happens any more."""
        self.dead, self.died_at = True, self.died_at or self.hub.now
        self.hub.hurry(self)


class ControllerClock:
    """What a controller takes for the time."""

    def __init__(self, controller: Controller) -> None:
        self._of = controller

    def now(self) -> datetime:
        """Return it."""
        return self._of.hub.now + self._of.offset

    def sleep(self, seconds: float) -> None:
        """Wait, for as long as the process lives."""
        self._of.live()
        self._of.hub.sleep(seconds)
        self._of.live()


class Wire:
    """A controller's way to a machine."""

    def __init__(self, controller: Controller, machine: FaultyMachine) -> None:
        self._of = controller
        self._machine = machine

    def run_script(self, script: Script, *, deadline: Deadline) -> ScriptResult:
        """See Transport."""
        if script.name == "machine_lock" and script.params.get("release"):
            self._machine.released_by.add(self._of.run_id)
        return self._ask(script.name, deadline, lambda until: self._machine.run_script(script, deadline=until))

    def start_job(self, job: Job, *, deadline: Deadline) -> JobStatus:
        """See Transport."""
        return self._ask("start", deadline, lambda until: self._machine.start_job(job, deadline=until))

    def poll_job(
        self, job_id: str, *, deadline: Deadline, events_from: int = 0, log_from: int = 0, wait_seconds: float = 0.0
    ) -> JobStatus:
        """See Transport."""
        return self._ask(
            "look",
            deadline,
            lambda until: self._machine.poll_job(
                job_id, deadline=until, events_from=events_from, log_from=log_from, wait_seconds=wait_seconds
            ),
        )

    def close(self) -> None:
        """See Transport."""

    def _ask(self, name: str, deadline: Deadline, ask: Callable[[Deadline], T]) -> T:
        self._of.live()
        clock = ControllerClock(self._of)
        sent = name in ORDERS and not deadline.has_passed(clock)  # what is on its way arrives, however late

        def act() -> T:
            self._machine.caller, self._machine.caller_since = self._of.run_id, self._of.since
            until = deadline.expires_at - self._of.offset
            return ask(Deadline(max(until, self._of.hub.now + timedelta(seconds=1)) if sent else until))

        answer = self._of.call(self._machine.name, name, act)
        if sent and deadline.has_passed(clock):
            raise DeadlineExceeded("the answer came too late", machine=self._machine.name)
        if not self._machine.on_line:
            raise ConnectionLost("the connection was lost before the answer came", machine=self._machine.name)
        return answer


class Outage:
    """Whether the records' database is there, for all controllers alike.

    Attributes:
        until: it is away until then; None: it is there.
        lost_answers: how many of the next calls are carried out and answered by nobody.
    """

    def __init__(self, hub: Hub) -> None:
        self._hub = hub
        self.until: datetime | None = None
        self.lost_answers = 0

    def ask(self, act: Callable[[], T]) -> T:
        """Do it, if the database is there."""
        if self.until is not None and self._hub.now < self.until:
            raise RecordsUnavailable("the database is away")
        result = act()
        if self.lost_answers > 0:
            self.lost_answers -= 1
            raise RecordsUnavailable("the database was gone before its answer came")
        return result


class RecordsLine:
    """A controller's way to the records."""

    def __init__(self, controller: Controller, records: Records, outage: Outage, wrote: Callable[[Any], None]) -> None:
        self._of = controller
        self._records = records
        self._outage = outage
        self._wrote = wrote

    def append_entry(self, entry: JournalEntry) -> None:
        """See Records."""

        def act() -> None:
            self._records.append_entry(entry)
            self._wrote(entry)

        self._ask("append", act)

    def read_entries(self, run_id: str, machine: str | None = None) -> tuple[JournalEntry, ...]:
        """See Records."""
        return self._ask("entries", lambda: self._records.read_entries(run_id, machine))

    def save(self, item: RunInfo | Assessment | Outcome | JobOutput | RunReport) -> None:
        """See Records."""

        def act() -> None:
            self._records.save(item)
            self._wrote(item)

        self._ask("save", act)

    def with_lease(self, run_id: str, holder: LeaseHolder) -> "RecordsLine":
        """See Records."""
        return RecordsLine(self._of, self._records.with_lease(run_id, holder), self._outage, self._wrote)

    def read_measure(self, machine: str, measure: str) -> float | None:
        """See Records. Answered at once: it is asked four times at every turn, and changes nothing."""
        return self._outage.ask(lambda: self._records.read_measure(machine, measure))

    def read_last_assessment(self, machine: str) -> Assessment | None:
        """See Records. Answered at once, as a measure is."""
        return self._outage.ask(lambda: self._records.read_last_assessment(machine))

    def read_first_seen(self, updates: Set[UpdateKey]) -> dict[UpdateKey, datetime]:
        """See Records. Answered at once, as a measure is."""
        return self._outage.ask(lambda: self._records.read_first_seen(updates))

    def _ask(self, name: str, act: Callable[[], T]) -> T:
        return self._of.call("records", name, lambda: self._outage.ask(act))


class LeasesLine:
    """A controller's way to the leases, which are in the same database."""

    def __init__(self, controller: Controller, leases: Leases, outage: Outage) -> None:
        self._of = controller
        self._leases = leases
        self._outage = outage

    def require_known_stops(self) -> None:
        """See Leases. It is asked once, before a run begins, and changes nothing."""
        self._leases.require_known_stops()

    def acquire(self, run_id: str, holder: LeaseHolder, seconds: float) -> datetime:
        """See Leases."""
        self._of.holder = holder.id

        def act() -> datetime:
            taken_at = self._leases.acquire(run_id, holder, seconds)
            self._of.since = self._of.hub.now
            return taken_at

        return self._ask("take", act)

    def renew(self, run_id: str, holder: LeaseHolder, seconds: float) -> LeaseRenewal:
        """See Leases."""
        return self._ask("renew", lambda: self._leases.renew(run_id, holder, seconds))

    def release(self, run_id: str, holder: LeaseHolder) -> None:
        """See Leases."""
        self._ask("give_back", lambda: self._leases.release(run_id, holder))

    def find_lease(self, run_id: str) -> LeaseStatus | None:
        """See Leases. It is asked once, at the end of a run, and changes nothing."""
        return self._leases.find_lease(run_id)

    def find_leaseless_runs(self) -> tuple[LeaselessRun, ...]:
        """See Leases."""
        return self._ask("abandoned", self._leases.find_leaseless_runs)

    def _ask(self, name: str, act: Callable[[], T]) -> T:
        return self._of.call("leases", name, lambda: self._outage.ask(act))


class Steps(LoggingListener):
    """Notes which step of which machine a controller is at."""

    def __init__(self, controller: Controller) -> None:
        self._of = controller

    def on_progress(self, machine: str, step: Step, fraction: float | None, message: str) -> None:
        """Note the step when it begins."""
        if fraction == 0.0 and not message:
            self._of.steps[machine] = step
            self._of.step_begins(self._of, machine, step)

    def on_step_finished(self, machine: str, step: Step, state: str, message: str) -> None:
        """Note that it has ended."""
        self._of.steps.pop(machine, None)

    def on_message(self, message: str) -> None:
        """Nobody listens."""


class Keeper(LeaseRenewer):
    """The engine's own keeper of a lease, whose thread is a task and whose seconds are virtual."""

    def __init__(self, leases: Leases, run_id: str, stop_token: StopToken, holder: LeaseHolder) -> None:
        super().__init__(leases, run_id, stop_token, holder)
        hub = _HUBS[-1]
        owner = hub.current.owner if hub.current else None
        self._stop_event = Flag(hub)  # type: ignore[assignment]  # as good as a threading.Event
        self._thread = _Thread(hub, owner, self._beat)  # type: ignore[assignment]  # as good as a thread

    def _beat(self) -> None:
        try:
            self._renew_until_stopped()
        except Killed:
            return


class _Thread:
    """A thread in virtual time."""

    def __init__(self, hub: Hub, owner: object, body: Callable[[], None]) -> None:
        self._hub = hub
        self._owner = owner
        self._body = body
        self._task: Task | None = None

    def start(self) -> None:
        self._task = self._hub.spawn(self._owner, self._body)

    def join(self) -> None:
        if self._task is not None:
            self._task.over.wait()


_HUBS: list[Hub] = []
"""The hub of the case that runs: the engine makes its keepers and pools without being told of one."""


def current_hub() -> Hub:
    """Return the hub of the case that runs."""
    return _HUBS[-1]


def use(hub: Hub) -> None:
    """Let the engine's keepers and pools be of this hub from now on."""
    _HUBS[:] = [hub]


def _monotonic() -> float:
    return current_hub().now.timestamp()


virtual_time = SimpleNamespace(monotonic=_monotonic)
"""In place of the module ``time`` where the engine asks for a clock that nobody sets."""
