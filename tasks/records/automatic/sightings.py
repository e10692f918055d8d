"""Stores when updates were first seen, and since when machines lack a fix, on SQLite and PostgreSQL."""

from collections.abc import Collection, Mapping, Sequence
from datetime import datetime

from sqlalchemy import Connection, bindparam, delete, select

from inventory.data_class import dataclass
from tasks.records import schema
from tasks.records.statements import build_insert, build_upsert
from tasks.records.storage.database import Database
from tasks.rules.automatic.deadlines import Sighting
from tasks.rules.automatic.model import UpdateKey

_SIGHTINGS, _MISSING = schema.update_sightings, schema.missing_fixes

MissingKey = tuple[str, str]
"""Names of a machine and of an update."""


@dataclass(frozen=True, slots=True)
class SightingChanges:
    """What is to be stored after new assessments."""

    sightings: Mapping[UpdateKey, Sighting]  # new updates, and those whose publication was not known before
    missing: Mapping[MissingKey, datetime]  # since when a machine lacks a fix of an update: new rows and changed ones
    fixed: Sequence[MissingKey] = ()  # rows of ``missing`` that end: the machine does not lack the fix any more

    @property
    def is_empty(self) -> bool:
        """Whether there is nothing to store."""
        return not (self.sightings or self.missing or self.fixed)


class SqlSightings:
    """Sightings and missing fixes in a database. All threads of one process may share an object."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def read_sightings(self) -> dict[UpdateKey, Sighting]:
        """Return all sightings."""
        rows = self._database.read_rows("read when updates were first seen", select(_SIGHTINGS))
        return {(name, version): Sighting(first_seen, published) for name, version, first_seen, published in rows}

    def read_missing(self, machines: Collection[str] | None = None) -> dict[MissingKey, datetime]:
        """Return since when machines lack fixes; of all machines if no names are given."""
        rows = self._database.read_rows("read which fixes are missing", select(_MISSING))
        machine_names = None if machines is None else frozenset(machines)
        return {
            (machine, name): since for machine, name, since in rows if machine_names is None or machine in machine_names
        }

    def save(self, changes: SightingChanges) -> None:
        """Store changes in one transaction."""
        if changes.is_empty:
            return
        with self._database.begin_write("record which fixes are missing") as connection:
            _save_sightings(connection, changes.sightings)
            if changes.missing:
                rows = [
                    {"machine": machine, "name": name, "since": since}
                    for (machine, name), since in sorted(changes.missing.items())
                ]
                connection.execute(build_upsert(connection.dialect.name, _MISSING, ("machine", "name")), rows)
            if changes.fixed:
                gone = delete(_MISSING).where(
                    _MISSING.c.machine == bindparam("of_machine"), _MISSING.c.name == bindparam("of_name")
                )
                rows = [{"of_machine": machine, "of_name": name} for machine, name in sorted(changes.fixed)]
                connection.execute(gone, rows)


def _save_sightings(connection: Connection, sightings: Mapping[UpdateKey, Sighting]) -> None:
    if not sightings:
        return
    insertion = build_insert(connection.dialect.name, _SIGHTINGS)
    insertion = insertion.on_conflict_do_update(
        index_elements=["name", "version"],
        set_={"first_seen": insertion.excluded.first_seen, "published": insertion.excluded.published},
        # A sighting that a wrong clock has dated later than it can be is replaced.
        where=_SIGHTINGS.c.published.is_(None) | (_SIGHTINGS.c.first_seen > insertion.excluded.first_seen),
    )
    rows = [
        {"name": name, "version": version, "first_seen": seen.first_seen, "published": seen.published}
        for (name, version), seen in sorted(sightings.items())  # a fixed order prevents deadlocks
    ]
    connection.execute(insertion, rows)
