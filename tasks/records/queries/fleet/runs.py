"""Lists runs and their figures, from columns. Of documents only single values are read."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import JSON, ColumnElement, Connection, RowMapping, Text, case, cast, exists, func, or_, select

from tasks.domain.states import OperationState, RebootState
from tasks.records import schema
from tasks.records.leases import UNFINISHED_STATES
from tasks.records.storage.column_types import replace_unstorable
from tasks.records.storage.database import Database


@dataclass(frozen=True, slots=True)
class RunFilter:
    """Which runs a list shows. An empty field restricts nothing.

    Attributes:
        kinds: kinds of runs.
        states: states of runs.
        configuration: the exact name.
        text: a part of the scope, the id, the message, or of who started it; letter case does not matter.
        machine: the exact name of a machine that the run has a result of.
        since: runs that started then or later.
        until: runs that started before.
        run_id: only the run with this id.
    """

    kinds: tuple[str, ...] = ()
    states: tuple[str, ...] = ()
    configuration: str = ""
    text: str = ""
    machine: str = ""
    since: datetime | None = None
    until: datetime | None = None
    run_id: str = ""


@dataclass(frozen=True, slots=True)
class RunLine:
    """A run as lists show it. The times of its window are None for a run without a window."""

    run_id: str
    kind: str
    state: str
    started_at: datetime
    ended_at: datetime | None
    scope: str
    started_by: str
    message: str
    configuration: str
    window_start: datetime | None
    window_end: datetime | None
    zone: str

    @property
    def is_over(self) -> bool:
        """Whether the run has ended. Then its figures do not change any more."""
        return self.state not in UNFINISHED_STATES


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


def count_runs(database: Database, wanted: RunFilter) -> int:
    """Return the number of runs.

    Raises:
        RecordsError: the records can't be read.
    """
    with database.begin_read("count the runs") as connection:
        query = select(func.count()).select_from(schema.runs).where(*_build_conditions(connection, wanted))
        return connection.execute(query).scalar_one()


def read_run_lines(database: Database, wanted: RunFilter, offset: int, limit: int) -> tuple[RunLine, ...]:
    """Return a part of the runs, newest first.

    Raises:
        RecordsError: the records can't be read.
    """
    table = schema.runs
    with database.begin_read("list the runs") as connection:
        query = (
            select(
                table.c.id.label("run_id"),
                table.c.kind,
                table.c.state,
                table.c.started_at,
                table.c.ended_at,
                table.c.scope,
                table.c.started_by,
                table.c.message,
                *(_read_value(connection, *path).label(name) for name, path in _PATHS.items()),
            )
            .where(*_build_conditions(connection, wanted))
            .order_by(table.c.started_at.desc(), table.c.id.desc())
            .offset(offset)
            .limit(limit)
        )
        rows = connection.execute(query).mappings().all()
    return tuple(_build_line(row) for row in rows)


def read_configuration_names(database: Database) -> tuple[str, ...]:
    """Return the names of configurations that had windows, sorted.

    Raises:
        RecordsError: the records can't be read.
    """
    query = select(schema.occurrences.c.configuration).distinct().order_by(schema.occurrences.c.configuration)
    with database.begin_read("list configurations") as connection:
        return tuple(connection.execute(query).scalars())


def read_run_figures(database: Database, run_ids: Sequence[str]) -> Mapping[str, RunFigures]:
    """Return the figures of runs. A run without results is missing.

    Raises:
        RecordsError: the records can't be read.
    """
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
    with database.begin_read("read the figures of runs") as connection:
        return {row[0]: RunFigures(*map(int, row[1:])) for row in connection.execute(query).tuples()}


_PATHS: Mapping[str, tuple[str, ...]] = {
    "configuration": ("request", "configuration"),
    "window_start": ("window", "start"),
    "window_end": ("window", "end"),
    "zone": ("window", "zone"),
}


def _read_value(connection: Connection, *path: str) -> ColumnElement[str]:
    """Return a text value of a run's document."""
    document = schema.runs.c.document
    if connection.dialect.name == "sqlite":
        return func.json_extract(document, "$." + ".".join(path), type_=Text)
    return func.json_extract_path_text(cast(document, JSON), *path, type_=Text)


def _build_line(row: RowMapping) -> RunLine:
    values: dict[str, Any] = {name: "" if value is None else value for name, value in row.items()}
    times = {name: _parse_time(values[name]) for name in ("window_start", "window_end")}
    return RunLine(**(values | times | {"ended_at": row["ended_at"]}))


def _parse_time(text: str | None) -> datetime | None:
    return datetime.fromisoformat(text) if text else None


def _build_conditions(connection: Connection, wanted: RunFilter) -> list[ColumnElement[bool]]:
    table = schema.runs
    conditions: list[ColumnElement[bool]] = []
    if wanted.run_id:
        conditions.append(table.c.id == wanted.run_id)
    if wanted.kinds:
        conditions.append(table.c.kind.in_(wanted.kinds))
    if wanted.states:
        conditions.append(table.c.state.in_(wanted.states))
    if wanted.since:
        conditions.append(table.c.started_at >= wanted.since)
    if wanted.until:
        conditions.append(table.c.started_at < wanted.until)
    if wanted.configuration:
        conditions.append(
            _read_value(connection, "request", "configuration") == replace_unstorable(wanted.configuration)
        )
    if wanted.text:
        columns = (table.c.scope, table.c.id, table.c.message, table.c.started_by)
        # Not LIKE: "_" and "%" are its wildcards.
        text = replace_unstorable(wanted.text).lower()
        position = func.instr if connection.dialect.name == "sqlite" else func.strpos
        conditions.append(or_(*(position(func.lower(column), text) > 0 for column in columns)))
    if wanted.machine:
        tables = (schema.outcomes, schema.machine_plans)
        conditions.append(
            or_(*(exists().where(t.c.run_id == table.c.id, t.c.machine == wanted.machine) for t in tables))
        )
    return conditions
