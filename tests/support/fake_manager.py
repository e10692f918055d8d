"""A package manager made of rules, and the world of packages that it changes.

clock = FakeClock()
machine, world = FakeTransport(clock), PackageWorld(clock, lab_packages())
world.move_in(machine)                            # the machine now answers FakeManager's scripts
manager = FakeManager()
world["lab-plain"].fails = "disk on fire"         # packages can be changed at any time, but for a job that has begun
world.crash(machine)                              # a power cut: the transaction that runs is left half done
world.rebooted()                                  # what a reboot clears
"""

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from math import inf
from threading import RLock
from typing import Any, cast

from tasks.domain.errors import FleetpatchError, ListsUnread
from tasks.domain.model import LivePatching, PackageState, RebootNeed, RepositoryProblem, Update
from tasks.domain.protocols.clock import Clock, Deadline
from tasks.domain.protocols.package_manager import (
    LONGEST_POLL_SECONDS,
    InstalledKernels,
    JobKind,
    PackageNeeds,
    Rates,
    SimulationResult,
    Transaction,
    UpdaterMeans,
    WayBack,
)
from tasks.domain.protocols.transport import (
    SHARED_SCRIPTS,
    Job,
    JobPhase,
    Script,
    ScriptRecord,
    ScriptResult,
    Transport,
)
from tasks.domain.states import YesNoUnknown
from tests.support.fake_jobs import Coming, JobRun, names_in
from tests.support.fake_packages import FakePackage, Shelf, lab_packages
from tests.support.fake_services import FakeServices
from tests.support.fake_transport import FakeTransport, SimulatedJob

__all__ = ["FakeManager", "FakePackage", "PackageWorld", "lab_packages"]


