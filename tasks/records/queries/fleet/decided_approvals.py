"""Reads the approvals that were decided lately, or expired, with their runs."""

from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import func, or_, select

from tasks.domain.model import RunInfo
from tasks.records.approvals import Approval, ApprovalDecision
from tasks.records.encoding.codec import decode
from tasks.records.schema import approvals, runs
from tasks.records.storage.database import Database


@dataclass(frozen=True, slots=True)
class DecidedApproval:
    """An approval that nobody can decide any more, and its run. ``run`` is None if its row was deleted."""

    approval: Approval
    run: RunInfo | None


def read_decided_approvals(database: Database, now: datetime, limit: int = 50) -> tuple[DecidedApproval, ...]:
    """Return the newest approvals with a decision, and those that expired without one, newest first.

    Args:
        database: the database of the records.
        now: the time of the clock that decides when approvals expire.
        limit: maximum number.

    Raises:
        RecordsError: the records can't be read.
    """
    table = approvals
    moment = func.coalesce(table.c.decided_at, table.c.expires_at)
    query = (
        select(table, runs.c.document)
        .join_from(table, runs, table.c.run_id == runs.c.id, isouter=True)
        .where(or_(table.c.decision != ApprovalDecision.WAITING.value, table.c.expires_at <= now))
        .order_by(moment.desc(), table.c.run_id)
        .limit(limit)
    )
    with database.begin_read("list the last decisions") as connection:
        rows = connection.execute(query).all()
    return tuple(
        DecidedApproval(
            Approval(
                row.run_id,
                row.digest,
                row.asked_at,
                row.expires_at,
                ApprovalDecision(row.decision or ApprovalDecision.EXPIRED),
                row.who,
                row.remark,
                row.decided_at,
            ),
            decode(RunInfo, row.document) if row.document is not None else None,
        )
        for row in rows
    )
