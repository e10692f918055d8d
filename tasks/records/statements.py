"""Builds the statements that a run sends for every machine, once each.

They are cached because SQLAlchemy takes longer to build one than to send it.
"""

from functools import cache

from sqlalchemy import ClauseElement, Column, Delete, Select, Table, TextClause, bindparam, delete, exists, select, text
from sqlalchemy.dialects import postgresql, sqlite

from tasks.records import schema

_AUTO_NUMBER_COLUMN = "number"  # the database fills it


@cache
def build_upsert(dialect: str, table: Table, key: tuple[str, ...]) -> TextClause:
    """Return a statement that inserts a complete row or replaces the row with the same key.

    The statement returns the first column of the primary key.
    """
    made = _build_insert(dialect, table)
    changes = {name: made.excluded[name] for name in _list_bound_columns(table) if name not in key}
    first = next(iter(table.primary_key.columns))
    return _to_text_clause(
        made.on_conflict_do_update(index_elements=key, set_=changes).returning(first), dialect, table
    )


@cache
def build_journal_insert(dialect: str) -> TextClause:
    """Return a statement that inserts a journal entry, unless an identical entry exists."""
    table = schema.journal
    return _to_text_clause(
        _build_insert(dialect, table).on_conflict_do_nothing(index_elements=["digest"]), dialect, table
    )


def _list_bound_columns(table: Table) -> list[str]:
    return [column.name for column in table.columns if column.name != _AUTO_NUMBER_COLUMN]


def _build_insert(dialect: str, table: Table) -> sqlite.Insert | postgresql.Insert:
    made = sqlite.insert(table) if dialect == "sqlite" else postgresql.insert(table)
    return made.values({name: bindparam(name) for name in _list_bound_columns(table)})


def _to_text_clause(statement: ClauseElement, dialect: str, table: Table) -> TextClause:
    """Return a statement as text. SQLAlchemy cannot cache an ON CONFLICT statement; it would compile it each time."""
    dialect_class = sqlite.dialect if dialect == "sqlite" else postgresql.dialect
    sql = str(statement.compile(dialect=dialect_class(paramstyle="named")))
    return text(sql).bindparams(
        *(bindparam(name, type_=table.columns[name].type) for name in _list_bound_columns(table))
    )


@cache
def build_journal_query(*, of_machine: bool) -> Select[tuple[str]]:
    """Return a query for the journal of run ``of_run``, or only of its machine ``of_machine``, oldest entry first."""
    table = schema.journal
    query = select(table.c.document).where(table.c.run_id == bindparam("of_run")).order_by(table.c.number)
    return query.where(table.c.machine == bindparam("of_machine")) if of_machine else query


@cache
def build_samples_query(limit: int) -> Select[tuple[float]]:
    """Return a query for the newest samples of ``of_measure`` of ``of_machine``, newest first."""
    table = schema.measures
    query = select(table.c.value).where(table.c.machine == bindparam("of_machine"))
    query = query.where(table.c.measure == bindparam("of_measure"))
    return query.order_by(table.c.at.desc(), table.c.run_id.desc()).limit(limit)


@cache
def build_newer_assessment_query() -> Select[tuple[bool]]:
    """Return a query whether ``of_machine`` has an assessment with an answer that is newer than ``after``."""
    table = schema.assessments
    newer = exists().where(table.c.machine == bindparam("of_machine"), table.c.at > bindparam("after"))
    return select(newer.where(table.c.known))


@cache
def build_delete(column: Column[object]) -> Delete:
    """Return a statement that deletes the rows whose column is ``of``."""
    return delete(column.table).where(column == bindparam("of"))
