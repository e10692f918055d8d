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
from tasks.records.sql_records import SqlRecords
from tasks.rules.retention import Retention

_TABLES_BY_RUN = (
    schema.outcomes,
    schema.journal,
    schema.job_outputs,
    schema.run_plans,
    schema.machine_plans,
    schema.leases,
    schema.stop_requests,
    schema.approvals,
)
_READ_ONLY_RUN_KINDS: Final = ("assess", "plan")
"""Kinds of runs that change no machine."""
_RUNS_KEY, _ASSESSMENTS_KEY = "runs", "assessments"
_BATCH_SIZE = 500  # assessments in one transaction, so that a run's journal never waits for long
_APPLY_INTERVAL = timedelta(hours=20)


@dataclass(frozen=True, slots=True)
class PruneResult:
    """How much was forgotten."""

    runs: int = 0
    assessments: int = 0


def prune_history(records: SqlRecords, before: datetime) -> PruneResult:
    """Delete runs that began before that moment, with all that belongs to them, and assessments made before it.

    Kept, however old: each machine's newest assessment and its newest one with an answer, what was learned, and a run
    that a process carries. A run goes whole or not at all; others write in between.

    Args:
        records: where.
        before: aware.

    Raises:
        RecordsError: what was not deleted by then is still there.
    """
    runs = _prune_runs(records, before, None, _always_continue)
    return PruneResult(runs, _prune_assessments(records, before, _always_continue))


forget = prune_history  # the name before the renaming


def read_retention(records: SqlRecords) -> Retention:
    """Return how long this history is kept.

    Raises:
        RecordsError: it can't be read.
    """
    table = schema.retention
    with records.database.begin_read("read how long history is kept") as connection:
        days = dict(connection.execute(select(table.c.what, table.c.days)).tuples().all())
    return Retention(assessments_days=days.get(_ASSESSMENTS_KEY), runs_days=days.get(_RUNS_KEY))


def save_retention(records: SqlRecords, retention: Retention) -> None:
    """Store how long this history is kept from now on. What is older goes when a run ends.

    Raises:
        RecordsError: it can't be stored.
    """
    with records.database.begin_write("store how long history is kept") as connection:
        replace_retention_rows(connection, retention)


def replace_retention_rows(connection: Connection, retention: Retention) -> None:
    """Put it in the table; its last time of being applied is forgotten with what was there."""
    table = schema.retention
    connection.execute(delete(table))
    rows = [
        {"what": _ASSESSMENTS_KEY, "days": retention.assessments_days},
        {"what": _RUNS_KEY, "days": retention.runs_days},
    ]
    connection.execute(insert(table), rows)


def apply_retention(records: SqlRecords, now: datetime, may_continue: Callable[[], bool]) -> PruneResult:
    """Forget what this history keeps no longer, at most once a day.

    Args:
        records: where.
        now: aware.
        may_continue: asked before each run and each portion of assessments; what is left then goes another day.

    Raises:
        RecordsError: what was not deleted by then is still there.
    """
    kept, table = read_retention(records), schema.retention
    with records.database.begin_read("read when history was last tidied") as connection:
        applied = connection.execute(select(func.max(table.c.applied_at))).scalar_one()
    if kept.is_forever or (applied is not None and now - applied < _APPLY_INTERVAL):
        return PruneResult()
    runs = assessments = 0
    if kept.runs_days is not None:
        runs += _prune_runs(records, now - timedelta(days=kept.runs_days), None, may_continue)
    if kept.assessments_days is not None:
        before = now - timedelta(days=kept.assessments_days)
        runs += _prune_runs(records, before, _READ_ONLY_RUN_KINDS, may_continue)
        assessments += _prune_assessments(records, before, may_continue)
    if may_continue():
        with records.database.begin_write("note that history was tidied") as connection:
            connection.execute(table.update().values(applied_at=now))
    return PruneResult(runs, assessments)


def _always_continue() -> bool:
    return True


def _prune_runs(
    records: SqlRecords, before: datetime, kinds: Sequence[str] | None, may_continue: Callable[[], bool]
) -> int:
    runs, windows = schema.runs, schema.occurrences
    old = select(runs.c.id).where(runs.c.started_at < before).order_by(runs.c.started_at)
    if kinds is not None:
        old = old.where(runs.c.kind.in_(kinds))
    with records.database.begin_read("look for old runs") as connection:
        found = connection.execute(old).scalars().all()
    deleted = 0
    for run_id in found:
        if not may_continue():
            return deleted
        lease = records.leases.find_lease(run_id)
        if lease is not None and lease.is_held:  # it was left long ago, and is settled now; or it waits for its window
            continue
        with records.database.begin_write("forget an old run") as connection:
            for table in _TABLES_BY_RUN:
                connection.execute(delete(table).where(table.c.run_id == run_id))
            deleted += connection.execute(delete(runs).where(runs.c.id == run_id)).rowcount
    if kinds is None:
        with records.database.begin_write("forget old windows") as connection:
            connection.execute(delete(windows).where(windows.c.starts_at < before))
    return deleted


def _prune_assessments(records: SqlRecords, before: datetime, may_continue: Callable[[], bool]) -> int:
    table = schema.assessments
    same = table.alias("same")
    newest = select(func.max(same.c.at)).where(same.c.machine == table.c.machine)
    superseded = (
        (table.c.at < before)
        & (table.c.at < newest.scalar_subquery())
        & (table.c.at != func.coalesce(newest.where(same.c.known).scalar_subquery(), before))
    )
    with records.database.begin_read("look for old assessments") as connection:
        found = connection.execute(select(table.c.number).where(superseded).order_by(table.c.number)).scalars().all()
    deleted = 0
    for start in range(0, len(found), _BATCH_SIZE):
        if not may_continue():
            break
        numbers = found[start : start + _BATCH_SIZE]
        with records.database.begin_write("forget old assessments") as connection:
            deleted += connection.execute(delete(table).where(table.c.number.in_(numbers))).rowcount
    return deleted
