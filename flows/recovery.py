"""Runs that nobody carries out any more, and runs that are to stop: find them, ask them, take them up. No Prefect."""

import contextvars
import logging
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor, wait
from dataclasses import dataclass, replace
from datetime import datetime

from flows.carrying import MakeRunner, take_up
from flows.context import Caller
from flows.keeper import LEASE_SECONDS
from flows.past import resumable
from flows.ports import PlainRunner, Ports
from flows.request import AssessRequest, PatchRequest
from flows.suspension import Suspension, suspension_of
from flows.wiring import report_directory, whoami
from tasks.errors import FleetpatchError, LeaseHeld, RequestError
from tasks.model import RunInfo, RunReport
from tasks.records.history import History
from tasks.records.leases import SqlLeases
from tasks.records.opening import open_records
from tasks.seams.clock import Clock, SystemClock
from tasks.seams.leases import Holder, LeaseView, StopRequest
from tasks.states import OPEN, OperationState
from tasks.steps.context import Control

logger = logging.getLogger(__name__)

LOOK_SECONDS = 1.0  # how often a lease is looked at while somebody waits for it
HEAR_SECONDS = 0.2  # how soon runs that are taken up side by side hear that they are to stop
BEYOND_LEASE_SECONDS = 30.0  # a holder that is alive has renewed by then, or is over


@dataclass(frozen=True, slots=True)
class LeftRun:
    """A run without an end that claims machines and that nobody carries out.

    Attributes:
        holder: who did last; None when nobody ever did.
        since: when its lease was over.
        settle: why it is only settled and nothing more is begun; "" when it is resumed.
        suspension: it was suspended: it goes on when a person says so, until its window is over.
    """

    run: RunInfo
    holder: Holder | None
    since: datetime
    settle: str
    suspension: Suspension | None = None

    @property
    def waits(self) -> str:
        """Why it is left alone for now: it is suspended, and a person may go on with it; "" otherwise."""
        suspension = self.suspension
        if self.settle or suspension is None or not suspension.is_complete:
            return ""
        until = f" until {self.run.window.end:%Y-%m-%d %H:%M} UTC" if self.run.window is not None else ""
        return f"left alone: {suspension.reason} at {suspension.at:%Y-%m-%d %H:%M} UTC, and may be resumed{until}"

    @property
    def action(self) -> str:
        """What is done with it, in words."""
        if self.settle:
            return f"settled: {self.settle}"
        if self.suspension is not None:
            return self.waits or f"stopped to the end: {self.suspension.reason}"
        return "resumed"

    def tell(self, control: Control) -> None:
        """Let whoever takes it up know that nothing more is to be begun, if that is so."""
        if self.settle:
            control.stop(self.settle)
        elif self.suspension is not None:
            control.suspend(self.suspension.reason)


@dataclass(frozen=True, slots=True)
class Reconciled:
    """What became of a run that was left: a report, or the error that kept it from being taken up."""

    left: LeftRun
    report: RunReport | None = None
    error: FleetpatchError | None = None


@dataclass(frozen=True, slots=True)
class Asked:
    """A run that was asked to stop.

    Attributes:
        request: the request that stands: the first one.
        lease: who carries the run out, as far as is known.
    """

    run: RunInfo
    request: StopRequest
    lease: LeaseView | None

    @property
    def carried(self) -> bool:
        """Whether somebody is there who is going to hear it."""
        return self.lease is not None and self.lease.held


def left_runs(records_url: str | None = None, *, clock: Clock | None = None) -> tuple[LeftRun, ...]:
    """Return the runs that have no end by the records while nobody carries them out, oldest first.

    Those that are suspended are among them: see ``LeftRun.waits``. Runs that only look at machines (assessments, plans)
    are not: they claim nothing.

    Args:
        records_url: where runs are remembered; None: as usual.
        clock: tells which windows are over.

    Raises:
        RecordsError: the records can't be read.
    """
    with open_records(records_url) as records:
        return left_of(History(records), records.leases, (clock or SystemClock()).now())


def left_of(history: History, leases: SqlLeases, now: datetime) -> tuple[LeftRun, ...]:
    """Return the runs that were left, of records that are open: see ``left_runs``."""
    found = [(history.run(each.run_id), each) for each in leases.abandoned()]
    return tuple(
        _judged(history, run, leases.lease(run.id), each.holder, each.since, now)
        for run, each in found
        if run.claims_machines
    )


def _judged(
    history: History, run: RunInfo, lease: LeaseView | None, holder: Holder | None, since: datetime, now: datetime
) -> LeftRun:
    return LeftRun(run, holder, since, only_settled(run, lease, now), suspension_of(history.journal(run.id)))


