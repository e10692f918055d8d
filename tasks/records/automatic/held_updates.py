"""Stores updates that no new rollout may contain, on SQLite and PostgreSQL."""

from datetime import datetime
from typing import Any

from sqlalchemy import Row, select, update

from tasks.records import schema
from tasks.records.statements import build_row, upsert_row
from tasks.records.storage.database import Database
from tasks.rules.automatic.model import HeldUpdate

_HELD = schema.held_updates


class SqlHeldUpdates:
    """Held updates in a database. All threads of one process may share an object."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def add(self, held: HeldUpdate) -> bool:
        """Hold an update. Return whether it is new.

        An update that is held stays as it is. One that people have released is held again only if it failed in another
        rollout since: a decision that is carried out a second time does not undo their release.
        """
        again = _HELD.c.released_at.is_not(None) & (_HELD.c.rollout_id != held.rollout_id)
        with self._database.begin_write(f"hold the update {held.name}") as connection:
            return upsert_row(connection, _HELD, build_row(_HELD, held, released_by="", released_at=None), where=again)

    def release(self, name: str, version: str, who: str, at: datetime) -> tuple[HeldUpdate, ...]:
        """Release held updates of this name. Return those that were released now.

        ``version``: its version, with an id of Windows or without; "": all versions.
        """
        where = [
            _HELD.c.name == name,
            _HELD.c.released_at.is_(None),
            *([(_HELD.c.version + " ").startswith(f"{version} ", autoescape=True)] if version else []),
        ]
        with self._database.begin_write(f"release the update {name}") as connection:
            rows = connection.execute(select(_HELD).where(*where).with_for_update()).all()
            connection.execute(update(_HELD).where(*where).values(released_by=who, released_at=at))
        return tuple(map(_to_held_update, rows))

    def read_held(self) -> tuple[HeldUpdate, ...]:
        """Return the updates that are held now, oldest first."""
        query = select(_HELD).where(_HELD.c.released_at.is_(None)).order_by(_HELD.c.at, _HELD.c.name, _HELD.c.version)
        return tuple(map(_to_held_update, self._database.read_rows("read the held updates", query)))


def _to_held_update(row: Row[Any]) -> HeldUpdate:
    return HeldUpdate(row.name, row.version, row.reason, row.at, row.rollout_id)
