"""Runs without an end: how they are read, which of them no process executes, and what recovery may do. No Prefect.

``judge_run`` is the one judgement: reconcile, resume-fleet, the hooks of flows, the command and doctor all act on it.
"""

import contextlib
import logging
from collections.abc import Callable
from datetime import datetime

from flows.engine.interruption import Suspension, find_suspension
from flows.engine.run_lease import LEASE_SECONDS
from flows.ports.audit import find_flow_runs_of_run
from inventory.data_class import dataclass
from tasks.domain.errors import RecordsError
from tasks.domain.model import RunInfo
from tasks.domain.protocols.clock import Clock, SystemClock
from tasks.domain.protocols.leases import LeaseHolder, LeaseStatus
from tasks.domain.run_errors import LeaseHeld
from tasks.domain.states import UNFINISHED_RUN_STATES, OperationState
from tasks.records.audit.log import SqlAuditLog
from tasks.records.leases import SqlLeases
from tasks.records.queries.history import History
from tasks.records.setup import open_records
from tasks.records.sql_records import SqlRecords
from tasks.steps.context.run_control import StopToken

logger = logging.getLogger(__name__)

LEASE_POLL_SECONDS = 1.0  # how often a lease is read while something waits for it
LEASE_GRACE_SECONDS = 30.0  # a holder that is alive has renewed its lease by then, or has ended


@dataclass(frozen=True, slots=True)
class AbandonedRun:
    """A run without an end that can change machines and that no process executes."""

    run: RunInfo
    holder: LeaseHolder | None  # the last holder of the run lease; None if there was none
    since: datetime  # when the run lease ended
    finalize_reason: str  # why the run is only finalized; "" if it is resumed
    suspension: Suspension | None = None  # the suspension of the run; a person may resume it until its window is over

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


def judge_run(
    run: RunInfo, lease: LeaseStatus | None, suspension: Suspension | None, now: datetime
) -> AbandonedRun | str:
    """Return a run with what recovery may do with it; or, as text, why recovery does nothing with it. Pure."""
    if not run.may_change_machines:
        return f"run {run.id} only looks at machines"
    if run.state not in UNFINISHED_RUN_STATES:
        return f"run {run.id} is over: {run.state}"
    if lease is not None and lease.is_held:
        return f"run {run.id} is executed by {lease.holder}"
    return describe_left_run(run, lease, suspension, now)


def describe_left_run(
    run: RunInfo, lease: LeaseStatus | None, suspension: Suspension | None, now: datetime
) -> AbandonedRun:
    """Return a run whose process has ended, and what recovery may do with it once its lease is over. Pure."""
    holder = lease.holder if lease is not None else None
    since = lease.until if lease is not None and lease.until is not None else run.started_at
    return AbandonedRun(run, holder, since, find_finalize_reason(run, lease, now), suspension)


def find_finalize_reason(run: RunInfo, lease: LeaseStatus | None, now: datetime) -> str:
    """Return why an automatic recovery may begin nothing more in a run, or "". Pure."""
    if lease is not None and lease.stop is not None:
        return f"{lease.stop.reason} ({lease.stop.asker})"
    if run.window is not None and now >= run.window.end:
        return f"its window was over at {run.window.end:%Y-%m-%d %H:%M} UTC"
    if run.state is OperationState.UNKNOWN:
        return f"it was left: {run.message}" if run.message else "it was left"
    return ""


def read_and_judge_run(history: History, leases: SqlLeases, run_id: str, now: datetime) -> AbandonedRun | str:
    """Read a run, its lease and its journal, and judge it: see ``judge_run``."""
    run = history.find_run(run_id)
    return judge_run(run, leases.find_lease(run.id), find_suspension(history.read_journal(run.id)), now)


def find_abandoned_run(run_id: str, records_url: str | None = None) -> AbandonedRun | str:
    """Return one run in its present state if it is abandoned; otherwise the reason why it is not, as text.

    Raises:
        RecordsError: the run does not exist, or the records can't be read.
    """
    with open_records(records_url) as records:
        return read_and_judge_run(History(records), records.leases, run_id, SystemClock().now())


def find_abandoned_runs(records_url: str | None = None, *, clock: Clock | None = None) -> tuple[AbandonedRun, ...]:
    """Return the abandoned runs, the oldest first.

    Suspended runs are included: see ``AbandonedRun.wait_reason``. Runs that only read machines (assessments, plans) are
    not: they change no machine.

    ``clock``: the clock, to decide which windows are over.

    Raises:
        RecordsError: the records can't be read.
    """
    now = (clock or SystemClock()).now()
    with open_records(records_url) as records:
        history, leases = History(records), records.leases
        judged = [read_and_judge_run(history, leases, left.run_id, now) for left in leases.find_leaseless_runs()]
    return tuple(run for run in judged if isinstance(run, AbandonedRun))


def find_run_of_flow_run(records: SqlRecords, run_name: str, flow_run_id: str) -> RunInfo | None:
    """Return the run that a flow run has begun or resumed; None if the records have none.

    A flow run that resumes is in the audit log before anything of the run begins.

    ``run_name``: the id of the run, or of its flow run.
    ``flow_run_id``: the flow run that must have begun or resumed the run; "": any.
    """
    history = History(records)
    run = history.find_run_by_flow_run(run_name)
    if run is None:
        with contextlib.suppress(RecordsError):
            run = history.find_run(run_name)
    if run is None or flow_run_id in {"", run.flow_run_id}:
        return run
    return run if flow_run_id in find_flow_runs_of_run(SqlAuditLog(records.database), run.id) else None


def wait_for_lease_expiry(
    leases: SqlLeases,
    run_id: str,
    *,
    print_message: Callable[[str], None] = logger.info,
    wait_for_live_holder: bool = False,
    seconds: float = LEASE_SECONDS + LEASE_GRACE_SECONDS,
    clock: Clock | None = None,
) -> None:
    """Wait until no process has the run lease, as long as its holder may be dead.

    Args:
        leases: the store of leases.
        run_id: the id of the run.
        print_message: gets the reason for the wait.
        wait_for_live_holder: also wait for a holder that is alive, because it is about to end.
        seconds: the maximum time to wait.
        clock: the clock.

    Raises:
        LeaseHeld: the holder is alive: it has renewed its lease.
        RecordsError: the records can't be read.
    """
    clock = clock or SystemClock()
    began, first = clock.now(), leases.find_lease(run_id)
    lease = first
    while lease is not None and lease.is_held and lease.holder is not None and lease.until is not None:
        renewed = first is not None and (lease.holder, lease.until) != (first.holder, first.until)
        waited = (clock.now() - began).total_seconds()
        if (renewed and not wait_for_live_holder) or waited >= seconds:
            raise LeaseHeld(run_id, holder=lease.holder, until=lease.until)
        if lease is first:
            print_message(f"run {run_id} was last executed by {lease.holder}: waiting until its lease expires")
        clock.sleep(LEASE_POLL_SECONDS)
        lease = leases.find_lease(run_id)
