"""Says to which fleet tables belong, in the tables themselves: a renamed file is not taken for another fleet's."""

from datetime import datetime

from sqlalchemy import Boolean, Column, Connection, Table, insert, select

from tasks.domain.errors import RecordsError
from tasks.records.schema import metadata
from tasks.records.storage.column_types import KeyType, UtcDateTime
from tasks.records.storage.database import Database

fleet_stamp = Table(
    "fleet_stamp",
    metadata,
    Column("fleet", KeyType, primary_key=True),
    Column("was_shared", Boolean, nullable=False),
    Column("separated_at", UtcDateTime),
)
"""The fleet to which these tables belong, in one row. ``was_shared``: they are from before fleets had their own.

``separated_at`` is when the fleet left such tables: what was before is there. None: all its history is here.
"""


def stamp_tables(
    connection: Connection, database: Database, *, was_shared: bool, separated_at: datetime | None
) -> None:
    """Write to which fleet the tables belong, unless it is known."""
    if connection.execute(select(fleet_stamp.c.fleet)).first() is None:
        stamp = {"fleet": database.fleet, "was_shared": was_shared, "separated_at": separated_at}
        connection.execute(insert(fleet_stamp), stamp)


def read_separation_time(database: Database) -> datetime | None:
    """Return when the fleet left the tables that all fleets shared; None: all its history is in its own.

    Raises:
        RecordsError: the database cannot be reached.
    """
    with database.begin_read("read the beginning of the records") as connection:
        found: datetime | None = connection.execute(select(fleet_stamp.c.separated_at)).scalar()
    return found


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
