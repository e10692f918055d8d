"""Builds the indexes that records of an earlier release lack, without a pause for those who write.

A migration makes its changes in one transaction. All writers of a table of millions of rows would wait for an index in
it. Without these indexes everything works, only slower: so they need no migration, and a later process builds them.
"""

from collections.abc import Iterator
from typing import Final

from sqlalchemy import Connection, Index, MetaData, Table, inspect, text
from sqlalchemy.schema import CreateIndex, DropIndex

from tasks.records.storage.database import LOCK_TIMEOUT_SECONDS, Database

TAKES_PLACE_OF: Final = "takes_place_of"
"""The key in ``info`` of an index that is built in this way. Its value is the name of the index that it replaces."""


def build_missing_indexes(database: Database, metadata: MetaData) -> tuple[str, ...]:
    """Build the indexes that are missing, and drop those whose place they take.

    On PostgreSQL, others read and write meanwhile. It waits for transactions that began before, each at most as long as
    a writer waits for a lock. What an attempt left that was broken off is built anew; what another process is building
    is left to it. On SQLite, writers wait.

    ``metadata``: the tables with their indexes.

    Returns:
        The names of the indexes that were built.

    Raises:
        RecordsError: an index can't be built. The others are.
    """
    missing = list(_find_missing(database, metadata))
    for table, index in missing:
        if database.is_sqlite:
            with database.begin_write("build an index") as connection:
                index.create(connection, checkfirst=True)
                connection.execute(text(f'DROP INDEX IF EXISTS "{index.info[TAKES_PLACE_OF]}"'))
        else:
            _build_concurrently(database, table, index)
    return tuple(str(index.name) for _, index in missing)


def _find_missing(database: Database, metadata: MetaData) -> Iterator[tuple[Table, Index]]:
    indexes = [(t, index) for t in metadata.sorted_tables for index in t.indexes if TAKES_PLACE_OF in index.info]
    with database.begin_read("look for missing indexes") as connection:
        for table, index in indexes:
            if database.is_sqlite:
                is_missing = index.name not in {
                    present["name"] for present in inspect(connection).get_indexes(table.name)
                }
            else:
                is_missing = _is_missing(connection, table, index)
            if is_missing:
                yield table, index


_STATE = text(
    "SELECT i.indisvalid, EXISTS (SELECT FROM pg_stat_progress_create_index p WHERE p.index_relid = i.indexrelid), "
    "pg_has_role(t.relowner, 'USAGE') FROM pg_class t LEFT JOIN (pg_index i JOIN pg_class c ON c.oid = i.indexrelid "
    "AND c.relname = :index) ON i.indrelid = t.oid WHERE t.oid = to_regclass(:table)"
)


def _is_missing(connection: Connection, table: Table, index: Index) -> bool:
    """Return whether this process has to build an index: it owns the table, and no other process is building it."""
    names = {"index": index.name, "table": f'"{table.name}"'}
    is_valid, is_being_built, is_owner = connection.execute(_STATE, names).tuples().one()
    return bool(is_owner and not is_valid and not is_being_built)


def _build_concurrently(database: Database, table: Table, index: Index) -> None:
    """Build an index outside of a transaction, on a connection of its own."""
    copy = table.to_metadata(MetaData(), schema=database.schema or None)  # type: ignore[arg-type]  # None: no schema
    indexes = {copied.name: copied for copied in copy.indexes}
    wanted, replaced = indexes[index.name], Index(index.info[TAKES_PLACE_OF], copy.c[index.columns[0].name])
    for changed in (wanted, replaced):
        changed.dialect_options["postgresql"]["concurrently"] = True
    with database.open_autocommit("build an index") as connection:
        connection.execute(text(f"SET lock_timeout = '{LOCK_TIMEOUT_SECONDS:.0f}s'"))
        connection.execute(DropIndex(wanted, if_exists=True))  # of an attempt that was broken off
        connection.execute(CreateIndex(wanted))
        connection.execute(DropIndex(replaced, if_exists=True))
