"""Answers to approvals: what is asked, where answers come from, who may give them, and the sentences about them."""

from collections.abc import Callable, Sequence
from datetime import datetime
from typing import Protocol

from flows.request.patch_request import PatchRequest
from inventory.data_class import dataclass
from tasks.domain.model import RunReport
from tasks.records.approvals import Approval, ApprovalDecision
from tasks.reports.formatting import load_zone_or_utc
from tasks.rules.calendar.local_time import format_time_with_zone
from tasks.rules.policy.decision import is_approver
from tasks.rules.policy.login_names import fold_widely
from tasks.rules.runs.approval import is_starter_known
from tasks.steps.context.run_control import StopToken


def format_person(who: str, login: str = "") -> str:
    """Return a person's name for the records. Pure."""
    who, login = who.strip(), login.strip()
    return f"{who} (login {login})" if who and login and login != who else who or login


def describe_approval(approval: Approval, zone: str) -> str:
    """Return a decision in one sentence, for reports. Pure."""
    remark = f": {approval.remark}" if approval.remark else ""
    decided_text = format_moment(approval.decided_at or approval.expires_at, zone)
    match approval.decision:
        case ApprovalDecision.APPROVED | ApprovalDecision.REJECTED:
            return f"{approval.decision} by {approval.who} on {decided_text}{remark}"
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
    request: PatchRequest,
    started_by: str,
    *names: str,
    answer: ApprovalDecision = ApprovalDecision.APPROVED,
    login: str = "",
    roles: frozenset[str] = frozenset(),
) -> str:
    """Return why a person with these names may not decide on a run, or "". Pure.

    Anybody may reject. ``names`` are what the person is called, claimed or not, and ``login`` is the name that a login
    proves.
    """
    if not any(name.strip() for name in names):
        return "a decision needs the name of a person"
    if answer is ApprovalDecision.APPROVED and (reason := find_approval_deadlock(request, started_by)):
        return reason
    starter = fold_widely(started_by)
    is_starter = starter and starter in {fold_widely(name) for name in names}
    if request.approval.not_by_starter and is_starter and answer is ApprovalDecision.APPROVED:
        return f"{started_by} started it and may not approve it"
    if answer is ApprovalDecision.APPROVED:
        return _find_missing_approver(request.approval.by, login, roles)
    return ""


def _find_missing_approver(by: Sequence[str], login: str, roles: frozenset[str]) -> str:
    for entry in by:
        if not login.strip():
            return "a name that was only typed does not count for this run: approve it in the pages or with the command"
        if not is_approver(frozenset(word.strip() for word in entry.split("|")), login, roles):
            return f"{login} is not among those who may approve it: {entry.replace('|', ', ')}"
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


@dataclass(frozen=True, slots=True)
class ApprovalAnswer:
    """A person's answer to an approval."""

    is_approval: bool
    who: str
    remark: str = ""


class AnswerSource(Protocol):
    """A source of answers other than the records. Its methods don't block and don't raise."""

    def read_answer(self) -> ApprovalAnswer | None:
        """Return an answer, once; None while there is none."""
        ...

    def reject_answer(self, why: str) -> None:
        """Refuse the answer: show the reason, and ask again."""
        ...


class NoAnswerSource:
    """The source if only the records can hold an answer."""

    def read_answer(self) -> ApprovalAnswer | None:
        """Return None: there is never an answer."""
        return None

    def reject_answer(self, why: str) -> None:
        """Do nothing: there is no answer to refuse."""


@dataclass(frozen=True, slots=True)
class PendingApproval:
    """The approval that a person is asked for."""

    planned: RunReport
    digest: str
    expires_at: datetime  # when it expires, by the run's clock


ApprovalPresenter = Callable[[PendingApproval, StopToken, Callable[[AnswerSource], Approval | None]], Approval | None]
"""Shows an approval to people, and calls the last argument once to wait for the decision."""


MAX_NAME_LENGTH, MAX_REMARK_LENGTH = 200, 2000
