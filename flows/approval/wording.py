"""Sentences about approvals: who decided what, and when, and why a person may not decide. Pure."""

from datetime import datetime

from flows.request.patch_request import PatchRequest
from tasks.records.approvals import Approval, ApprovalDecision
from tasks.reporting.formatting import load_zone_or_utc
from tasks.rules.calendar.time_format import format_time_with_zone
from tasks.rules.runs.approval import is_starter_known


def format_person(who: str, login: str = "") -> str:
    """Return a person's name for the records. Pure."""
    who, login = who.strip(), login.strip()
    return f"{who} (login {login})" if who and login and login != who else who or login


def describe_approval(approval: Approval, zone: str) -> str:
    """Return a decision in one sentence, for reports. Pure."""
    remark = f": {approval.remark}" if approval.remark else ""
    when = format_moment(approval.decided_at or approval.expires_at, zone)
    match approval.decision:
        case ApprovalDecision.APPROVED | ApprovalDecision.REJECTED:
            return f"{approval.decision} by {approval.who} on {when}{remark}"
        case ApprovalDecision.EXPIRED:
            expired = format_moment(approval.expires_at, zone)
            return f"not approved: {approval.remark}" if approval.remark else f"no approval until {expired}"
        case ApprovalDecision.WAITING:
            return f"waits for approval until {format_moment(approval.expires_at, zone)}"


def format_moment(at: datetime, zone: str) -> str:
    """Return a time as text: "2026-11-21 02:45 CET". Pure."""
    local = at.replace(microsecond=0).astimezone(load_zone_or_utc(zone))
    return f"{local:%Y-%m-%d} {format_time_with_zone(local)}"


def find_approval_objection(
    request: PatchRequest, started_by: str, *names: str, answer: ApprovalDecision = ApprovalDecision.APPROVED
) -> str:
    """Return why a person with these names may not decide on a run, or "". Pure."""
    if not any(name.strip() for name in names):
        return "a decision needs the name of a person"
    if answer is ApprovalDecision.APPROVED and (why := find_approval_deadlock(request, started_by)):
        return why
    known = started_by.strip().casefold()
    own = known and known in {name.strip().casefold() for name in names}
    if request.approval.not_by_starter and own and answer is ApprovalDecision.APPROVED:
        return f"{started_by} started it and may not approve it"
    return ""


def find_approval_deadlock(request: PatchRequest, started_by: str) -> str:
    """Return why no person can approve a run, or "". Pure."""
    if not request.approval.not_by_starter or is_starter_known(started_by):
        return ""
    by = f" (only {started_by!r})" if started_by.strip() else ""
    return (
        f"it is not known who started it{by}, and the starter may not approve it, so no approval is possible. "
        "Start it with fleetpatch patch, let its schedule start it, or ask for it without not_by_starter"
    )
