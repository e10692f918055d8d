"""Says to which fleet tables belong, in the tables themselves: a renamed file is not taken for another fleet's."""

from sqlalchemy import Column, Connection, Table, insert, select

from tasks.domain.errors import RecordsError
from tasks.records.schema import metadata
from tasks.records.storage.column_types import KeyType
from tasks.records.storage.database import Database

fleet_stamp = Table(
    "fleet_stamp",
    metadata,
    Column("fleet", KeyType, primary_key=True),
)
"""The fleet to which these tables belong, in one row."""


def stamp_tables(connection: Connection, database: Database) -> None:
    """Write to which fleet the tables belong, unless it is known."""
    if connection.execute(select(fleet_stamp.c.fleet)).first() is None:
        connection.execute(insert(fleet_stamp), {"fleet": database.fleet})


def require_own_stamp(connection: Connection, database: Database) -> None:
    """Refuse the tables of another fleet: a file was renamed, or a backup was restored in the wrong place.

    Raises:
        RecordsError: they are another one's.
    """
    stamp = connection.execute(select(fleet_stamp.c.fleet)).scalar()
    if stamp is not None and stamp != database.fleet:
        raise RecordsError(
            f"{database.display_name} has the records of the fleet {stamp}, and not those of {database.fleet}",
            hint="Was a file renamed, or a backup restored in the wrong place? Put it back under its own name; the "
            "fleet of a process is in FLEETPATCH_FLEET (docs/reference/records.md).",
        )
