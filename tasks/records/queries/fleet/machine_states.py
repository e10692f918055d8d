"""Reads the present state and the newest run of all machines, from columns."""

import json
from collections.abc import Sequence
from dataclasses import dataclass, fields
from typing import Any

from sqlalchemy import func, select

from tasks.domain.rows.machines import LastRun
from tasks.records import schema
from tasks.records.leases import UNFINISHED_STATES
from tasks.records.machine_rows import RecordedState
from tasks.records.page_tables import machine_last_runs, machine_states
from tasks.records.storage.database import Database


@dataclass(frozen=True, slots=True)
class ChangeMarker:
    """Changes with the records: pages read them again if it differs.

    Attributes:
        since: a number of an assessment. Only markers with the same one can be compared.
        assessment: the newest assessment's number.
        recent: how many assessments have a number above ``since``. On PostgreSQL one may become visible after another
            with a higher number: then only this changes.
        outcome: the newest outcome's number.
        unfinished_runs: runs under way. Their outcomes change without a new number.
    """

    since: int
    assessment: int
    recent: int
    outcome: int
    unfinished_runs: int


_COLUMNS = [machine_states.columns[field.name] for field in fields(RecordedState)]
"""The details come last: they are JSON."""


def read_change_marker(database: Database, since: int | None = None) -> ChangeMarker:
    """Return the marker of the records as they are. It costs three look-ups, and a count from ``since`` on.

    Args:
        database: the database of the records.
        since: the number from which assessments are counted; None: the newest one.

    Raises:
        RecordsError: the records can't be read.
    """
    newest = select(func.coalesce(func.max(schema.assessments.c.number), 0))
    unfinished = select(func.count()).where(schema.runs.c.state.in_(UNFINISHED_STATES)).scalar_subquery()
    with database.begin_read("look for changes of the records") as connection:
        counted_from = since if since is not None else connection.execute(newest).scalar_one()
        query = select(
            newest.scalar_subquery(),
            select(func.count()).where(schema.assessments.c.number > counted_from).scalar_subquery(),
            select(func.max(schema.outcomes.c.number)).scalar_subquery(),
            unfinished,
        )
        assessment, recent, outcome, runs = connection.execute(query).tuples().one()
    return ChangeMarker(counted_from, assessment, recent, outcome or 0, runs)


def read_machine_states(database: Database, after: int | None = None) -> dict[str, RecordedState]:
    """Return the state of each machine that was ever assessed, by its name.

    Args:
        database: the database of the records.
        after: only of machines that have an assessment with a higher number.

    Raises:
        RecordsError: the records can't be read.
    """
    query = select(*_COLUMNS)
    if after is not None:
        table = schema.assessments
        query = query.where(machine_states.c.machine.in_(select(table.c.machine).where(table.c.number > after)))
    with database.begin_read("read the state of the fleet") as connection:
        rows = connection.execute(query).tuples().all()
    return {row[0]: _build_state(row) for row in rows}


def read_machine_state(database: Database, machine: str) -> RecordedState | None:
    """Return the state of one machine; None if it was never assessed.

    Raises:
        RecordsError: the records can't be read.
    """
    query = select(*_COLUMNS).where(machine_states.c.machine == machine)
    with database.begin_read("read the state of a machine") as connection:
        row = connection.execute(query).tuples().one_or_none()
    return _build_state(row) if row is not None else None


def _build_state(row: Sequence[Any]) -> RecordedState:
    return RecordedState(*(*row[:-1], json.loads(row[-1]) if row[-1] else {}))


def read_last_runs(database: Database) -> dict[str, LastRun]:
    """Return the newest run of each machine, of those that may have changed it.

    Raises:
        RecordsError: the records can't be read.
    """
    table = machine_last_runs
    query = select(table.c.machine, table.c.run_id, table.c.kind, table.c.state, table.c.at)
    with database.begin_read("read the last runs of the fleet") as connection:
        rows = connection.execute(query).tuples().all()
    return {machine: LastRun(id=run_id, kind=kind, state=state, at=at) for machine, run_id, kind, state, at in rows}
