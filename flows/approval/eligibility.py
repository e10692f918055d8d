"""Whether a person may approve or reject a run, and why not. Pure."""

from flows.request.patch_request import PatchRequest
from tasks.records.approvals import ApprovalDecision
from tasks.rules.runs.approval import is_starter_known


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
