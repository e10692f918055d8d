"""Prepares the tables of a fleet: its schema, and what people had decided when fleets shared tables.

Until schema revision 0011 all fleets of a database had the same tables, which are now those of the fleet "default". A
fleet that gets its own begins with the rows that keep its machines from harm.
"""

import logging
from collections.abc import Mapping, Sequence
from typing import Any, Final

from sqlalchemy import Connection, Table, insert, select, text

from tasks.domain.errors import RecordsError
from tasks.records.fleet_stamp import fleet_stamp
from tasks.records.schema import held_updates, missing_fixes, opt_outs, retention, set_slots
from tasks.records.storage.database import Database

logger = logging.getLogger(__name__)

_INHERITED_TABLES: Final = (opt_outs, held_updates, set_slots, missing_fixes, retention)
"""Who takes no part in automatic patching, which updates nobody gets, which members of sets are drained, since when
fixes are missing, and how long history is kept. Slots of runs that are not here count only while they are drained.
"""
InheritedRows = Mapping[Table, Sequence[Mapping[str, Any]]]


def ensure_schema(connection: Connection, database: Database) -> None:
    """Create the fleet's schema if it has one and it is missing.

    Raises:
        RecordsError: the user of the connection may not.
    """
    if not database.schema:
        return
    exists = text("SELECT 1 FROM pg_namespace WHERE nspname = :name")
    if connection.execute(exists, {"name": database.schema}).first() is not None:
        return
    if not connection.execute(text("SELECT has_database_privilege(current_database(), 'CREATE')")).scalar_one():
        raise RecordsError(
            f"{database.display_name} has no tables yet, and its user may make none",
            hint="Is it the right name (FLEETPATCH_FLEET)? If so, start a worker of that fleet first. If its user does "
            f'not own the database: CREATE SCHEMA "{database.schema}" AUTHORIZATION user.',
        )
    connection.execute(text(f'CREATE SCHEMA "{database.schema}"'))


def read_inherited_rows(shared: Database) -> InheritedRows:
    """Return the rows with which a new fleet begins: none if fleets never shared these tables.

    Args:
        shared: the tables of the fleet "default", at the newest revision.

    Raises:
        RecordsError: the database cannot be reached.
    """
    with shared.begin_read("read what the fleets shared") as connection:
        if not connection.execute(select(fleet_stamp.c.was_shared)).scalar():
            return {}
        return {
            table: [dict(row) for row in connection.execute(select(table)).mappings()] for table in _INHERITED_TABLES
        }


def write_inherited_rows(connection: Connection, database: Database, inherited: InheritedRows) -> None:
    """Write the rows with which a new fleet begins."""
    for table, rows in inherited.items():
        if rows:
            connection.execute(insert(table), list(rows))
    logger.warning(
        "the fleet %s has tables of its own from now on in %s. What was recorded before stays in those of the fleet "
        "default; opt-outs, held updates and drained members were copied",
        database.fleet,
        database.display_name,
    )
