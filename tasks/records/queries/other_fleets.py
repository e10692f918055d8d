"""To which fleet tables belong, by a stamp in the tables themselves, and which other fleets have history beside it.

So a renamed file is not taken for another fleet's, and an empty list of this fleet is not mistaken for good news.
"""

import glob
import sqlite3
from collections.abc import Iterator
from contextlib import closing, suppress
from pathlib import Path

from sqlalchemy import Column, Connection, Table, insert, select, text, true

from inventory.files.problems import did_you_mean
from tasks.domain.errors import RecordsError, RunNotFound
from tasks.records.fleets import DEFAULT_FLEET, REPLACED_PREFIX, build_file_path
from tasks.records.schema import metadata, runs, schema_version
from tasks.records.storage.column_types import KeyType
from tasks.records.storage.database import Database

fleet_stamp = Table("fleet_stamp", metadata, Column("fleet", KeyType, primary_key=True))
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


_NEAR_RUNS = 100
"""Among so many of the newest runs, a mistyped id is looked for."""
_SCHEMAS = text(
    """
    SELECT n.nspname, to_regclass(quote_ident(n.nspname) || '.fleet_stamp') IS NOT NULL
      FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
      WHERE c.relname = :version AND c.relkind = 'r' AND n.nspname <> current_schema()
        AND NOT starts_with(n.nspname::text, :replaced)
        AND has_schema_privilege(n.oid, 'USAGE') AND has_table_privilege(c.oid, 'SELECT')
      ORDER BY n.nspname
    """
)


def find_other_fleets(database: Database, run_id: str = "") -> tuple[str, ...]:
    """Return the other fleets that have runs in the same database, by name.

    Args:
        database: of this fleet.
        run_id: only those that have this run; "": any run.
    """
    if database.is_sqlite:
        return tuple(sorted(_read_files(database, run_id)))
    with database.begin_read("look for other fleets") as connection:
        return tuple(sorted(_read_schemas(connection, run_id)))


def _read_schemas(connection: Connection, run_id: str) -> Iterator[str]:
    some_run = select(runs.c.id).where(runs.c.id == run_id if run_id else true()).limit(1)
    for schema, is_stamped in connection.execute(
        _SCHEMAS, {"version": schema_version.name, "replaced": REPLACED_PREFIX}
    ).all():
        there = {"schema_translate_map": {None: schema}}
        if connection.execute(some_run, execution_options=there).first() is not None:
            stamp = connection.execute(select(fleet_stamp.c.fleet), execution_options=there) if is_stamped else None
            yield (stamp.scalar() if stamp is not None else None) or DEFAULT_FLEET


def _read_files(database: Database, run_id: str) -> Iterator[str]:
    shared = Path(str(database.shared_url.database))
    pattern = f"{glob.escape(shared.stem)}@*{glob.escape(shared.suffix)}"
    for path in (shared, *shared.parent.glob(pattern)):
        if path == build_file_path(shared, database.fleet) or not path.exists():
            continue
        with suppress(sqlite3.Error), closing(sqlite3.connect(f"{path.as_uri()}?mode=ro", uri=True)) as file:
            if file.execute("SELECT EXISTS (SELECT 1 FROM runs WHERE ? = '' OR id = ?)", (run_id, run_id)).fetchone()[
                0
            ]:
                yield _read_stamp(file)


def _read_stamp(file: sqlite3.Connection) -> str:
    with suppress(sqlite3.Error):  # from before there were stamps
        if (row := file.execute("SELECT fleet FROM fleet_stamp").fetchone()) is not None:
            return str(row[0])
    return DEFAULT_FLEET


def describe_other_fleets(database: Database) -> str:
    """Return a sentence about the other fleets of the database, with the remedy; "" without one."""
    others = find_other_fleets(database)
    if not others:
        return ""
    return f"This is the fleet {database.fleet}; this database also has: {', '.join(others)}. Set FLEETPATCH_FLEET."


def build_run_not_found(database: Database, run_id: str) -> RunNotFound:
    """Return the error for a run that this fleet does not have. It names the fleet that has it, or a similar run."""
    owners = find_other_fleets(database, run_id) if run_id else ()
    if owners:
        hint = f"Set FLEETPATCH_FLEET={owners[0]}."
        return RunNotFound(
            f"run {run_id} belongs to the fleet {owners[0]}, and this is the fleet {database.fleet}", hint=hint
        )
    newest = select(runs.c.id).order_by(runs.c.started_at.desc()).limit(_NEAR_RUNS)
    with database.begin_read("look for similar runs") as connection:
        near = did_you_mean(run_id, connection.execute(newest).scalars())
    hint = f"{near}`fleetpatch runs` lists them. {describe_other_fleets(database)}".strip()
    return RunNotFound(f"there is no run {run_id!r}", hint=hint)