@dataclass
class PackageWorld:
    """What is installed on one fake machine, what is on offer, and what jobs are doing to it.

    Attributes:
        start_seconds: what a transaction costs before its first update.
        skew_seconds: the machine's clock minus the test's.
        problems: broken in a way that a repair does not mend.
        mitigated_by: the live patches that mitigate every reboot the packages ask for, or "".
        assess_error: raised by assessments, while it is set.
        lasting_skew: the same by the time since the machine's boot, if an order tells what its clock was then.
        bytes_per_second: of its repositories; 0: nothing ever comes. Jobs that begin later know it.
        has_unread_lists: its package lists were never read; an assessment with refresh reads them.
        locks: (since, until) in which somebody else holds the package manager's lock; jobs that begin later know them.
    """

    clock: Clock
    packages: list[FakePackage] = field(default_factory=lab_packages)
    start_seconds: float = 2.0
    skew_seconds: float = 0.0
    problems: tuple[str, ...] = ()
    lock_holder: str = ""
    warnings: tuple[str, ...] = ()
    remarks: tuple[str, ...] = ()
    repository_problems: tuple[RepositoryProblem, ...] = ()
    unbootable: str = ""  # what the next boot lacks
    auto_updaters: tuple[tuple[str, float | None], ...] = ()
    unpausable_updaters: tuple[str, ...] = ()
    reboot_answer: YesNoUnknown | None = None  # None: as the packages ask for it
    mitigated_by: str = ""
    live_patching: LivePatching | None = None
    assess_error: FleetpatchError | None = None
    is_unread: bool = False
    locks: tuple[tuple[datetime, datetime], ...] = ()
    lasting_skew: Callable[[Script], float] = lambda script: float("-inf")
    bytes_per_second: float = inf

    def __post_init__(self) -> None:
        self.shelf = Shelf(self.packages)
        self.told: set[str] = set()  # updates that need others before they are offered, and are offered now
        self._coming: list[Coming] = []
        self.half_done: list[FakePackage] = []  # by other people, now
        self.was_judged = True  # whether the last assessment could tell what is broken
        self.services = FakeServices(self.clock, self._skew_of)
        self._before: dict[str, Shelf] = {}  # by job: the packages as they were when it began
        self._skews: dict[str, float] = {}
        self._mirrors: dict[str, float] = {}
        self._locks: dict[str, tuple[tuple[datetime, datetime], ...]] = {}
        self._stops: dict[str, datetime] = {}  # by job: when it was asked to stop
        self._preempted: dict[str, str] = {}  # by job: the other run for which it was to stop
        self._planning = RLock()  # a test and a run that it serves may plan a job anew at once

    def __getitem__(self, update_id: str) -> FakePackage:
        self.catch_up()
        return self.shelf[update_id]

    def move_in(self, machine: FakeTransport) -> None:
        """Let a fake machine answer FakeManager's scripts out of this world."""
        machine.answer("fake_assess", self._assess)
        machine.answer("fake_simulate", lambda script: {"kind": "answer", "answer": self._simulate(script)})
        machine.answer("fake_installed", lambda _: {"kind": "answer", "answer": self.whole()})
        machine.answer("fake_kernels", lambda _: {"kind": "answer", "answer": self.kernels()})
        machine.answer("fake_needs", lambda _: {"kind": "answer", "answer": self.shelf.needs()})
        machine.answer("job_stop", lambda script: self.stop(machine, str(script.params["id"])))
        machine.job("fake_job", self._start)
        self.services.move_in(machine)

    def _assess(self, script: Script) -> ScriptRecord:
        self.is_unread = self.is_unread and not script.params["refresh"]
        if self.is_unread:
            raise ListsUnread("the package lists were never read", hint="Read them.")
        if script.params["refresh"]:
            done = self.whole()
            self.told |= {
                each.id
                for each in self.packages
                if each.appears_after and done.get(each.appears_after) == self.shelf[each.appears_after].available
            }
        return {"kind": "answer", "answer": self.state()}

    def state(self) -> PackageState:
        """What an assessment says now."""
        self.catch_up()
        if self.assess_error is not None:
            raise self.assess_error
        others = any(since <= self.clock.now() < until for since, until in self.locks)
        at_work = "dpkg (pid 7)" if others else "dpkg (pid 8)" if self.at_work else ""
        self.was_judged = not at_work
        broken = [] if at_work else self.shelf.broken()
        reasons = tuple(self.shelf.reboot_reasons)
        answer = self.reboot_answer or (YesNoUnknown.YES if reasons else YesNoUnknown.NO)
        return PackageState(
            manager=FakeManager.name,
            updates=tuple(package.update() for package in self.packages if self._is_offered(package)),
            reboot=RebootNeed(answer, reasons, self.mitigated_by if reasons else ""),
            live_patching=self.live_patching,
            held=tuple(package.id for package in self.packages if package.held),
            problems=(*self.problems, *broken),
            repairable=bool(broken) and not self.problems,
            interrupted=bool(broken),
            lock_holder=self.lock_holder or at_work,
            at_work=at_work,
            auto_updaters=self.auto_updaters,
            warnings=self.warnings,
            remarks=self.remarks,
            repository_problems=self.repository_problems,
            unpausable_updaters=self.unpausable_updaters,
            services_to_restart=tuple(self.services.outdated),
            unfinished=() if at_work else self.shelf.unfinished(),
        )

    def _is_offered(self, package: FakePackage) -> bool:
        is_known = not package.appears_after or package.id in self.told
        return is_known and package.pending and not package.broken

    def whole(self) -> dict[str, str]:
        """What the database has: id -> version, of what is whole and configured."""
        self.catch_up()
        return self.shelf.whole()

    def kernels(self) -> InstalledKernels:
        """The kernels that are installed."""
        self.catch_up()
        return self.shelf.kernels

    @property
    def at_work(self) -> bool:
        """Whether a transaction of a job runs now."""
        return any(coming.begins <= self.clock.now() < coming.ends for coming in self._coming)

    def reconfigure(self, place: int) -> Callable[[], None]:
        """Let somebody configure one of the packages once more, which is half-configured meanwhile; return its end."""
        self.catch_up()
        whole = [package for package in self.packages if package.installed and not package.broken]
        chosen = whole[place % len(whole) :][:1] if whole else []
        for package in chosen:
            package.broken = True
        self.half_done += chosen

        def end() -> None:
            for package in chosen:
                if package in self.half_done:
                    self.half_done.remove(package)
                    package.broken = False

        return end

    def others_end(self) -> None:
        """All that other people do comes to its end."""
        self.locks = ()
        for package in self.half_done:
            package.broken = False
        self.half_done.clear()

    def keep_packages(self) -> Shelf:
        """Return the packages as they are now, for ``put_packages_back``."""
        self.catch_up()
        return self.shelf.copy()

    def put_packages_back(self, kept: Shelf) -> None:
        """Have the packages as they were."""
        self.shelf = kept.copy()
        self.packages = self.shelf.packages

    def rebooted(self) -> None:
        """The machine went down and came back."""
        self.catch_up()
        self.shelf.reboot_reasons.clear()
        self.services.end()

    def crash(self, machine: FakeTransport) -> None:
        """Cut the machine's power, and give it back: what was being done is half done, the rest doesn't happen."""
        self.catch_up()
        for coming in self._coming:
            if coming.begins <= self.clock.now():
                coming.undone(self.shelf)
        self._coming.clear()
        self.services.end()
        machine.crash()

    def kill_job(self, machine: FakeTransport, job_id: str, *, whole: bool) -> None:
        """Kill a job's shell: its transaction goes on and is the last; or (whole) all its processes at once."""
        self.catch_up()
        now, started = self.clock.now(), machine._jobs[job_id]
        if machine._phase(started) is not JobPhase.RUNNING:
            return
        if started.job.script.name == "restart_services":
            self.services.cut_short()
            started.lost_at = now
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
        self.services.renew(self.shelf.replaced)

    def _simulate(self, script: Script) -> SimulationResult:
        self.catch_up()
        return self.shelf.simulate(names_in(script, "wanted"), names_in(script, "keep"))

    def _start(self, job: Job) -> SimulatedJob:
        self.catch_up()
        self._before[job.id], self._locks[job.id] = self.shelf.copy(), self.locks
        run = self._run(job, self.clock.now())
        plan = run.plan()
        self._coming += run.coming
        return plan

    def _run(self, job: Job, began: datetime) -> JobRun:
        shelf = self._before[job.id].copy()
        # As its clock was then: what a job has written stays, also when it is planned anew after the clock jumped.
        mirror = self._mirrors.setdefault(job.id, self.bytes_per_second)
        locks, skew = self._locks[job.id], self._skew_of(job)
        return JobRun(
            job.script,
            began,
            shelf,
            self.start_seconds,
            skew,
            self._stops.get(job.id),
            locks,
            mirror,
            preempted_by=self._preempted.get(job.id, ""),
        )

    def _skew_of(self, job: Job) -> float:
        return self._skews.setdefault(job.id, max(self.skew_seconds, self.lasting_skew(job.script)))

    def stop(self, machine: FakeTransport, job_id: str, by: str = "") -> ScriptResult:
        """Ask a job to stop: what has not begun by now is planned anew. Asked again, the first time stands.

        Args:
            machine: where it runs.
            job_id: of the job.
            by: the other run for which it is to stop, or "".
        """
        if job_id in machine._jobs and machine._jobs[job_id].job.script.name == "restart_services":
            return self.services.stop(machine, job_id)
        with self._planning:
            result = machine._stop(job_id)
            is_new = job_id in machine.stopped and job_id not in self._stops
            if is_new and machine._jobs[job_id].lost_at is None:
                self.catch_up()
                self._stops[job_id], self._preempted[job_id] = self.clock.now(), by
                self._plan_anew(machine._jobs[job_id])
        return result

    def end_update(self, machine: FakeTransport, update_id: str) -> None:
        """Let an update that was to take very long be installed a second from now, in whichever job it is."""
        with self._planning:
            self.catch_up()
            now = self.clock.now()
            for job_id, before in list(self._before.items()):
                started = machine._jobs[job_id]
                if machine._phase(started) is JobPhase.RUNNING:
                    before[update_id].seconds = max(0.0, (now - started.at).total_seconds() + 1 - self.start_seconds)
                    self._plan_anew(started)
            self.shelf[update_id].seconds = 1.0

    def _plan_anew(self, started: Any) -> None:
        """Work out what a job does from here on; what it has done so far must come out as before."""
        run = self._run(started.job, started.at)
        started.plan = run.plan()
        self._coming = [coming for coming in run.coming if coming.ends > self.clock.now()]


