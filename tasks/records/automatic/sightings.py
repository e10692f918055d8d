"""Stores when updates were first seen, and since when machines lack a fix, on SQLite and PostgreSQL."""

from collections.abc import Collection, Iterable, Mapping, Set
from dataclasses import replace
from datetime import datetime

from sqlalchemy import Connection, bindparam, delete, select

from tasks.domain.compliance import find_clock_problem
from tasks.domain.model import Assessment, PackageState, Selection, UpdateKey
from tasks.records import schema
from tasks.records.statements import build_insert, build_upsert, iterate_batches
from tasks.records.storage.column_types import to_index_key
from tasks.records.storage.database import Database

_SIGHTINGS, _MISSING = schema.update_sightings, schema.missing_fixes

MissingKey = tuple[str, str]
"""Names of a machine and of an update."""


def read_missing_fixes(database: Database, machines: Collection[str] | None = None) -> dict[MissingKey, datetime]:
    """Return since when machines lack fixes; of all machines if no names are given."""
    rows = database.read_rows("read which fixes are missing", select(_MISSING))
    names = None if machines is None else frozenset(machines)
    return {(machine, name): since for machine, name, since in rows if names is None or machine in names}


def save_missing_fixes(
    database: Database, missing: Mapping[MissingKey, datetime], fixed: Collection[MissingKey] = ()
) -> None:
    """Store in one transaction since when machines lack fixes, and forget those of ``fixed``, which they have now."""
    if not (missing or fixed):
        return
    with database.begin_write("record which fixes are missing") as connection:
        if missing:
            rows = [
                {"machine": machine, "name": name, "since": since} for (machine, name), since in sorted(missing.items())
            ]
            connection.execute(build_upsert(connection.dialect.name, _MISSING, ("machine", "name")), rows)
        if fixed:
            gone = delete(_MISSING).where(
                _MISSING.c.machine == bindparam("of_machine"), _MISSING.c.name == bindparam("of_name")
            )
            connection.execute(gone, [{"of_machine": machine, "of_name": name} for machine, name in sorted(fixed)])


def read_first_seen(database: Database, updates: Set[UpdateKey] | None = None) -> dict[UpdateKey, datetime]:
    """Return when an assessment of any machine first saw each of these updates (None: all), as far as that is known."""
    query = select(_SIGHTINGS.c.name, _SIGHTINGS.c.version, _SIGHTINGS.c.first_seen)
    if updates is None:
        rows = database.read_rows("read when updates were first seen", query)
        return {(name, version): first_seen for name, version, first_seen in rows}
    by_stored_key = {(to_index_key(name), to_index_key(version)): (name, version) for name, version in updates}
    with database.begin_read("read when updates were first seen") as connection:
        return {
            by_stored_key[name, version]: first_seen
            for names in iterate_batches(sorted({name for name, _ in by_stored_key}))
            for name, version, first_seen in connection.execute(query.where(_SIGHTINGS.c.name.in_(names))).tuples()
            if (name, version) in by_stored_key
        }


def with_first_seen(database: Database, selection: Selection, states: Iterable[PackageState | None]) -> Selection:
    """Return a selection, with the first sights of what machines were offered if it has a limit of publication."""
    if selection.published_before is None:
        return selection
    updates = frozenset(key for state in states if state is not None for key in state.versions)
    return replace(selection, first_seen=tuple(read_first_seen(database, updates).items()))


def save_first_seen(
    connection: Connection, assessments: Iterable[Assessment], stored: Mapping[UpdateKey, datetime]
) -> dict[UpdateKey, datetime]:
    """Store the first sights of the updates of all assessments of a transaction, and return them.

    ``stored``: what need not be stored again. All machines of a fleet lack the same updates, so most is.
    """
    first_seen: dict[UpdateKey, datetime] = {}
    for assessment in assessments:
        facts, packages = assessment.facts, assessment.packages
        if packages is None or (facts and find_clock_problem(facts.clock_skew_seconds, facts.clock_error_seconds)):
            continue  # the wrong clock may be the controller's
        for key in packages.versions:
            if key not in stored or assessment.at < stored[key]:
                first_seen[key] = min(first_seen.get(key, assessment.at), assessment.at)
    if first_seen:
        insertion = build_insert(connection.dialect.name, _SIGHTINGS)
        insertion = insertion.on_conflict_do_update(
            index_elements=["name", "version"],
            set_={"first_seen": insertion.excluded.first_seen},
            where=_SIGHTINGS.c.first_seen > insertion.excluded.first_seen,
        )
        rows = [
            {"name": name, "version": version, "first_seen": at}
            for (name, version), at in sorted(first_seen.items())  # a fixed order prevents deadlocks
        ]
        connection.execute(insertion, rows)
    return first_seen
