"""The statements that a run sends for every machine, made once: SQLAlchemy takes longer to make one than to send it."""

from functools import cache

from sqlalchemy import ClauseElement, Column, Delete, Select, Table, TextClause, bindparam, delete, exists, select, text
from sqlalchemy.dialects import postgresql, sqlite

from tasks.records import schema

_AUTO_NUMBER_COLUMN = "number"  # filled by the database


@cache
def build_upsert(dialect: str, table: Table, key: tuple[str, ...]) -> TextClause:
    """Return what inserts a row, all of its columns given, or replaces the one with the same key.

    It returns the first column of the primary key.
    """
    made = _build_insert(dialect, table)
    changes = {name: made.excluded[name] for name in _list_bound_columns(table) if name not in key}
    first = next(iter(table.primary_key.columns))
    return _to_text_clause(
        made.on_conflict_do_update(index_elements=key, set_=changes).returning(first), dialect, table
    )


@cache
def build_journal_insert(dialect: str) -> TextClause:
    """Return what inserts a journal entry, unless the very same is there."""
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
    """Return a statement as text: one with ON CONFLICT has no cache key, so SQLAlchemy compiles it anew each time."""
    dialect_class = sqlite.dialect if dialect == "sqlite" else postgresql.dialect
    sql = str(statement.compile(dialect=dialect_class(paramstyle="named")))
    return text(sql).bindparams(
        *(bindparam(name, type_=table.columns[name].type) for name in _list_bound_columns(table))
    )


@cache
def build_journal_query(*, of_machine: bool) -> Select[tuple[str]]:
    """Return what reads the journal of the run ``of_run``, or of its machine ``of_machine``, oldest first."""
    table = schema.journal
    query = select(table.c.document).where(table.c.run_id == bindparam("of_run")).order_by(table.c.number)
    return query.where(table.c.machine == bindparam("of_machine")) if of_machine else query


@cache
def build_samples_query(limit: int) -> Select[tuple[float]]:
    """Return what reads the newest samples of ``of_measure`` of ``of_machine``, newest first."""
    table = schema.measures
    query = select(table.c.value).where(table.c.machine == bindparam("of_machine"))
    query = query.where(table.c.measure == bindparam("of_measure"))
    return query.order_by(table.c.at.desc(), table.c.run_id.desc()).limit(limit)


@cache
def build_newer_assessment_query() -> Select[tuple[bool]]:
    """Return what asks whether ``of_machine`` has an assessment with an answer that was made after ``after``."""
    table = schema.assessments
    newer = exists().where(table.c.machine == bindparam("of_machine"), table.c.at > bindparam("after"))
    return select(newer.where(table.c.known))


@cache
def build_delete(column: Column[object]) -> Delete:
    """Return what deletes rows whose column is ``of``."""
    return delete(column.table).where(column == bindparam("of"))
