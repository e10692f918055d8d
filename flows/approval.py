"""Approving a run: who may, and what stands. Without Prefect: the records decide, wherever an answer comes from.

from flows.approval import approve_run, reject_run, waiting_runs

for each in waiting_runs():
    print(each.run.id, each.approval.expires_at, sum(len(plan.chosen) for plan in each.plans))
    if all(len(plan.chosen) <= 20 for plan in each.plans):
        approve_run(each.run.id, "anna", "few updates for each machine", plan=each.approval.digest)
"""

from dataclasses import dataclass
from datetime import datetime

from flows.past import request_of
from flows.request import PatchRequest
from tasks.errors import RecordsError, RecordsUnavailable, RequestError
from tasks.model import Plan, RunInfo
from tasks.records.approvals import Answer, Approval, SqlApprovals
from tasks.records.columns import storable
from tasks.records.history import History
from tasks.records.opening import open_records
from tasks.records.sql import SqlRecords
from tasks.reporting.text import one_line, zone_or_utc
from tasks.rules.approval import digest, shown, starter_is_known
from tasks.rules.window import say_time
from tasks.seams.clock import Clock
from tasks.states import OPEN

NAME_LENGTH, REMARK_LENGTH = 200, 2000


@dataclass(frozen=True, slots=True)
class WaitingRun:
    """A run that waits for a person, and what it would do."""

    run: RunInfo
    approval: Approval
    plans: tuple[Plan, ...]


def approve_run(
    run_id: str,
    who: str,
    remark: str = "",
    *,
    plan: str = "",
    login: str = "",
    records_url: str | None = None,
    clock: Clock | None = None,
) -> Approval:
    """Let a waiting run go on.

    Args:
        run_id: the run's id, or a beginning of it that no other run has.
        who: whoever approves, for the records and the report.
        remark: their words.
        plan: the digest of the plan that they have seen, or its beginning; "" for the one that is recorded.
        login: under which name they are logged in, when that is another one.
        records_url: where runs are remembered; None: as usual.
        clock: judges times; the database's by default.

    Returns:
        What stands now.

    Raises:
        RequestError: there is no such run, it doesn't wait for approval (any more), its plan is another one, or this
            person may not approve it.
        RecordsError: the records can't be used.
    """
    return _decide(run_id, Answer.APPROVED, (who, login), remark, plan, records_url, clock)


def reject_run(
    run_id: str,
    who: str,
    remark: str = "",
    *,
    plan: str = "",
    login: str = "",
    records_url: str | None = None,
    clock: Clock | None = None,
) -> Approval:
    """Have a waiting run end without beginning anything. See ``approve_run``; whoever started it may do this."""
    return _decide(run_id, Answer.REJECTED, (who, login), remark, plan, records_url, clock)


def waiting_runs(records_url: str | None = None, *, clock: Clock | None = None) -> tuple[WaitingRun, ...]:
    """Return the runs that wait for a person; what expires first comes first.

    Raises:
        RecordsError: the records can't be read.
    """
    with open_records(records_url) as records:
        history = History(records)
        found = SqlApprovals(records.database, clock).waiting()
        reports = [history.report(each.run_id) for each in found]
        return tuple(WaitingRun(r.run, each, r.plans) for each, r in zip(found, reports, strict=True))


def approval_of(run_id: str, records_url: str | None = None) -> Approval | None:
    """Return what stands of a run's approval; None when it was never asked for.

    Args:
        run_id: its whole id.
        records_url: where runs are remembered; None: as usual.

    Raises:
        RecordsError: the records can't be read.
    """
    with open_records(records_url) as records:
        return SqlApprovals(records.database).of(run_id)


def _decide(
    run_id: str,
    answer: Answer,
    names: tuple[str, str],
    remark: str,
    plan: str,
    records_url: str | None,
    clock: Clock | None,
) -> Approval:
    with open_records(records_url) as records:
        approvals = SqlApprovals(records.database, clock)
        run = _run(records, run_id)
        standing = _still_waiting(run, approvals.of(run.id), approvals.now())
        if plan or answer is Answer.APPROVED:
            _check_plan(records, standing, plan)
        why = objection(request_of(run), run.started_by, *names, answer=answer)
        if why:
            raise RequestError(f"run {run.id}: {why}", hint="Let somebody else decide.")
        who = one_line(named(*names), NAME_LENGTH)
        decided = approvals.decide(run.id, standing.digest, answer, who, one_line(remark, REMARK_LENGTH))
        if decided is None or (decided.answer, decided.who) != (answer, storable(who)):
            _still_waiting(run, decided, approvals.now())  # somebody was quicker: it says who
            raise RequestError(f"the plan of run {run.id} has just been replaced", hint="Look at the new one first.")
        return decided


