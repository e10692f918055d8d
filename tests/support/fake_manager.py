"""A package manager made of rules, and the world of packages that it changes.

clock = FakeClock()
machine, world = FakeTransport(clock), PackageWorld(clock, lab_packages())
world.move_in(machine)                            # the machine now answers FakeManager's scripts
manager = FakeManager()
world["lab-plain"].fails = "disk on fire"         # packages can be changed at any time, but for a job that has begun
world.crash(machine)                              # a power cut: the transaction that runs is left half done
world.rebooted()                                  # what a reboot clears
"""

from collections.abc import Callable, Mapping, Sequence
from copy import deepcopy
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any, cast

from tasks.errors import FleetpatchError
from tasks.model import PackageState, RebootNeed, Update
from tasks.seams.clock import Clock, Deadline
from tasks.seams.manager import Rehearsal, Transaction, Work
from tasks.seams.transport import Job, JobPhase, Script, ScriptRecord, ScriptResult, Transport
from tasks.states import Answer
from tests.support.fake_packages import FakePackage, Shelf, lab_packages
from tests.support.fake_transport import FakeTransport, SimulatedJob

LOCK_WAIT_SECONDS = 120.0  # how long a transaction waits for somebody else's lock

__all__ = ["FakeManager", "FakePackage", "PackageWorld", "lab_packages"]


@dataclass(frozen=True, slots=True)
class _Coming:
    """A transaction on its way: what it will have done, and what a power cut would make of it."""

    begins: datetime
    ends: datetime
    done: Callable[[Shelf], None]
    undone: Callable[[Shelf], None]


@dataclass(slots=True)
class _JobRun:
    """Works out what a job will do, on a copy of the packages; ``stop_at`` is when it was asked to stop."""

    script: Script
    began: datetime
    shelf: Shelf
    start_seconds: float
    skew_seconds: float
    stop_at: datetime | None = None
    locks: tuple[tuple[datetime, datetime], ...] = ()
    past: float = 0.0
    log: str = ""
    steps: list[tuple[float, ScriptRecord]] = field(default_factory=list)
    coming: list[_Coming] = field(default_factory=list)

    def plan(self) -> SimulatedJob:
        for number in _list(self.script, "numbers"):
            why, detail = self._obstacle(number)
            if why:
                self._tell("not_attempted", number, latest_start=self._latest(number), why=why, detail=detail)
            else:
                self._transaction(number)
        self.steps.append((self.past, {"kind": "finished", "at": self._at()}))
        return SimulatedJob(steps=tuple(self.steps), seconds=self.past, log=self.log)

    @property
    def work(self) -> Work:
        return Work(str(self.script.params["work"]))

    def _at(self) -> float:
        return self.began.timestamp() + self.past + self.skew_seconds

    def _latest(self, number: str) -> float:
        return float(str(self.script.params[f"tx_{number}_latest_start"]))

    def _tell(self, kind: str, number: str, **more: Any) -> None:
        self.steps.append((self.past, {"kind": kind, "number": int(number), "at": self._at(), **more}))

    def _obstacle(self, number: str) -> tuple[str, str]:
        """Return why a transaction may not begin: the same questions, in the same order, as on a real machine."""
        if self.stop_at is not None and self.stop_at <= self.began + timedelta(seconds=self.past):
            return "stop", "asked to stop"
        if self._at() > self._latest(number):
            return "window", ""
        own = _list(self.script, f"tx_{number}_updates")
        if self.work is not Work.INSTALL:
            return "", ""
        removals = self.shelf.removals(own)
        if removals and self.script.params["allow_removals"] != "yes":
            return "removals", ", ".join(removals)
        may = {*own, *_list(self.script, "allowed")}
        others = [self.shelf[update_id] for update_id in self.shelf.closure(own) if update_id not in may]
        unexpected = [f"{other.id} {other.installed} -> {other.available}" for other in others if other.installed]
        return ("unexpected", ", ".join(unexpected)) if unexpected else ("", "")

    def _got_the_lock(self, number: str) -> bool:
        """Wait for somebody else's lock, as long as the transaction's latest start allows and patience lasts."""
        patience = min(LOCK_WAIT_SECONDS, max(0.0, self._latest(number) - self._at()))
        free_at = max([until for since, until in self.locks if since <= self._now() < until], default=None)
        if free_at is None:
            return True
        self.past += min(patience, (free_at - self._now()).total_seconds())
        if self._now() < free_at:
            self._tell("transaction_ended", number, exit_code=100, error="lock: Could not get lock")
            return False
        return True

    def _now(self) -> datetime:
        return self.began + timedelta(seconds=self.past)

    def _transaction(self, number: str) -> None:
        own, work = _list(self.script, f"tx_{number}_updates"), self.work
        packages = [self.shelf[update_id] for update_id in self.shelf.closure(own)]
        begins = self.began + timedelta(seconds=self.past)
        self._tell("transaction_started", number)
        if not self._got_the_lock(number):
            return
        waited = self.past - (begins - self.began).total_seconds()
        seconds = self.start_seconds + (sum(package.seconds for package in packages) if work is Work.INSTALL else 0.0)
        for place, package in enumerate(packages, 1):
            self.past += seconds / len(packages)
            percent = 100.0 * place / len(packages)
            self._tell("progress", number, percent=percent, update=package.id, action=f"Setting up {package.id}")
        self.past = (begins - self.began).total_seconds() + waited + seconds
        errors: list[str] = []
        if work is Work.INSTALL:
            errors = [package.fails for package in packages if package.fails]
            for package in packages:
                if package.conffile:
                    self._tell("conffile", number, path=package.conffile, kept_as=f"{package.conffile}.dpkg-dist")
        self.shelf.carry_out(work, own)
        if work is Work.REPAIR:
            errors = self.shelf.broken()
        self._tell("transaction_ended", number, exit_code=100 if errors else 0, error="; ".join(errors))
        self.log += "".join(
            f"Setting up {package.id} ({package.available}) ...\n{package.fails}" for package in packages
        )
        self.coming.append(
            _Coming(
                begins + timedelta(seconds=waited),
                self._now(),
                lambda shelf: shelf.carry_out(work, own),
                lambda shelf: shelf.interrupt(work, own),
            )
        )


