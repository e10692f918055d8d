"""Reads the present state of machines, their runs, and which run works on them, from columns."""

import json
from collections.abc import Sequence
from dataclasses import fields
from datetime import datetime
from typing import Any

from sqlalchemy import func, select

from inventory.data_class import dataclass
from tasks.domain.components import InstalledComponent
from tasks.domain.model import SHARD_KIND, HotpatchEnrolment
from tasks.domain.rows.machines import LastRun
from tasks.records import schema
from tasks.records.encoding.codec import decode
from tasks.records.machine_rows import RecordedState
from tasks.records.page_schema import machine_last_runs, machine_states, run_progress
from tasks.records.queries.shards import is_of_whole_run
from tasks.records.statements import UNFINISHED_STATES
from tasks.records.storage.database import Database


@dataclass(frozen=True, slots=True)
class ChangeMarker:
    """Changes with the records: pages read them again if it differs."""

    since: int  # a number of an assessment. Only markers with the same one can be compared.
    assessment: int  # the newest assessment's number
    # How many assessments have a number above ``since``. On PostgreSQL one may become visible after another with a
    # higher number: then only this changes.
    recent: int
    outcome: int  # the newest outcome's number
    unfinished_runs: int  # runs under way. Their outcomes change without a new number.


_COLUMNS = [machine_states.columns[field.name] for field in fields(RecordedState)]
"""The details come last: they are JSON."""


def read_change_marker(database: Database, since: int | None = None) -> ChangeMarker:
    """Return the marker of the records as they are. It costs three look-ups, and a count from ``since`` on.

    ``since``: the number from which assessments are counted; None: the newest one.
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

    ``after``: only of machines that have an assessment with a higher number.
    """
    query = select(*_COLUMNS)
    if after is not None:
        table = schema.assessments
        query = query.where(machine_states.c.machine.in_(select(table.c.machine).where(table.c.number > after)))
    rows = database.read_rows("read the state of the fleet", query)
    return {row[0]: _build_state(row) for row in rows}


def read_machine_state(database: Database, machine: str) -> RecordedState | None:
    """Return the state of one machine; None if it was never assessed."""
    query = select(*_COLUMNS).where(machine_states.c.machine == machine)
    with database.begin_read("read the state of a machine") as connection:
        row = connection.execute(query).tuples().one_or_none()
    return _build_state(row) if row is not None else None


def _build_state(row: Sequence[Any]) -> RecordedState:
    return RecordedState(*(*row[:-1], json.loads(row[-1]) if row[-1] else {}))


def read_hotpatch_enrolments(database: Database) -> dict[str, HotpatchEnrolment]:
    """Return what machines said of hotpatches at their newest answer, without those that said nothing of them."""
    query = select(machine_states.c.machine, machine_states.c.details).where(machine_states.c.details.is_not(None))
    rows = database.read_rows("read the enrolments for hotpatches", query)
    documents = {machine: json.loads(details).get("hotpatch") for machine, details in rows}
    return {machine: decode(HotpatchEnrolment, document) for machine, document in documents.items() if document}


def read_installed_components(database: Database) -> dict[str, dict[str, InstalledComponent]]:
    """Return what machines said of components at their newest answer: machine -> name of the component -> answer."""
    query = select(machine_states.c.machine, machine_states.c.details).where(machine_states.c.details.is_not(None))
    rows = database.read_rows("read the components of machines", query)
    documents = {machine: json.loads(details).get("components", ()) for machine, details in rows}
    return {
        machine: {one.name: one for one in (decode(InstalledComponent, document) for document in told)}
        for machine, told in documents.items()
        if told
    }


def read_last_runs(database: Database) -> dict[str, LastRun]:
    """Return the newest run of each machine, of those that may have changed it."""
    table = machine_last_runs
    query = select(table.c.machine, table.c.run_id, table.c.kind, table.c.state, table.c.at)
    rows = database.read_rows("read the last runs of the fleet", query)
    return {machine: LastRun(id=run_id, kind=kind, state=state, at=at) for machine, run_id, kind, state, at in rows}


_NAMES_PER_QUERY = 500
_BETWEEN_NAMES = "\n"
"""No name of a machine has a line end."""


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
    """A run that works on a machine now."""

    run_id: str
    kind: str
    step: str  # what it does; "" if that is not recorded
    message: str
    since: datetime  # when that step began, or the run


def count_machine_runs(database: Database, machine: str) -> int:
    """Return the number of recorded runs of a machine."""
    table = schema.outcomes
    query = select(func.count()).select_from(table).where(table.c.machine == machine, is_of_whole_run(table.c.run_id))
    with database.begin_read("count the runs of a machine") as connection:
        return connection.execute(query).scalar_one()


def read_machine_runs(database: Database, machine: str, offset: int, limit: int) -> tuple[MachineRun, ...]:
    """Return a part of the runs of a machine, newest first."""
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
        .where(table.c.machine == machine, func.coalesce(of_run.c.kind, "") != SHARD_KIND)
        .order_by(func.coalesce(table.c.started_at, of_run.c.started_at).desc(), table.c.number.desc())
        .offset(offset)
        .limit(limit)
    )
    return tuple(MachineRun(*row) for row in database.read_rows("list the runs of a machine", query))


def find_occupation(database: Database, machine: str) -> Occupation | None:
    """Return the unfinished run that works on a machine, or is to; None if there is none."""
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
    """Return the machine sets in which a machine is out of service."""
    table = schema.set_slots
    query = select(table.c.set_name).where(table.c.machine == machine, table.c.drained).order_by(table.c.set_name)
    with database.begin_read("look whether a machine is out of service") as connection:
        return tuple(connection.execute(query).scalars())


def read_recorded_names(database: Database) -> tuple[str, ...]:
    """Return the names of all machines that were ever assessed."""
    with database.begin_read("list the machines of the records") as connection:
        return tuple(connection.execute(select(machine_states.c.machine)).scalars())


def read_missing_since(database: Database, machines: Sequence[str]) -> dict[tuple[str, str], datetime]:
    """Return since when updates of machines have been pending, by machine and name: the earliest that is known.

    Many machines lack an update since the same moment: the database joins their names. Of more machines than one query
    may name, all are read.
    """
    missing_since: dict[tuple[str, str], datetime] = {}
    with database.begin_read("read since when updates are missing") as connection:
        for table in (schema.assessment_updates, schema.missing_fixes):
            names = func.aggregate_strings(table.c.machine, _BETWEEN_NAMES)
            query = select(table.c.name, table.c.since, names).where(table.c.since.is_not(None))
            if len(machines) <= _NAMES_PER_QUERY:
                query = query.where(table.c.machine.in_(machines))
            for name, since, joined in connection.execute(query.group_by(table.c.name, table.c.since)).tuples():
                for machine in joined.split(_BETWEEN_NAMES):
                    missing_since[machine, name] = min(since, missing_since.get((machine, name), since))
    return missing_since
