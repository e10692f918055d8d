"""Forgetting what is older than its owner wants to keep. Nothing is ever forgotten unasked."""

from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import ColumnElement, Connection, Table, delete, func, select

from tasks.records import schema
from tasks.records.sql import SqlRecords

_OF_RUNS = (
    schema.outcomes,
    schema.journal,
    schema.job_outputs,
    schema.run_plans,
    schema.leases,
    schema.stop_requests,
    schema.approvals,
)


@dataclass(frozen=True, slots=True)
class Forgotten:
    """How much was forgotten."""

    runs: int
    assessments: int


def forget(records: SqlRecords, before: datetime) -> Forgotten:
    """Delete runs that began before that moment, with all that belongs to them, and assessments made before it.

    Kept, however old: each machine's newest assessment and its newest one with an answer, and what was learned.

    Args:
        records: where.
        before: aware.

    Raises:
        RecordsError: nothing was deleted then.
    """
    runs, assessments = schema.runs, schema.assessments
    old = select(runs.c.id).where(runs.c.started_at < before)
    with records.database.writing("forget old runs") as connection:
        for table in _OF_RUNS:
            connection.execute(delete(table).where(table.c.run_id.in_(old)))
        gone = _delete(connection, runs, runs.c.started_at < before)
        _delete(connection, schema.occurrences, schema.occurrences.c.starts_at < before)
        same = assessments.alias("same")
        newest = select(func.max(same.c.at)).where(same.c.machine == assessments.c.machine)
        superseded = (
            (assessments.c.at < before)
            & (assessments.c.at < newest.scalar_subquery())
            & (assessments.c.at != func.coalesce(newest.where(same.c.known).scalar_subquery(), before))
        )
        return Forgotten(gone, _delete(connection, assessments, superseded))


def _delete(connection: Connection, table: Table, where: ColumnElement[bool]) -> int:
    return connection.execute(delete(table).where(where)).rowcount
