"""Whether the plan of a run waits for somebody's approval."""

from typing import Final

from flows.approval.answers import describe_approval
from tasks.domain.rows.runs import RunRow
from tasks.records.approvals import Approval, ApprovalDecision, SqlApprovals
from tasks.records.storage.database import Database

APPROVED_KINDS: Final = ("patch", "stage")


def describe_open_approval(database: Database, line: RunRow) -> str:
    """Return that the plan of an unfinished run waits for approval, and until when; "" if nobody can decide now.

    Raises:
        RecordsError: the records can't be read.
    """
    approvals = SqlApprovals(database)
    approval = None if line.is_over else approvals.find_approval(line.run_id)
    return describe_approval(approval, line.zone or "UTC") if approval and can_decide(approvals, approval) else ""


def can_decide(approvals: SqlApprovals, approval: Approval) -> bool:
    """Return whether a person can approve or reject now.

    Raises:
        RecordsError: the records can't be read.
    """
    return approval.decision is ApprovalDecision.WAITING and approval.expires_at > approvals.read_current_time()
