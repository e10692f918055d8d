"""Lists runs, their states and figures, and counts their results of updates, from columns.

Of documents only single values are read.
"""

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any

from sqlalchemy import JSON, ColumnElement, Select, Text, case, cast, exists, func, or_, select

from inventory.data_class import dataclass
from inventory.machine import DEFAULT_SITE
from tasks.domain.model import SHARD_KIND
from tasks.domain.rows import list_kinds
from tasks.domain.rows.runs import RunRow, RunWindow
from tasks.domain.rows.snapshots import SnapshotRow
from tasks.domain.states import UNFINISHED_RUN_STATES, OperationState, RebootState
from tasks.records import schema
from tasks.records.storage.column_types import replace_unstorable
from tasks.records.storage.database import Database


@dataclass(frozen=True, slots=True)
class RunFilter:
    """Which runs a list shows. An empty field restricts nothing."""

    # Kinds of runs. Runs of shards are left out unless they are named here, or by their id.
    kinds: tuple[str, ...] = ()
    states: tuple[str, ...] = ()  # states of runs
    configuration: str = ""  # the exact name
    text: str = ""  # a part of the scope, the id, the message, or of who started it; letter case does not matter
    machine: str = ""  # the exact name of a machine that the run has a result of
    since: datetime | None = None  # runs that started then or later
    until: datetime | None = None  # runs that started before
    run_id: str = ""  # only the run with this id


@dataclass(frozen=True, slots=True)
class RunFigures:
    """The numbers of a run's machines by state, and of their updates and reboots."""

    machines: int = 0
    succeeded: int = 0
    warnings: int = 0
    failed: int = 0
    not_started: int = 0
    unknown: int = 0
    installed: int = 0
    updates_failed: int = 0
    reboots: int = 0
    reboots_required: int = 0


def count_runs(database: Database, run_filter: RunFilter) -> int:
    """Return the number of runs."""
    with database.begin_read("count the runs") as connection:
        query = select(func.count()).select_from(schema.runs).where(*_build_conditions(database, run_filter))
        return connection.execute(query).scalar_one()


def read_run_rows(database: Database, run_filter: RunFilter, offset: int, limit: int) -> tuple[RunRow, ...]:
    """Return a part of the runs, newest first."""
    table = schema.runs
    with database.begin_read("list the runs") as connection:
        query = (
            select_runs(database)
            .where(*_build_conditions(database, run_filter))
            .order_by(table.c.started_at.desc(), table.c.id.desc())
            .offset(offset)
            .limit(limit)
        )
        rows = connection.execute(query).tuples().all()
    return tuple(map(_build_row, rows))


def find_run_row(database: Database, run_id: str) -> RunRow | None:
    """Return a run by its complete id; None if there is none."""
    return next(iter(read_run_rows(database, RunFilter(run_id=run_id), 0, 1)), None)


def select_runs(database: Database) -> Select[Any]:
    """Return a query for runs, with the columns of ``RunRow`` in their order, see ``parse_run``."""
    columns = schema.runs.c
    return select(
        columns.id,
        columns.kind,
        columns.state,
        columns.scope,
        _read_value(database, "request", "configuration"),
        _read_value(database, "site"),
        columns.started_by,
        columns.started_at,
        columns.ended_at,
        *(_read_value(database, "window", name) for name in ("start", "end", "zone")),
        columns.flow_run_id,
        *(_read_value(database, name) for name in ("version", "prefect_version")),
        columns.message,
    )


def parse_run(row: Sequence[Any]) -> tuple[Any, ...]:
    """Return the values of a row of ``select_runs``: times of the window are text in it."""
    start, end = (datetime.fromisoformat(text) if text else None for text in row[9:11])
    versions = (version or "" for version in row[13:15])  # an older fleetpatch wrote none
    return (*row[:4], row[4] or None, row[5] or DEFAULT_SITE, *row[6:9], start, end, *row[11:13], *versions, *row[15:])


def _build_row(row: Sequence[Any]) -> RunRow:
    values = dict(zip(list_kinds(RunRow), parse_run(row), strict=True))
    start, end, zone = (values.pop(f"window_{name}") for name in ("start", "end", "zone"))
    values["state"] = OperationState(values["state"])
    return RunRow(**values, window=RunWindow(start=start, end=end, zone=zone or "") if start and end else None)


def read_configuration_names(database: Database) -> tuple[str, ...]:
    """Return the names of configurations that had windows, sorted."""
    query = select(schema.occurrences.c.configuration).distinct().order_by(schema.occurrences.c.configuration)
    with database.begin_read("list configurations") as connection:
        return tuple(connection.execute(query).scalars())