@dataclass
class PackageWorld:
    """What is installed on one fake machine, what is on offer, and what jobs are doing to it.

    Attributes:
        start_seconds: what a transaction costs before its first update.
        skew_seconds: the machine's clock minus the test's.
        problems: broken in a way that a repair does not mend.
        assess_error: raised by assessments, while it is set.
        locks: (since, until) in which somebody else holds the package manager's lock; jobs that begin later know them.
    """

    clock: Clock
    packages: list[FakePackage] = field(default_factory=lab_packages)
    start_seconds: float = 2.0
    skew_seconds: float = 0.0
    problems: tuple[str, ...] = ()
    lock_holder: str = ""
    warnings: tuple[str, ...] = ()
    auto_updaters: tuple[tuple[str, float | None], ...] = ()
    services_to_restart: tuple[str, ...] = ()
    reboot_answer: Answer | None = None  # None: as the packages ask for it
    assess_error: FleetpatchError | None = None
    locks: tuple[tuple[datetime, datetime], ...] = ()

    def __post_init__(self) -> None:
        self.shelf = Shelf(self.packages)
        self._coming: list[_Coming] = []
        self._before: dict[str, Shelf] = {}  # by job: the packages as they were when it began
        self._skews: dict[str, float] = {}

    def __getitem__(self, update_id: str) -> FakePackage:
        self.catch_up()
        return self.shelf[update_id]

    def move_in(self, machine: FakeTransport) -> None:
        """Let a fake machine answer FakeManager's scripts out of this world."""
        machine.answer("fake_assess", lambda _: {"kind": "answer", "answer": self.state()})
        machine.answer("fake_rehearse", lambda script: {"kind": "answer", "answer": self._rehearse(script)})
        machine.answer("fake_installed", lambda _: {"kind": "answer", "answer": self.whole()})
        machine.answer("job_stop", lambda script: self._stop(machine, str(script.params["id"])))
        machine.job("fake_job", self._start)

    def state(self) -> PackageState:
        """What an assessment says now."""
        self.catch_up()
        if self.assess_error is not None:
            raise self.assess_error
        broken, reasons = self.shelf.broken(), tuple(self.shelf.reboot_reasons)
        answer = self.reboot_answer or (Answer.YES if reasons else Answer.NO)
        return PackageState(
            manager=FakeManager.name,
            updates=tuple(package.update() for package in self.packages if package.pending and not package.broken),
            reboot=RebootNeed(answer, reasons),
            held=tuple(package.id for package in self.packages if package.held),
            problems=(*self.problems, *broken),
            repairable=bool(broken) and not self.problems,
            lock_holder=self.lock_holder,
            auto_updaters=self.auto_updaters,
            warnings=self.warnings,
            services_to_restart=self.services_to_restart,
        )

    def whole(self) -> dict[str, str]:
        """What the database has: id -> version, of what is whole and configured."""
        self.catch_up()
        return self.shelf.whole()

    @property
    def at_work(self) -> bool:
        """Whether a transaction of a job runs now."""
        return any(coming.begins <= self.clock.now() < coming.ends for coming in self._coming)

    def rebooted(self) -> None:
        """The machine went down and came back."""
        self.catch_up()
        self.shelf.reboot_reasons.clear()

    def crash(self, machine: FakeTransport) -> None:
        """Cut the machine's power, and give it back: what was being done is half done, the rest doesn't happen."""
        self.catch_up()
        for coming in self._coming:
            if coming.begins <= self.clock.now():
                coming.undone(self.shelf)
        self._coming.clear()
        machine.crash()

    def kill_job(self, machine: FakeTransport, job_id: str, *, whole: bool) -> None:
        """Kill a job's shell: its transaction goes on and is the last; or (whole) all its processes at once."""
        self.catch_up()
        now, started = self.clock.now(), machine._jobs[job_id]
        if machine._phase(started) is not JobPhase.RUNNING:
            return
        current = [coming for coming in self._coming if coming.begins <= now]
        started.lost_at = now
        if whole:
            for coming in current:
                coming.undone(self.shelf)
            current = []
        started.lingers_until = max((coming.ends for coming in current), default=None)
        self._coming = current

    def catch_up(self) -> None:
        """Let what jobs have done by now have happened."""
        now = self.clock.now()
        for coming in [coming for coming in self._coming if coming.ends <= now]:
            coming.done(self.shelf)
            self._coming.remove(coming)

    def _rehearse(self, script: Script) -> Rehearsal:
        self.catch_up()
        return self.shelf.rehearse(_list(script, "wanted"))

    def _start(self, job: Job) -> SimulatedJob:
        self.catch_up()
        self._before[job.id] = deepcopy(self.shelf)
        run = self._run(job, self.clock.now())
        plan = run.plan()
        self._coming += run.coming
        return plan

    def _run(self, job: Job, began: datetime, stop_at: datetime | None = None) -> _JobRun:
        shelf = deepcopy(self._before[job.id])
        # As its clock was then: what a job has written stays, also when it is planned anew after the clock jumped.
        skew = self._skews.setdefault(job.id, self.skew_seconds)
        return _JobRun(job.script, began, shelf, self.start_seconds, skew, stop_at, self.locks)

    def _stop(self, machine: FakeTransport, job_id: str) -> ScriptResult:
        """Ask a job to stop: what has not begun by now is planned anew. Asked again, the first time stands."""
        before = job_id in machine.stopped
        result = machine._stop(job_id)
        if not before and job_id in machine.stopped and machine._jobs[job_id].lost_at is None:
            self.catch_up()
            now = self.clock.now()
            started = machine._jobs[job_id]
            run = self._run(started.job, started.at, now)
            started.plan = run.plan()
            self._coming = [coming for coming in run.coming if coming.ends > now]
        return result


