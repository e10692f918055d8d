"""Sentences about approvals: who decided what, and when. Pure."""

from datetime import datetime

from tasks.records.approvals import Approval, ApprovalDecision
from tasks.reporting.formatting import load_zone_or_utc
from tasks.rules.calendar.time_format import format_time_with_zone


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
