"""Reads the past and the present of one machine, from columns."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from itertools import product

from sqlalchemy import func, select

from tasks.records import schema
from tasks.records.leases import UNFINISHED_STATES
from tasks.records.page_tables import machine_states, run_progress
from tasks.records.storage.database import Database

_CHUNK = 500  # names in one query


@dataclass(frozen=True, slots=True)
class MachineRun:
    """What one run did on a machine. ``kind`` is "" if the run's row is gone."""

    run_id: str
    kind: str
    state: str
    reason: str
    reboot: str
    started_at: datetime | None
    ended_at: datetime | None
    installed: int
    failed: int


@dataclass(frozen=True, slots=True)
class Occupation:
    """A run that works on a machine now.

    Attributes:
        step: what it does; "" if that is not recorded.
        since: when that step began, or the run.
    """

    run_id: str
    kind: str
    step: str
    message: str
    since: datetime


def count_machine_runs(database: Database, machine: str) -> int:
    """Return the number of recorded runs of a machine.

    Raises:
        RecordsError: the records can't be read.
    """
    query = select(func.count()).select_from(schema.outcomes).where(schema.outcomes.c.machine == machine)
    with database.begin_read("count the runs of a machine") as connection:
        return connection.execute(query).scalar_one()


def read_machine_runs(database: Database, machine: str, offset: int, limit: int) -> tuple[MachineRun, ...]:
    """Return a part of the runs of a machine, newest first.

    Raises:
        RecordsError: the records can't be read.
    """
    table, of_run = schema.outcomes, schema.runs
    query = (
        select(
            table.c.run_id,
            func.coalesce(of_run.c.kind, ""),
            table.c.state,
            table.c.reason,
            table.c.reboot,
            table.c.started_at,
            table.c.ended_at,
            table.c.updates_installed,
            table.c.updates_failed,
        )
        .select_from(table.outerjoin(of_run, of_run.c.id == table.c.run_id))
        .where(table.c.machine == machine)
        .order_by(func.coalesce(table.c.started_at, of_run.c.started_at).desc(), table.c.number.desc())
        .offset(offset)
        .limit(limit)
    )
    with database.begin_read("list the runs of a machine") as connection:
        return tuple(MachineRun(*row) for row in connection.execute(query).tuples())


def find_occupation(database: Database, machine: str) -> Occupation | None:
    """Return the unfinished run that works on a machine, or is to; None if there is none.

    Raises:
        RecordsError: the records can't be read.
    """
    of_run, progress, plans, done = schema.runs, run_progress, schema.machine_plans, schema.outcomes
    is_progress = (progress.c.run_id == of_run.c.id) & (progress.c.machine == machine)
    is_planned = select(plans.c.run_id).where(plans.c.run_id == of_run.c.id, plans.c.machine == machine).exists()
    is_over = select(done.c.run_id).where(done.c.run_id == of_run.c.id, done.c.machine == machine).exists()
    query = (
        select(
            of_run.c.id,
            of_run.c.kind,
            func.coalesce(progress.c.step, ""),
            func.coalesce(progress.c.message, ""),
            func.coalesce(progress.c.since, of_run.c.started_at),
        )
        .select_from(of_run.outerjoin(progress, is_progress))
        .where(of_run.c.state.in_(UNFINISHED_STATES), ~is_over, progress.c.machine.is_not(None) | is_planned)
        .order_by(of_run.c.started_at.desc())
        .limit(1)
    )
    with database.begin_read("look who has a machine") as connection:
        row = connection.execute(query).tuples().one_or_none()
    return Occupation(*row) if row is not None else None


def find_drained_sets(database: Database, machine: str) -> tuple[str, ...]:
    """Return the machine sets in which a machine is out of service.

    Raises:
        RecordsError: the records can't be read.
    """
    table = schema.set_slots
    query = select(table.c.set_name).where(table.c.machine == machine, table.c.drained).order_by(table.c.set_name)
    with database.begin_read("look whether a machine is out of service") as connection:
        return tuple(connection.execute(query).scalars())


def read_recorded_names(database: Database) -> tuple[str, ...]:
    """Return the names of all machines that were ever assessed.

    Raises:
        RecordsError: the records can't be read.
    """
    with database.begin_read("list the machines of the records") as connection:
        return tuple(connection.execute(select(machine_states.c.machine)).scalars())


def read_missing_since(database: Database, machines: Sequence[str]) -> dict[tuple[str, str], datetime]:
    """Return since when updates of machines have been pending, by machine and name: the earliest that is known.

    Raises:
        RecordsError: the records can't be read.
    """
    missing_since: dict[tuple[str, str], datetime] = {}
    with database.begin_read("read since when updates are missing") as connection:
        for table, start in product((schema.assessment_updates, schema.missing_fixes), range(0, len(machines), _CHUNK)):
            query = select(table.c.machine, table.c.name, table.c.since).where(table.c.since.is_not(None))
            query = query.where(table.c.machine.in_(machines[start : start + _CHUNK]))
            for machine, name, since in connection.execute(query).tuples():
                missing_since[machine, name] = min(since, missing_since.get((machine, name), since))
    return missing_since