def read_run_figures(database: Database, run_ids: Sequence[str]) -> Mapping[str, RunFigures]:
    """Return the figures of runs. A run without results is missing."""
    table = schema.outcomes

    def count(condition: ColumnElement[bool]) -> ColumnElement[int]:
        return func.sum(case((condition, 1), else_=0))

    state, reboot = table.c.state, table.c.reboot
    states = OperationState
    query = (
        select(
            table.c.run_id,
            func.count(),
            count(state == states.SUCCEEDED.value),
            count(state == states.COMPLETED_WITH_WARNINGS.value),
            count(state == states.FAILED.value),
            count(state == states.NOT_STARTED.value),
            count(state.in_((states.UNKNOWN.value, states.IN_PROGRESS.value))),
            func.sum(table.c.updates_installed),
            func.sum(table.c.updates_failed),
            count(reboot == RebootState.COMPLETED.value),
            count(reboot.in_((RebootState.REQUIRED.value, RebootState.FAILED.value))),
        )
        .where(table.c.run_id.in_(run_ids))
        .group_by(table.c.run_id)
    )
    return {row[0]: RunFigures(*map(int, row[1:])) for row in database.read_rows("read the figures of runs", query)}


def _read_value(database: Database, *path: str) -> ColumnElement[str]:
    """Return a text value of a run's document."""
    document = schema.runs.c.document
    if database.is_sqlite:
        return func.json_extract(document, "$." + ".".join(path), type_=Text)
    return func.json_extract_path_text(cast(document, JSON), *path, type_=Text)


def _build_conditions(database: Database, run_filter: RunFilter) -> list[ColumnElement[bool]]:
    table = schema.runs
    conditions: list[ColumnElement[bool]] = []
    if run_filter.run_id:
        conditions.append(table.c.id == run_filter.run_id)
    if run_filter.kinds:
        conditions.append(table.c.kind.in_(run_filter.kinds))
    elif not run_filter.run_id:
        conditions.append(table.c.kind != SHARD_KIND)
    if run_filter.states:
        conditions.append(table.c.state.in_(run_filter.states))
    if run_filter.since:
        conditions.append(table.c.started_at >= run_filter.since)
    if run_filter.until:
        conditions.append(table.c.started_at < run_filter.until)
    if run_filter.configuration:
        conditions.append(
            _read_value(database, "request", "configuration") == replace_unstorable(run_filter.configuration)
        )
    if run_filter.text:
        columns = (table.c.scope, table.c.id, table.c.message, table.c.started_by)
        # Not LIKE: "_" and "%" are its wildcards.
        text = replace_unstorable(run_filter.text).lower()
        position = func.instr if database.is_sqlite else func.strpos
        conditions.append(or_(*(position(func.lower(column), text) > 0 for column in columns)))
    if run_filter.machine:
        tables = (schema.outcomes, schema.machine_plans)
        conditions.append(
            or_(*(exists().where(t.c.run_id == table.c.id, t.c.machine == run_filter.machine) for t in tables))
        )
    return conditions


@dataclass(frozen=True, slots=True)
class UpdateResultCounts:
    """How many machines have each state of an update in a run."""

    installed: int = 0
    failed: int = 0
    other: int = 0


def count_update_results(database: Database, run_id: str) -> Mapping[tuple[str, str], UpdateResultCounts]:
    """Return the counts of a run by name and available version of updates."""
    table, of_run = schema.update_results, schema.outcomes
    query = (
        select(table.c.name, table.c.available, table.c.state, func.count())
        .select_from(table.join(of_run, of_run.c.number == table.c.outcome))
        .where(of_run.c.run_id == run_id)
        .group_by(table.c.name, table.c.available, table.c.state)
    )
    counts_by_update: dict[tuple[str, str], list[int]] = {}
    with database.begin_read("count the updates of a run") as connection:
        for name, available, state, number in connection.execute(query).tuples():
            counts = counts_by_update.setdefault((name, available), [0, 0, 0])
            counts[0 if state in {"Installed", "Repaired"} else 1 if state == "Failed" else 2] += number
    return {key: UpdateResultCounts(*counts) for key, counts in counts_by_update.items()}


def read_run_states(database: Database, runs: Sequence[str]) -> Mapping[str, OperationState]:
    """Return the state of each of these runs that the records have."""
    table = schema.runs.c
    with database.begin_read("read the states of runs") as connection:
        rows = connection.execute(select(table.id, table.state).where(table.id.in_(runs))).tuples()
        return {run: OperationState(state) for run, state in rows}


def find_runs_in_need(database: Database, snapshot: SnapshotRow) -> tuple[str, ...]:
    """Return the unfinished runs that may need a snapshot: its own, those that take it back or work on its machine."""
    runs, plans, outcomes = schema.runs.c, schema.machine_plans.c, schema.outcomes.c
    is_planned = exists().where(plans.run_id == runs.id, plans.machine == snapshot.machine)
    is_done = exists().where(outcomes.run_id == runs.id, outcomes.machine == snapshot.machine)
    query = select(runs.id, _read_value(database, "request", "undo_of"), is_planned & ~is_done)
    query = query.where(runs.state.in_([state.value for state in UNFINISHED_RUN_STATES])).order_by(runs.started_at)
    with database.begin_read("look for runs that need a snapshot") as connection:
        rows = connection.execute(query).tuples().all()
    # a request may name the run that it takes back by a prefix of its id
    return tuple(
        run
        for run, undo_of, is_at_work in rows
        if run == snapshot.run_id or is_at_work or (undo_of and snapshot.run_id.startswith(undo_of))
    )
