"""Find abandoned runs: runs without an end and without a live process. Tell what can be done with each. No Prefect."""

from dataclasses import dataclass
from datetime import datetime

from flows.engine.suspension import Suspension, find_suspension
from tasks.domain.model import RunInfo
from tasks.domain.protocols.clock import Clock, SystemClock
from tasks.domain.protocols.leases import LeaseHolder, LeaseStatus
from tasks.domain.states import UNFINISHED_RUN_STATES, OperationState
from tasks.records.leases import SqlLeases
from tasks.records.queries.history import History
from tasks.records.setup import open_records
from tasks.steps.context.run_context import StopToken


@dataclass(frozen=True, slots=True)
class AbandonedRun:
    """A run without an end that can change machines and that no process executes.

    Attributes:
        holder: the last holder of the run lease; None if there was none.
        since: when the run lease ended.
        finalize_reason: why the run is only finalized; "" if it is resumed.
        suspension: the suspension of the run; a person may resume it until its window is over.
    """

    run: RunInfo
    holder: LeaseHolder | None
    since: datetime
    finalize_reason: str
    suspension: Suspension | None = None

    @property
    def wait_reason(self) -> str:
        """Why the run is not recovered now: it is suspended, and a person may resume it. "" otherwise."""
        suspension = self.suspension
        if self.finalize_reason or suspension is None or not suspension.is_complete:
            return ""
        until = f" until {self.run.window.end:%Y-%m-%d %H:%M} UTC" if self.run.window is not None else ""
        return f"left alone: {suspension.reason} at {suspension.at:%Y-%m-%d %H:%M} UTC, and may be resumed{until}"

    @property
    def planned_action(self) -> str:
        """What recovery does with the run, as text."""
        if self.finalize_reason:
            return f"finalized: {self.finalize_reason}"
        if self.suspension is not None:
            return self.wait_reason or f"stopped to the end: {self.suspension.reason}"
        return "resumed"

    def signal_stop(self, stop_token: StopToken) -> None:
        """Stop or suspend the token of the process that recovers this run, if nothing more may begin."""
        if self.finalize_reason:
            stop_token.request_stop(self.finalize_reason)
        elif self.suspension is not None:
            stop_token.request_suspension(self.suspension.reason)


def find_abandoned_runs(records_url: str | None = None, *, clock: Clock | None = None) -> tuple[AbandonedRun, ...]:
    """Return the abandoned runs, the oldest first.

    Suspended runs are included: see ``AbandonedRun.wait_reason``. Runs that only read machines (assessments, plans) are
    not: they change no machine.

    Args:
        records_url: the URL of the records; None: the default.
        clock: the clock, to decide which windows are over.

    Raises:
        RecordsError: the records can't be read.
    """
    with open_records(records_url) as records:
        return read_abandoned_runs(History(records), records.leases, (clock or SystemClock()).now())


def read_abandoned_runs(history: History, leases: SqlLeases, now: datetime) -> tuple[AbandonedRun, ...]:
    """Return the abandoned runs of open records: see ``find_abandoned_runs``."""
    runs = [(history.find_run(leaseless_run.run_id), leaseless_run) for leaseless_run in leases.find_leaseless_runs()]
    return tuple(
        _build_abandoned_run(history, run, leases.find_lease(run.id), each.holder, each.since, now)
        for run, each in runs
        if run.may_change_machines
    )


def _build_abandoned_run(
    history: History,
    run: RunInfo,
    lease: LeaseStatus | None,
    holder: LeaseHolder | None,
    since: datetime,
    now: datetime,
) -> AbandonedRun:
    return AbandonedRun(
        run, holder, since, find_finalize_reason(run, lease, now), find_suspension(history.read_journal(run.id))
    )


def check_abandoned(history: History, leases: SqlLeases, run_id: str, now: datetime) -> AbandonedRun | str:
    """Return a run in its present state if it is abandoned; otherwise the reason why it is not, as text."""
    run = history.find_run(run_id)
    lease = leases.find_lease(run.id)
    if run.state not in UNFINISHED_RUN_STATES:
        return f"run {run.id} is over: {run.state}"
    if lease is not None and lease.is_held:
        return f"run {run.id} is executed by {lease.holder}"
    since = lease.until if lease is not None and lease.until is not None else run.started_at
    return _build_abandoned_run(history, run, lease, lease.holder if lease is not None else None, since, now)


def find_finalize_reason(run: RunInfo, lease: LeaseStatus | None, now: datetime) -> str:
    """Return why an automatic recovery may begin nothing more in a run, or "". Pure."""
    if lease is not None and lease.stop is not None:
        return f"{lease.stop.reason} ({lease.stop.who})"
    if run.window is not None and now >= run.window.end:
        return f"its window was over at {run.window.end:%Y-%m-%d %H:%M} UTC"
    if run.state is OperationState.UNKNOWN:
        return f"it was left: {run.message}" if run.message else "it was left"
    return ""