def left_run(history: History, leases: SqlLeases, run_id: str, now: datetime) -> LeftRun | str:
    """Return a run that was left, as it is by now; or in words why it is none (any more)."""
    run = history.run(run_id)
    lease = leases.lease(run.id)
    if run.state not in OPEN:
        return f"run {run.id} is over: {run.state}"
    if lease is not None and lease.held:
        return f"run {run.id} is carried out by {lease.holder}"
    since = lease.until if lease is not None and lease.until is not None else run.started_at
    return _judged(history, run, lease, lease.holder if lease is not None else None, since, now)


def only_settled(run: RunInfo, lease: LeaseView | None, now: datetime) -> str:
    """Return why nothing more may be begun in a run that is taken up without a person's word, or "". Pure."""
    if lease is not None and lease.stop is not None:
        return f"{lease.stop.reason} ({lease.stop.who})"
    if run.window is not None and now >= run.window.end:
        return f"its window was over at {run.window.end:%Y-%m-%d %H:%M} UTC"
    if run.state is OperationState.UNKNOWN:
        return f"it was left: {run.message}" if run.message else "it was left"
    return ""


def reconcile_runs(
    who: Caller | None = None, take: Callable[[LeftRun, Caller], RunReport] | None = None
) -> tuple[Reconciled, ...]:
    """Take up every run that nobody carries out: resume it while its window is open, settle it otherwise.

    One that is suspended is left alone until its window is over.

    All of them at once: none waits for another's end, and one run's trouble is not another's. A run that somebody else
    takes up meanwhile is theirs. It returns when all have ended.

    Args:
        who: on whose behalf. When its ``control`` is stopped, so is each of the runs.
        take: takes one run up; plainly, without Prefect, by default.

    Raises:
        RecordsError: the records can't be read.
    """
    who, take = who or Caller(), take or take_left
    return take_all(left_runs(who.records_url), who, take)


def take_all(
    found: Sequence[LeftRun], who: Caller, take: Callable[[LeftRun, Caller], RunReport]
) -> tuple[Reconciled, ...]:
    """Take up runs that were left, all at once, each in a thread of its own: see ``reconcile_runs``."""
    found = [each for each in found if not each.waits]
    if not found:
        return ()
    callers = [replace(who, control=Control()) for _ in found]  # what one run is told is not meant for another

    def one(left: LeftRun, mine: Caller) -> Reconciled:
        try:
            return Reconciled(left, report=take(left, mine))
        except FleetpatchError as error:
            logger.warning("run %s could not be taken up: %s", left.run.id, error)
            return Reconciled(left, error=error)

    with ThreadPoolExecutor(len(found), thread_name_prefix="run") as pool:
        pairs = zip(found, callers, strict=True)
        futures = [pool.submit(contextvars.copy_context().run, one, left, mine) for left, mine in pairs]
        try:
            while wait(futures, timeout=HEAR_SECONDS).not_done:
                if who.control.stopping:
                    _stop_all(found, callers, who.control.reason)
        except BaseException as error:  # leaving the pool waits for the runs: they begin nothing new
            _stop_all(found, callers, f"the process that took it up was interrupted: {type(error).__name__}")
            raise
    return tuple(future.result() for future in futures)


def _stop_all(found: Sequence[LeftRun], callers: Sequence[Caller], reason: str) -> None:
    for left, mine in zip(found, callers, strict=True):
        if not mine.control.stopping:
            mine.control.stop(reason)
            note_stop(left.run.id, mine, reason)


def take_left(left: LeftRun, who: Caller, make_runner: MakeRunner | None = None, *, flow_run_id: str = "") -> RunReport:
    """Take one run up that was left: see ``reconcile_runs`` for how, and ``take_up`` for what it raises."""
    left.tell(who.control)
    return take_up(left.run.id, who, make_runner or reporting_runner, flow_run_id=flow_run_id)


def take_if_left(
    run_id: str, who: Caller, take: Callable[[LeftRun, Caller], RunReport], *, flow_run_id: str = ""
) -> RunReport | str:
    """Take a run up if it is still left, judged as it is now: its window may be over by then, or it is to stop.

    One that is suspended is left alone, unless it was this flow run that was, which somebody has resumed.

    Returns:
        The report; or in words why there was nothing to take up: somebody else has taken it up, or has ended it.

    Raises:
        FleetpatchError: it is left, and could not be taken up.
    """

    def look() -> LeftRun | str:
        with open_records(who.records_url) as records:
            return left_run(History(records), records.leases, run_id, SystemClock().now())

    left = look()
    if isinstance(left, str):
        return left
    if left.waits and left.suspension is not None:
        if not flow_run_id or left.suspension.flow_run_id != flow_run_id:
            return f"run {left.run.id} is {left.waits}"
        left = replace(left, suspension=None)
    try:
        return take(left, who)
    except LeaseHeld as held:
        return held.message
    except RequestError:  # somebody may have brought it to its end since it was looked at
        now = look()
        if isinstance(now, str):
            return now
        raise


