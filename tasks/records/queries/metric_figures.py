"""Reads the figures for metrics: of runs, windows and approvals, from columns."""

from collections.abc import Mapping
from datetime import datetime
from typing import Any

from sqlalchemy import Select, and_, func, select

from inventory.data_class import dataclass
from tasks.records import schema
from tasks.records.approvals import SqlApprovals
from tasks.records.statements import UNFINISHED_STATES
from tasks.records.storage.database import Database


@dataclass(frozen=True, slots=True)
class LastWindow:
    """The newest window of a configuration in the records."""

    configuration: str
    starts_at: datetime
    what: str  # "run", "missed", "frozen" or "cancelled"
    state: str  # the state of its run; "" if it had none
    started_at: datetime | None  # the start of its run; None if it had none
    ended_at: datetime | None  # the end of its run; None while it is in progress


@dataclass(frozen=True, slots=True)
class MetricFigures:
    """The figures of metrics that are not of single machines."""

    runs_in_progress: Mapping[str, int]  # the number of unfinished runs by kind
    last_windows: tuple[LastWindow, ...]  # the newest window of each configuration
    approvals_waiting: int  # plans of unfinished runs that wait for a decision


def read_metric_figures(database: Database) -> MetricFigures:
    """Return the figures."""
    runs = schema.runs
    unfinished = runs.c.state.in_(UNFINISHED_STATES)
    by_kind = select(runs.c.kind, func.count()).where(unfinished).group_by(runs.c.kind)
    waiting = SqlApprovals(database).find_pending_approvals()
    with database.begin_read("read the figures of metrics") as connection:
        in_progress = dict(connection.execute(by_kind).tuples().all())
        last = connection.execute(_build_last_windows_query()).tuples().all()
    return MetricFigures(in_progress, tuple(LastWindow(*row) for row in last), len(waiting))


def _build_last_windows_query() -> Select[Any]:
    windows, runs = schema.occurrences, schema.runs
    newest = (
        select(windows.c.configuration, func.max(windows.c.starts_at).label("starts_at"))
        .group_by(windows.c.configuration)
        .subquery()
    )
    own = and_(windows.c.configuration == newest.c.configuration, windows.c.starts_at == newest.c.starts_at)
    return (
        select(
            windows.c.configuration,
            windows.c.starts_at,
            windows.c.what,
            func.coalesce(runs.c.state, ""),
            runs.c.started_at,
            runs.c.ended_at,
        )
        .select_from(windows.join(newest, own).outerjoin(runs, runs.c.id == windows.c.run_id))
        .order_by(windows.c.configuration)
    )
