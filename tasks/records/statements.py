"""Builds the statements that a run sends for every machine, once each, and the parts that all tables share.

The former are cached because SQLAlchemy takes longer to build one than to send it.
"""

from collections.abc import Iterator, Mapping, Sequence
from datetime import datetime
from enum import Enum
from functools import cache
from typing import TYPE_CHECKING, Any, TypeVar

from sqlalchemy import (
    ClauseElement,
    Column,
    ColumnElement,
    Connection,
    Delete,
    Select,
    Table,
    TextClause,
    bindparam,
    delete,
    func,
    select,
    text,
)
from sqlalchemy.dialects import registry, sqlite

from tasks.domain.protocols.clock import Clock, SystemClock
from tasks.domain.protocols.records import SHARD_ACT
from tasks.domain.states import UNFINISHED_RUN_STATES
from tasks.records import schema
from tasks.records.storage.column_types import UtcDateTime

if TYPE_CHECKING:
    from sqlalchemy.dialects import postgresql

Item = TypeVar("Item")
_AUTO_NUMBER_COLUMN = "number"  # the database fills it


@cache
def build_upsert(
    dialect: str, table: Table, key: tuple[str, ...], *, newest_by: str = "", changes: tuple[str, ...] = ()
) -> TextClause:
    """Return a statement that inserts a complete row or replaces the row with the same key.

    The statement returns the first column of the primary key, if it has changed a row.

    Args:
        dialect: the kind of database.
        table: the table.
        key: the columns that identify a row.
        newest_by: a column: a row with a later value in it stays as it is. "": every row is replaced.
        changes: the columns that are replaced in a row with the same key; empty: all.
    """
    made = _build_bound_insert(dialect, table)
    replaced = {name: made.excluded[name] for name in changes or _list_bound_columns(table) if name not in key}
    first = next(iter(table.primary_key.columns))
    where = made.excluded[newest_by] >= table.c[newest_by] if newest_by else None
    return _to_text_clause(
        made.on_conflict_do_update(index_elements=key, set_=replaced, where=where).returning(first), dialect, table
    )


def _list_bound_columns(table: Table) -> list[str]:
    return [column.name for column in table.columns if column.name != _AUTO_NUMBER_COLUMN]


def build_insert(dialect: str, table: Table) -> "sqlite.Insert | postgresql.Insert":
    """Return an INSERT for a kind of database. It allows ON CONFLICT."""
    if dialect == "sqlite":
        return sqlite.insert(table)
    from sqlalchemy.dialects import postgresql  # noqa: PLC0415 - loads slowly, with the drivers that it knows

    return postgresql.insert(table)


def insert_missing(connection: Connection, table: Table, row: Mapping[str, Any]) -> bool:
    """Insert a row, unless there is one with its key. Return whether it was inserted."""
    insertion = build_insert(connection.dialect.name, table).values(row).on_conflict_do_nothing()
    return connection.execute(insertion.returning(*table.primary_key.columns)).first() is not None


def upsert_row(
    connection: Connection,
    table: Table,
    row: Mapping[str, Any],
    *,
    changes: Mapping[str, Any] | None = None,
    where: ColumnElement[bool] | None = None,
) -> bool:
    """Insert a row, or change the one with its key. One statement decides. Return whether a row was stored.

    Args:
        connection: of a writing transaction.
        table: the table.
        row: the row.
        changes: the new values of a row that is there; None: all of the row.
        where: a condition that a row must fit that is there: otherwise it stays as it is.
    """
    key = [column.name for column in table.primary_key.columns]
    if changes is None:
        changes = {name: value for name, value in row.items() if name not in key}
    insertion = build_insert(connection.dialect.name, table).values(row)
    insertion = insertion.on_conflict_do_update(index_elements=key, set_=changes, where=where)
    return connection.execute(insertion.returning(*table.primary_key.columns)).first() is not None


def build_row(table: Table, item: object, **others: object) -> dict[str, Any]:
    """Return a row: the attributes of an object with the names of the table's columns, and others.

    The database fills ``number``, and ``Seals.seal`` the seal of an object that has none.
    """
    names = (name for name in _list_bound_columns(table) if name not in others)
    values = {name: getattr(item, name) for name in names if name != "seal" or hasattr(item, name)}
    return {name: value.value if isinstance(value, Enum) else value for name, value in (values | others).items()}


def iterate_batches(items: Sequence[Item], size: int = 500) -> Iterator[Sequence[Item]]:
    """Yield a few items at a time: databases limit the variables of a statement."""
    for start in range(0, len(items), size):
        yield items[start : start + size]


def read_shared_time(connection: Connection, clock: Clock | None) -> datetime:
    """Return the current time of the clock that all processes with these records share.

    Args:
        connection: a connection to the records.
        clock: replaces the default clock: the PostgreSQL server's clock, or this system's clock with SQLite.
    """
    if clock is not None or connection.dialect.name == "sqlite":
        return (clock or SystemClock()).now()
    # Not now(): it returns the start of the transaction, and this transaction may wait for a row lock.
    moment: datetime = connection.execute(select(func.clock_timestamp(type_=UtcDateTime()))).scalar_one()
    return moment


def _build_bound_insert(dialect: str, table: Table) -> "sqlite.Insert | postgresql.Insert":
    return build_insert(dialect, table).values({name: bindparam(name) for name in _list_bound_columns(table)})


def _to_text_clause(statement: ClauseElement, dialect: str, table: Table) -> TextClause:
    """Return a statement as text. SQLAlchemy cannot cache an ON CONFLICT statement; it would compile it each time."""
    dialect_class: Any = registry.load(dialect)
    sql = str(statement.compile(dialect=dialect_class(paramstyle="named")))
    return text(sql).bindparams(
        *(bindparam(name, type_=table.columns[name].type) for name in _list_bound_columns(table))
    )


@cache
def build_delete(column: Column[object]) -> Delete:
    """Return a statement that deletes the rows whose column is ``of``."""
    return delete(column.table).where(column == bindparam("of"))


UNFINISHED_STATES = tuple(state.value for state in UNFINISHED_RUN_STATES)


@cache
def build_journal_insert(dialect: str) -> TextClause:
    """Return a statement that inserts a journal entry, unless an identical entry exists."""
    table = schema.journal
    return _to_text_clause(
        _build_bound_insert(dialect, table).on_conflict_do_nothing(index_elements=["digest"]), dialect, table
    )


def select_shard_ids(run_id: str) -> Select[tuple[str]]:
    """Return a query for the ids of a run's shards, begun or not. Each may come twice."""
    journal = schema.journal
    return select(journal.c.key).where(journal.c.run_id == run_id, journal.c.machine == "", journal.c.act == SHARD_ACT)


def list_shard_ids(connection: Connection, run_id: str) -> list[str]:
    """Return the ids of a run's shards, begun or not."""
    return sorted(set(connection.execute(select_shard_ids(run_id)).scalars()))