def reporting_runner(request: PatchRequest | AssessRequest, ports: Ports) -> PlainRunner:
    """Return a runner without Prefect that writes the report where it was asked, or else in the user's data folder."""
    directory = report_directory(request.report_directory)
    return PlainRunner(directory, request.report_formats, ports.logs, ports.unwritten)


def resume_run(run_id: str, *, settle: bool = False, who: Caller | None = None) -> RunReport:
    """Go on with a run that nobody carries any more, without Prefect; ``resume_fleet`` does so as a flow.

    A process that died holds its lease for up to a minute more: that long it is waited for.

    Args:
        run_id: the run's id, or a beginning of it that no other run has.
        settle: begin nothing new; see what runs to its end, and record each machine's true state.
        who: on whose behalf.

    Returns:
        The whole report. That machines failed raises nothing.

    Raises:
        LeaseHeld: somebody carries it, and is alive.
        RequestError: it is over, or only looked at machines.
        RecordsError: there is no such run, or history can't be kept.
    """
    who = who or Caller()
    with open_records(who.records_url) as records:
        run = resumable(History(records).run(run_id))
        wait_for_lease(records.leases, run.id, say=who.watch.said)
    if settle:
        who.control.stop("the run is only settled")
    return take_up(run.id, who, reporting_runner)


def cancel_run(run_id: str, reason: str = "cancelled", who: Caller | None = None) -> Asked:
    """Ask a run to begin nothing more. Whoever carries it out hears of it within some seconds; nothing is killed.

    When nobody carries the run (``carried`` is false), the request stands for whoever takes it up:
    ``resume_run(run_id, settle=True)`` does so at once.

    Args:
        run_id: the run's id, or a beginning of it that no other run has.
        reason: why, in words; they stand in the report.
        who: on whose behalf.

    Raises:
        RequestError: the run is over, or only looks at machines.
        RecordsError: there is no such run, or the records can't be written.
    """
    who = who or Caller()
    with open_records(who.records_url) as records:
        run = History(records).run(run_id)
        if not run.claims_machines:
            raise RequestError(
                f"run {run.id} only looks at machines", hint="It changes nothing; end its process if it is in the way."
            )
        resumable(run)
        if run.state is OperationState.UNKNOWN:
            raise RequestError(
                f"run {run.id} was left, and nobody carries it out any more",
                hint=f"`fleetpatch resume {run.id} --settle` records what became of each machine.",
            )
        asked = records.leases.ask_to_stop(run.id, whoami(who), reason)
        return Asked(run, asked, records.leases.lease(run.id))


def note_stop(run_id: str, who: Caller, reason: str) -> None:
    """Keep in the records that a run was told to stop, for whoever has to finish it when this process is ended.

    Raises nothing: the run itself has heard it already, and a run that was not begun can't be asked.
    """
    try:
        with open_records(who.records_url) as records:
            records.leases.ask_to_stop(run_id, whoami(who), reason)
    except FleetpatchError as error:
        logger.info("that run %s was told to stop is not in the records: %s", run_id, error.message)


def wait_for_lease(
    leases: SqlLeases,
    run_id: str,
    *,
    say: Callable[[str], None] = logger.info,
    patient: bool = False,
    seconds: float = LEASE_SECONDS + BEYOND_LEASE_SECONDS,
    clock: Clock | None = None,
) -> None:
    """Wait until nobody has a run's lease, as long as its holder may be dead.

    Args:
        leases: where it is kept.
        run_id: of the run.
        say: told why this takes a while.
        patient: wait also for a holder that lives: it is about to end.
        seconds: how long to wait at most.
        clock: tells how long it has been.

    Raises:
        LeaseHeld: the holder is alive: it renewed its lease.
        RecordsError: the records can't be read.
    """
    clock = clock or SystemClock()
    began, first = clock.now(), leases.lease(run_id)
    view = first
    while view is not None and view.held and view.holder is not None and view.until is not None:
        renewed = first is not None and (view.holder, view.until) != (first.holder, first.until)
        waited = (clock.now() - began).total_seconds()
        if (renewed and not patient) or waited >= seconds:
            raise LeaseHeld(run_id, holder=view.holder, until=view.until)
        if view is first:
            say(f"run {run_id} was last carried out by {view.holder}: waiting whether its lease runs out")
        clock.sleep(LOOK_SECONDS)
        view = leases.lease(run_id)
