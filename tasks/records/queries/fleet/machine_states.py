"""Reads the present state and the newest run of all machines, from columns."""

from dataclasses import dataclass, fields
from datetime import datetime

from sqlalchemy import func, select

from tasks.records import schema
from tasks.records.leases import UNFINISHED_STATES
from tasks.records.page_tables import machine_last_runs, machine_states
from tasks.records.storage.database import Database


@dataclass(frozen=True, slots=True)
class MachineState:
    """The state of one machine by its newest assessment (see ``machine_states`` in tasks/records/page_tables.py)."""

    machine: str
    run_id: str
    at: datetime
    error_kind: str
    error_message: str
    answered_at: datetime | None
    compliance: str
    critical: int
    security: int
    other: int
    withheld: int
    reboot: str
    reboot_since: datetime | None
    services_to_restart: int
    problems: int
    findings: int
    os_id: str
    os_version: str
    os_name: str
    manager: str


@dataclass(frozen=True, slots=True)
class LastRun:
    """The newest run that may have changed a machine. ``state`` is the machine's in it; ``at`` when it began there."""

    run_id: str
    kind: str
    state: str
    at: datetime


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


_COLUMNS = [machine_states.columns[each.name] for each in fields(MachineState)]


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
        known = since if since is not None else connection.execute(newest).scalar_one()
        query = select(
            newest.scalar_subquery(),
            select(func.count()).where(schema.assessments.c.number > known).scalar_subquery(),
            select(func.max(schema.outcomes.c.number)).scalar_subquery(),
            unfinished,
        )
        assessment, recent, outcome, runs = connection.execute(query).tuples().one()
    return ChangeMarker(known, assessment, recent, outcome or 0, runs)


def read_machine_states(database: Database, after: int | None = None) -> dict[str, MachineState]:
    """Return the state of each machine that was ever assessed.

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
    return {row[0]: MachineState(*row) for row in rows}


def read_machine_state(database: Database, machine: str) -> MachineState | None:
    """Return the state of one machine; None if it was never assessed.

    Raises:
        RecordsError: the records can't be read.
    """
    query = select(*_COLUMNS).where(machine_states.c.machine == machine)
    with database.begin_read("read the state of a machine") as connection:
        row = connection.execute(query).tuples().one_or_none()
    return MachineState(*row) if row is not None else None


def read_last_runs(database: Database) -> dict[str, LastRun]:
    """Return the newest run of each machine, of those that may have changed it.

    Raises:
        RecordsError: the records can't be read.
    """
    table = machine_last_runs
    query = select(table.c.machine, table.c.run_id, table.c.kind, table.c.state, table.c.at)
    with database.begin_read("read the last runs of the fleet") as connection:
        rows = connection.execute(query).tuples().all()
    return {machine: LastRun(*rest) for machine, *rest in rows}
