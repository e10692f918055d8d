"""Reads the newest runs with the number of machines by state, from columns."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import func, select

from tasks.records import schema
from tasks.records.leases import UNFINISHED_STATES
from tasks.records.storage.database import Database


@dataclass(frozen=True, slots=True)
class RecentRun:
    """A run as lists show it."""

    run_id: str
    kind: str
    state: str
    started_at: datetime
    ended_at: datetime | None
    scope: str
    started_by: str
    message: str

    @property
    def is_over(self) -> bool:
        """Whether the run has ended. Then its machines do not change any more."""
        return self.state not in UNFINISHED_STATES


def read_recent_runs(database: Database, limit: int) -> tuple[RecentRun, ...]:
    """Return the newest runs, newest first.

    Raises:
        RecordsError: the records can't be read.
    """
    table = schema.runs
    query = (
        select(
            table.c.id,
            table.c.kind,
            table.c.state,
            table.c.started_at,
            table.c.ended_at,
            table.c.scope,
            table.c.started_by,
            table.c.message,
        )
        .order_by(table.c.started_at.desc(), table.c.id.desc())
        .limit(limit)
    )
    with database.begin_read("list the newest runs") as connection:
        return tuple(RecentRun(*row) for row in connection.execute(query).tuples())


def count_machines_by_state(database: Database, run_ids: Sequence[str]) -> dict[str, Mapping[str, int]]:
    """Return how many machines have each state, for each of these runs.

    Raises:
        RecordsError: the records can't be read.
    """
    table, counts = schema.outcomes, {run_id: dict[str, int]() for run_id in run_ids}
    query = (
        select(table.c.run_id, table.c.state, func.count())
        .where(table.c.run_id.in_(run_ids))
        .group_by(table.c.run_id, table.c.state)
    )
    with database.begin_read("count the machines of runs") as connection:
        for run_id, state, number in connection.execute(query).tuples():
            counts[run_id][state] = number
    return dict(counts)


def count_waiting_approvals(database: Database, now: datetime) -> int:
    """Return how many plans wait for a decision.

    Raises:
        RecordsError: the records can't be read.
    """
    table, of_run = schema.approvals, schema.runs
    query = (
        select(func.count())
        .select_from(table.join(of_run, of_run.c.id == table.c.run_id))
        .where(table.c.decision == "", table.c.expires_at > now, of_run.c.state.in_(UNFINISHED_STATES))
    )
    with database.begin_read("count the plans that wait") as connection:
        return connection.execute(query).scalar_one()
