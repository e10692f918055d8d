"""Finds the updates that machines have lacked for the longest time."""

from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import Column, Connection, FromClause, func, select

from tasks.records import schema
from tasks.records.storage.database import Database

_PENDING, _MISSING = schema.assessment_updates, schema.missing_fixes


@dataclass(frozen=True, slots=True)
class OldUpdate:
    """An update that a machine lacks.

    Attributes:
        since: since when it could have been installed.
        basis: how that is known: "missing" (the machine has lacked a fix of it since then), "seen" (an assessment first
            found it pending then), or "published" (by its publisher).
    """

    machine: str
    name: str
    since: datetime
    basis: str


def find_oldest_update(database: Database, counts: Callable[[str], bool]) -> OldUpdate | None:
    """Return the update that any machine has lacked for the longest time, as far as the records know.

    Args:
        database: the database of the records.
        counts: returns whether a machine counts, by its name.

    Raises:
        RecordsError: the records can't be read.
    """
    is_missing = (_PENDING.c.machine == _MISSING.c.machine) & (_PENDING.c.name == _MISSING.c.name)
    with database.begin_read("look for the oldest missing update") as connection:
        found = [
            _find_oldest(connection, "missing", _MISSING.c.since, _PENDING.join(_MISSING, is_missing), counts),
            _find_oldest(connection, "seen", _PENDING.c.since, _PENDING, counts),
            _find_oldest(connection, "published", _PENDING.c.published, _PENDING, counts),
        ]
    return min((each for each in found if each), key=lambda each: (each.since, each.machine, each.name), default=None)


def _find_oldest(
    connection: Connection, basis: str, since: Column[Any], source: FromClause, counts: Callable[[str], bool]
) -> OldUpdate | None:
    machines = select(_PENDING.c.machine, func.min(since, type_=since.type)).select_from(source)
    machines = machines.where(since.is_not(None)).group_by(_PENDING.c.machine)
    rows = [(at, machine) for machine, at in connection.execute(machines).tuples() if counts(machine)]
    if not rows:
        return None
    at, machine = min(rows)
    name = select(func.min(_PENDING.c.name)).select_from(source).where(_PENDING.c.machine == machine, since == at)
    return OldUpdate(machine, connection.execute(name).scalar_one(), at, basis)
