"""Stores what automatic patching has told people, so that each is told once. On SQLite and PostgreSQL."""

from datetime import datetime

from sqlalchemy import select

from inventory.data_class import dataclass
from tasks.records import schema
from tasks.records.statements import insert_missing
from tasks.records.storage.database import Database

_ANNOUNCEMENTS = schema.announcements


@dataclass(frozen=True, slots=True)
class Announcement:
    """A message to people."""

    key: str
    at: datetime
    message: str


class SqlAnnouncements:
    """Announcements in a database. All threads of one process may share an object."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def add(self, key: str, message: str, at: datetime) -> bool:
        """Record that people were told. Return whether it is new."""
        with self._database.begin_write("record what people were told") as connection:
            return insert_missing(connection, _ANNOUNCEMENTS, {"key": key, "message": message, "at": at})

    def read_keys(self) -> frozenset[str]:
        """Return the keys of all announcements."""
        return frozenset(self._database.read_values("read what people were told", select(_ANNOUNCEMENTS.c.key)))

    def read_newest(self, limit: int = 20) -> tuple[Announcement, ...]:
        """Return the newest announcements, newest first."""
        query = select(_ANNOUNCEMENTS).order_by(_ANNOUNCEMENTS.c.at.desc(), _ANNOUNCEMENTS.c.key).limit(limit)
        rows = self._database.read_rows("read what people were told", query)
        return tuple(Announcement(row.key, row.at, row.message) for row in rows)
