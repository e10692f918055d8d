"""Approve or reject a run, and find the runs that wait for approval. No Prefect: the decision is in the records.

for each in find_waiting_runs():
    print(each.run.id, each.approval.expires_at, sum(len(plan.chosen) for plan in each.plans))
    if all(len(plan.chosen) <= 20 for plan in each.plans):
        approve_run(each.run.id, "anna", "few updates for each machine", plan=each.approval.digest)
"""

from datetime import datetime

from flows.approval.answers import (
    MAX_NAME_LENGTH,
    MAX_REMARK_LENGTH,
    describe_approval,
    find_approval_objection,
    format_moment,
    format_person,
)
from flows.engine.resume_state import parse_recorded_request
from inventory.data_class import dataclass
from tasks.domain.errors import RecordsError, RecordsUnavailable, RequestError
from tasks.domain.model import MachinePlan, RunInfo
from tasks.domain.protocols.clock import Clock
from tasks.domain.states import UNFINISHED_RUN_STATES
from tasks.records.approvals import Approval, ApprovalDecision, SqlApprovals
from tasks.records.queries.history import History
from tasks.records.setup import open_records
from tasks.records.sql_records import SqlRecords
from tasks.records.storage.column_types import replace_unstorable
from tasks.reports.sanitizing import sanitize_to_one_line
from tasks.rules.runs.approval import compute_report_digest


@dataclass(frozen=True, slots=True)
class WaitingRun:
    """A run that waits for approval, with its plans."""

    run: RunInfo
    approval: Approval
    plans: tuple[MachinePlan, ...]


def approve_run(
    run_id: str,
    who: str,
    remark: str = "",
    *,
    plan: str = "",
    login: str = "",
    roles: frozenset[str] = frozenset(),
    records_url: str | None = None,
    clock: Clock | None = None,
) -> Approval:
    """Approve a run that waits for approval. Return the recorded approval.

    Args:
        run_id: the run's id, or a unique prefix of it.
        who: the name of the person who approves, for the records and the report.
        remark: the person's remark.
        plan: the digest of the plan that the person has read, or a prefix of it; "" for the recorded plan.
        login: the name that a login proves; "" if ``who`` is only claimed.
        roles: the roles of the login at the pages.
        records_url: the URL of the records; None: the default.
        clock: the clock for the expiry; the database's by default.

    Raises:
        RequestError: the run does not exist, it does not wait for approval (any more), its plan is a different one, or
            this person may not approve it.
        RecordsError: the records are not usable.
    """
    return _record_decision(run_id, ApprovalDecision.APPROVED, (who, login), roles, remark, plan, records_url, clock)


def reject_run(
    run_id: str,
    who: str,
    remark: str = "",
    *,
    plan: str = "",
    login: str = "",
    roles: frozenset[str] = frozenset(),
    records_url: str | None = None,
    clock: Clock | None = None,
) -> Approval:
    """Reject a run that waits for approval, so that it begins nothing. See ``approve_run``. Its starter may do it."""
    return _record_decision(run_id, ApprovalDecision.REJECTED, (who, login), roles, remark, plan, records_url, clock)


def find_waiting_runs(records_url: str | None = None, *, clock: Clock | None = None) -> tuple[WaitingRun, ...]:
    """Return the runs that wait for approval, the earliest expiry first.

    Raises:
        RecordsError: the records can't be read.
    """
    with open_records(records_url) as records:
        history = History(records)
        pending_approvals = SqlApprovals(records.database, clock).find_pending_approvals()
        reports = [history.read_report(pending_approval.run_id) for pending_approval in pending_approvals]
        return tuple(
            WaitingRun(r.run, approval, r.plans) for approval, r in zip(pending_approvals, reports, strict=True)
        )


def read_approval(run_id: str, records_url: str | None = None) -> Approval | None:
    """Return the approval of a run; None if no approval was requested.

    Raises:
        RecordsError: the records can't be read.
    """
    with open_records(records_url) as records:
        return SqlApprovals(records.database).find_approval(run_id)


def _record_decision(
    run_id: str,
    answer: ApprovalDecision,
    names: tuple[str, str],
    roles: frozenset[str],
    remark: str,
    plan: str,
    records_url: str | None,
    clock: Clock | None,
) -> Approval:
    with open_records(records_url) as records:
        approvals = SqlApprovals(records.database, clock)
        try:
            run = History(records).find_run(run_id)
        except RecordsUnavailable:
            raise
        except RecordsError as error:
            raise RequestError(error.message, hint="`fleetpatch approvals` lists what waits.") from error
        if run.kind != "patch":
            raise RequestError(f"run {run.id} only looks at machines: there is nothing to approve")
        waiting_approval = _require_waiting(run, approvals.find_approval(run.id), approvals.read_current_time())
        if plan or answer is ApprovalDecision.APPROVED:
            _require_same_plan(records, waiting_approval, plan)
        request = parse_recorded_request(run)
        reason = find_approval_objection(request, run.started_by, *names, answer=answer, login=names[1], roles=roles)
        if reason:
            raise RequestError(f"run {run.id}: {reason}", hint="Ask another person to decide.")
        caller = sanitize_to_one_line(format_person(*names), MAX_NAME_LENGTH)
        decided = approvals.decide(
            run.id, waiting_approval.digest, answer, caller, sanitize_to_one_line(remark, MAX_REMARK_LENGTH)
        )
        if decided is None or (decided.decision, decided.who) != (answer, replace_unstorable(caller)):
            # Another person decided first: the error has the name.
            _require_waiting(run, decided, approvals.read_current_time())
            raise RequestError(f"the plan of run {run.id} has just been replaced", hint="Look at the new one first.")
        return decided


def _require_waiting(run: RunInfo, approval: Approval | None, now: datetime) -> Approval:
    """Return an approval that still waits for a decision. Raise RequestError if it does not wait, with the reason."""
    zone = run.window.zone if run.window else "UTC"
    if approval is None:
        raise RequestError(
            f"run {run.id} does not wait for approval",
            hint="It needs none, or has not come to its plan yet: `fleetpatch approvals` lists what waits.",
        )
    if approval.decision in {ApprovalDecision.APPROVED, ApprovalDecision.REJECTED}:
        raise RequestError(
            f"run {run.id} was already {describe_approval(approval, zone)}", hint="The first answer stands."
        )
    if approval.decision is ApprovalDecision.EXPIRED or now >= approval.expires_at:
        over = f": {approval.remark}" if approval.remark else ""
        raise RequestError(
            f"the approval of run {run.id} expired on {format_moment(approval.expires_at, zone)}{over}",
            hint="Start a new run: it plans for what is pending now.",
        )
    if run.state not in UNFINISHED_RUN_STATES:
        raise RequestError(f"run {run.id} is over: {run.state}", hint="Start a new run.")
    return approval


def _require_same_plan(records: SqlRecords, approval: Approval, seen_digest: str) -> None:
    """Refuse a decision on a plan that differs from the one of the approval.

    Raises:
        RequestError: the recorded plan, or the plan that the person has read, is a different one.
    """
    recorded = compute_report_digest(History(records).read_report(approval.run_id))
    if recorded != approval.digest:
        raise RequestError(
            f"the recorded plan of run {approval.run_id} is not the plan that waits for approval",
            hint=f"Look at it (fleetpatch show {approval.run_id}), reject it and start a new run.",
        )
    if seen_digest and not recorded.startswith(seen_digest.strip().lower()):
        raise RequestError(
            f"the plan of run {approval.run_id} is {recorded[:12]}, and not {seen_digest}",
            hint=f"Look at it again: fleetpatch approvals {approval.run_id}",
        )