def named(who: str, login: str = "") -> str:
    """Return how a person stands in the records. Pure."""
    who, login = who.strip(), login.strip()
    return f"{who} (login {login})" if who and login and login != who else who or login


def objection(request: PatchRequest, started_by: str, *names: str, answer: Answer = Answer.APPROVED) -> str:
    """Return why these names of one person can't decide on a run, or "". Pure."""
    if not any(name.strip() for name in names):
        return "whoever decides has to give a name"
    if answer is Answer.APPROVED and (why := nobody_may_approve(request, started_by)):
        return why
    known = started_by.strip().casefold()
    own = known and known in {name.strip().casefold() for name in names}
    if request.approval.not_by_starter and own and answer is Answer.APPROVED:
        return f"{started_by} started it, and whoever starts a run may not approve it"
    return ""


def nobody_may_approve(request: PatchRequest, started_by: str) -> str:
    """Return why nobody can approve a run, whoever they are, or "". Pure."""
    if not request.approval.not_by_starter or starter_is_known(started_by):
        return ""
    by = f" (only {started_by!r})" if started_by.strip() else ""
    return (
        f"it is not known who started it{by}, and whoever did may not approve it, so nobody can. Start it with "
        "fleetpatch patch, let its schedule start it, or ask for it without not_by_starter"
    )


def said(approval: Approval, zone: str) -> str:
    """Return what was decided in a sentence, for reports. Pure."""
    remark = f": {approval.remark}" if approval.remark else ""
    when = moment_said(approval.decided_at or approval.expires_at, zone)
    match approval.answer:
        case Answer.APPROVED | Answer.REJECTED:
            return f"{approval.answer} by {approval.who} on {when}{remark}"
        case Answer.EXPIRED:
            expired = moment_said(approval.expires_at, zone)
            return f"not approved: {approval.remark}" if approval.remark else f"nobody approved it until {expired}"
        case Answer.WAITING:
            return f"waits for approval until {moment_said(approval.expires_at, zone)}"


def moment_said(at: datetime, zone: str) -> str:
    """Return a moment as people read it: "2026-11-21 02:45 CET". Pure."""
    local = at.replace(microsecond=0).astimezone(zone_or_utc(zone))
    return f"{local:%Y-%m-%d} {say_time(local)}"


def _run(records: SqlRecords, run_id: str) -> RunInfo:
    try:
        run = History(records).run(run_id)
    except RecordsUnavailable:
        raise
    except RecordsError as error:
        raise RequestError(error.message, hint="`fleetpatch approvals` lists what waits.") from error
    if run.kind != "patch":
        raise RequestError(f"run {run.id} only looks at machines: there is nothing to approve")
    return run


def _still_waiting(run: RunInfo, approval: Approval | None, now: datetime) -> Approval:
    """Return an approval that may still be decided on.

    Raises:
        RequestError: it may not, and why.
    """
    zone = run.window.zone if run.window else "UTC"
    if approval is None:
        raise RequestError(
            f"run {run.id} does not wait for approval",
            hint="It needs none, or has not come to its plan yet: `fleetpatch approvals` lists what waits.",
        )
    if approval.answer in {Answer.APPROVED, Answer.REJECTED}:
        raise RequestError(f"run {run.id} was already {said(approval, zone)}", hint="The first answer stands.")
    if approval.answer is Answer.EXPIRED or now >= approval.expires_at:
        over = f": {approval.remark}" if approval.remark else ""
        raise RequestError(
            f"the approval of run {run.id} expired on {moment_said(approval.expires_at, zone)}{over}",
            hint="Start a new run: it plans for what is pending now.",
        )
    if run.state not in OPEN:
        raise RequestError(f"run {run.id} is over: {run.state}", hint="Start a new run.")
    return approval


def _check_plan(records: SqlRecords, approval: Approval, seen: str) -> None:
    """Refuse to decide on another plan than the one that was put up.

    Raises:
        RequestError: the plan that is recorded, or that the person has seen, is another one.
    """
    recorded = digest(shown(History(records).report(approval.run_id).plans))
    if recorded != approval.digest:
        raise RequestError(
            f"the recorded plan of run {approval.run_id} is not the one that was put up for approval",
            hint=f"Look at it (fleetpatch show {approval.run_id}), reject it and start a new run.",
        )
    if seen and not recorded.startswith(seen.strip().lower()):
        raise RequestError(
            f"the plan of run {approval.run_id} is {recorded[:12]}, and not {seen}",
            hint=f"Look at it again: fleetpatch approvals {approval.run_id}",
        )