class FakeManager:
    """A PackageManager like any other: it holds no state and asks the transport, whose machine is a PackageWorld."""

    name = "fake"
    updaters = "fake_updaters"
    locks: tuple[str, ...] = ("/fake/lock",)

    def assess(self, transport: Transport, *, refresh: bool, deadline: Deadline) -> PackageState:
        """See PackageManager."""
        script = Script("fake_assess", {"refresh": "yes" if refresh else ""})
        return cast("PackageState", _ask(transport, script, deadline))

    def rehearse(self, transport: Transport, updates: Sequence[Update], *, deadline: Deadline) -> Rehearsal:
        """See PackageManager."""
        script = Script("fake_rehearse", {"wanted": tuple(update.id for update in updates)})
        return cast("Rehearsal", _ask(transport, script, deadline))

    def installed(self, transport: Transport, updates: Sequence[Update], *, deadline: Deadline) -> Mapping[str, str]:
        """See PackageManager."""
        whole = cast("dict[str, str]", _ask(transport, Script("fake_installed"), deadline))
        return {update.id: whole[update.id] for update in updates if update.id in whole}

    def job(
        self,
        work: Work,
        transactions: Sequence[Transaction],
        *,
        allowed: Sequence[Update] = (),
        allow_removals: bool = False,
    ) -> Script:
        """See PackageManager."""
        params: dict[str, Any] = {
            "work": work.value,
            "numbers": tuple(str(transaction.number) for transaction in transactions),
            "allowed": tuple(update.id for update in allowed),
            "allow_removals": "yes" if allow_removals else "",
        }
        for transaction in transactions:
            params[f"tx_{transaction.number}_updates"] = tuple(update.id for update in transaction.updates)
            params[f"tx_{transaction.number}_latest_start"] = str(transaction.latest_start)
        return Script("fake_job", params, read_only=False)


def _ask(transport: Transport, script: Script, deadline: Deadline) -> object:
    (record,) = transport.run(script, deadline=deadline).of_kind("answer")
    return record["answer"]


def _list(script: Script, name: str) -> tuple[str, ...]:
    value = script.params.get(name, ())
    return (value,) if isinstance(value, str) else tuple(value)
