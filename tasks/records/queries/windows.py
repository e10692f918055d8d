"""Reads what became of the windows of configurations: their runs, or why they have none."""

from collections.abc import Collection
from datetime import datetime
from typing import Any

from sqlalchemy import Select, select

from inventory.data_class import dataclass
from tasks.records.schema import occurrences, runs
from tasks.records.statements import UNFINISHED_STATES
from tasks.records.storage.database import Database


@dataclass(frozen=True, slots=True)
class WindowResult:
    """What became of a window."""

    configuration: str
    starts_at: datetime
    status: str  # a ``WindowStatus`` (see ``occurrences`` in tasks/records/schema.py).
    run_id: str
    run_state: str | None  # the state of its run; None if the run was not recorded
    reason: str  # why no run has the window; "" for one that a run has
    recorded_at: datetime


def read_window_results(database: Database, since: datetime, until: datetime) -> tuple[WindowResult, ...]:
    """Return what became of the windows that open from ``since`` (included) to ``until`` (excluded), oldest first."""
    table = occurrences
    query = (
        select(table, runs.c.state)
        .join_from(table, runs, table.c.run_id == runs.c.id, isouter=True)
        .where(table.c.starts_at >= since, table.c.starts_at < until)
        .order_by(table.c.starts_at, table.c.configuration)
    )
    return _read(database, query)


def find_ended_windows(database: Database, since: datetime) -> frozenset[tuple[str, datetime]]:
    """Return the windows from ``since`` on whose run has ended: their configuration and when they opened."""
    table = occurrences
    query = (
        select(table, runs.c.state)
        .join_from(table, runs, table.c.run_id == runs.c.id)
        .where(table.c.starts_at >= since, table.c.what == "run", runs.c.state.not_in(UNFINISHED_STATES))
    )
    return frozenset((claim.configuration, claim.starts_at) for claim in _read(database, query))


def read_last_window_results(
    database: Database, configurations: Collection[str], since: datetime, limit: int
) -> tuple[WindowResult, ...]:
    """Return what became of the newest windows of configurations that open from ``since`` on, newest first."""
    table = occurrences
    query = (
        select(table, runs.c.state)
        .join_from(table, runs, table.c.run_id == runs.c.id, isouter=True)
        # The names first: so the primary key leads to the rows, and the year before is not read.
        .where(table.c.configuration.in_(configurations), table.c.starts_at >= since)
        .order_by(table.c.starts_at.desc(), table.c.configuration)
        .limit(limit)
    )
    return _read(database, query)


def _read(database: Database, query: Select[Any]) -> tuple[WindowResult, ...]:
    rows = database.read_rows("read what became of windows", query)
    return tuple(
        WindowResult(
            row.configuration,
            row.starts_at,
            row.what,
            row.run_id,
            row.state,
            "" if row.what == "run" else row.reason,
            row.at,
        )
        for row in rows
    )
