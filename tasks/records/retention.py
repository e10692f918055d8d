"""Forgetting what is older than its owner wants to keep.

A new history keeps what only looked at machines for some months, and what was done to them for years. A history that an
earlier version has begun keeps everything until its owner says otherwise.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final

from sqlalchemy import Connection, delete, func, insert, select

from tasks.records import schema
from tasks.records.sql import SqlRecords
from tasks.rules.retention import Retention

_OF_RUNS = (
    schema.outcomes,
    schema.journal,
    schema.job_outputs,
    schema.run_plans,
    schema.machine_plans,
    schema.leases,
    schema.stop_requests,
    schema.approvals,
)
_LOOKING: Final = ("assess", "plan")
"""Kinds of runs that change no machine."""
_RUNS, _ASSESSMENTS = "runs", "assessments"
_PORTION = 500  # assessments in one transaction, so that a run's journal never waits for long
_EVERY = timedelta(hours=20)


@dataclass(frozen=True, slots=True)
class Forgotten:
    """How much was forgotten."""

    runs: int = 0
    assessments: int = 0


def forget(records: SqlRecords, before: datetime) -> Forgotten:
    """Delete runs that began before that moment, with all that belongs to them, and assessments made before it.

    Kept, however old: each machine's newest assessment and its newest one with an answer, what was learned, and a run
    that a process carries. A run goes whole or not at all; others write in between.

    Args:
        records: where.
        before: aware.

    Raises:
        RecordsError: what was not deleted by then is still there.
    """
    runs = _forget_runs(records, before, None, _always)
    return Forgotten(runs, _forget_assessments(records, before, _always))


def retention_of(records: SqlRecords) -> Retention:
    """Return how long this history is kept.

    Raises:
        RecordsError: it can't be read.
    """
    table = schema.retention
    with records.database.reading("read how long history is kept") as connection:
        days = dict(connection.execute(select(table.c.what, table.c.days)).tuples().all())
    return Retention(assessments_days=days.get(_ASSESSMENTS), runs_days=days.get(_RUNS))


def keep(records: SqlRecords, retention: Retention) -> None:
    """Store how long this history is kept from now on. What is older goes when a run ends.

    Raises:
        RecordsError: it can't be stored.
    """
    with records.database.writing("store how long history is kept") as connection:
        write_retention(connection, retention)


def write_retention(connection: Connection, retention: Retention) -> None:
    """Put it in the table; its last time of being applied is forgotten with what was there."""
    table = schema.retention
    connection.execute(delete(table))
    rows = [
        {"what": _ASSESSMENTS, "days": retention.assessments_days},
        {"what": _RUNS, "days": retention.runs_days},
    ]
    connection.execute(insert(table), rows)


def apply_retention(records: SqlRecords, now: datetime, may_go_on: Callable[[], bool]) -> Forgotten:
    """Forget what this history keeps no longer, at most once a day.

    Args:
        records: where.
        now: aware.
        may_go_on: asked before each run and each portion of assessments; what is left then goes another day.

    Raises:
        RecordsError: what was not deleted by then is still there.
    """
    kept, table = retention_of(records), schema.retention
    with records.database.reading("read when history was last tidied") as connection:
        applied = connection.execute(select(func.max(table.c.applied_at))).scalar_one()
    if kept.is_forever or (applied is not None and now - applied < _EVERY):
        return Forgotten()
    runs = assessments = 0
    if kept.runs_days is not None:
        runs += _forget_runs(records, now - timedelta(days=kept.runs_days), None, may_go_on)
    if kept.assessments_days is not None:
        before = now - timedelta(days=kept.assessments_days)
        runs += _forget_runs(records, before, _LOOKING, may_go_on)
        assessments += _forget_assessments(records, before, may_go_on)
    if may_go_on():
        with records.database.writing("note that history was tidied") as connection:
            connection.execute(table.update().values(applied_at=now))
    return Forgotten(runs, assessments)


def _always() -> bool:
    return True


def _forget_runs(
    records: SqlRecords, before: datetime, kinds: Sequence[str] | None, may_go_on: Callable[[], bool]
) -> int:
    runs, windows = schema.runs, schema.occurrences
    old = select(runs.c.id).where(runs.c.started_at < before).order_by(runs.c.started_at)
    if kinds is not None:
        old = old.where(runs.c.kind.in_(kinds))
    with records.database.reading("look for old runs") as connection:
        found = connection.execute(old).scalars().all()
    gone = 0
    for run_id in found:
        if not may_go_on():
            return gone
        lease = records.leases.lease(run_id)
        if lease is not None and lease.held:  # it was left long ago, and is settled now; or it waits for its window
            continue
        with records.database.writing("forget an old run") as connection:
            for table in _OF_RUNS:
                connection.execute(delete(table).where(table.c.run_id == run_id))
            gone += connection.execute(delete(runs).where(runs.c.id == run_id)).rowcount
    if kinds is None:
        with records.database.writing("forget old windows") as connection:
            connection.execute(delete(windows).where(windows.c.starts_at < before))
    return gone


def _forget_assessments(records: SqlRecords, before: datetime, may_go_on: Callable[[], bool]) -> int:
    table = schema.assessments
    same = table.alias("same")
    newest = select(func.max(same.c.at)).where(same.c.machine == table.c.machine)
    superseded = (
        (table.c.at < before)
        & (table.c.at < newest.scalar_subquery())
        & (table.c.at != func.coalesce(newest.where(same.c.known).scalar_subquery(), before))
    )
    with records.database.reading("look for old assessments") as connection:
        found = connection.execute(select(table.c.number).where(superseded).order_by(table.c.number)).scalars().all()
    gone = 0
    for start in range(0, len(found), _PORTION):
        if not may_go_on():
            break
        numbers = found[start : start + _PORTION]
        with records.database.writing("forget old assessments") as connection:
            gone += connection.execute(delete(table).where(table.c.number.in_(numbers))).rowcount
    return gone