class FakeManager:
    """A PackageManager like any other: it holds no state and asks the transport, whose machine is a PackageWorld."""

    name = "fake"
    default_rates = Rates(60.0, 120.0, 1e6, 600.0, 60.0)
    script_package = SHARED_SCRIPTS
    updaters_script: Script | None = Script("fake_updaters", read_only=False)
    updater_means: UpdaterMeans | None = UpdaterMeans(("fake.timer",))
    health_script: Script | None = None
    lock_files: tuple[str, ...] = ("/fake/lock",)
    change_lock_files: tuple[str, ...] = lock_files
    offers_more_later = False
    longest_poll_seconds: float = LONGEST_POLL_SECONDS
    way_back = WayBack()

    def assess(self, transport: Transport, *, refresh: bool, deadline: Deadline) -> PackageState:
        """See PackageManager."""
        script = Script("fake_assess", {"refresh": "yes" if refresh else ""})
        return cast("PackageState", _ask(transport, script, deadline))

    def simulate(
        self, transport: Transport, updates: Sequence[Update], *, keep: Collection[str] = (), deadline: Deadline
    ) -> SimulationResult:
        """See PackageManager."""
        script = Script("fake_simulate", {"wanted": tuple(update.id for update in updates), "keep": tuple(keep)})
        return cast("SimulationResult", _ask(transport, script, deadline))

    def read_installed_versions(
        self, transport: Transport, updates: Sequence[Update], *, deadline: Deadline
    ) -> Mapping[str, str]:
        """See PackageManager."""
        whole = cast("dict[str, str]", _ask(transport, Script("fake_installed"), deadline))
        return {update.id: whole[update.id] for update in updates if update.id in whole}

    def read_kernels(self, transport: Transport, *, deadline: Deadline) -> InstalledKernels:
        """See PackageManager."""
        return cast("InstalledKernels", _ask(transport, Script("fake_kernels"), deadline))

    def read_needs(self, transport: Transport, updates: Sequence[Update], *, deadline: Deadline) -> PackageNeeds:
        """See PackageManager."""
        return cast("PackageNeeds", _ask(transport, Script("fake_needs"), deadline))

    def build_job_script(
        self,
        kind: JobKind,
        transactions: Sequence[Transaction],
        *,
        allowed: Sequence[Update] = (),
        allow_removals: bool = False,
        excluded: Sequence[str] = (),
    ) -> Script:
        """See PackageManager."""
        params: dict[str, Any] = {
            "work": kind.value,
            "numbers": tuple(str(transaction.number) for transaction in transactions),
            "allowed": tuple(update.id for update in allowed),
            "allow_removals": "yes" if allow_removals else "",
            "excluded": tuple(excluded),
        }
        for transaction in transactions:
            params[f"tx_{transaction.number}_updates"] = tuple(update.id for update in transaction.updates)
            present = tuple(update.id for update in transaction.updates if update.installed is not None)
            params[f"tx_{transaction.number}_present"] = present
            params[f"tx_{transaction.number}_latest_start"] = str(transaction.latest_start)
            if transaction.stop_at is not None:
                params[f"tx_{transaction.number}_stop_at"] = str(transaction.stop_at)
        return Script("fake_job", params, read_only=False)


def _ask(transport: Transport, script: Script, deadline: Deadline) -> object:
    (record,) = transport.run_script(script, deadline=deadline).find_records("answer")
    return record["answer"]
