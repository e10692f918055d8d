"""Opens the records: creates a missing database, migrates an older one, refuses the database of another program."""

import threading
from enum import Enum
from pathlib import Path
from typing import TYPE_CHECKING

from sqlalchemy import Connection, insert, inspect, select, text
from sqlalchemy.engine import URL

from tasks.domain.errors import RecordsError
from tasks.records.fleets import find_fleet
from tasks.records.queries.other_fleets import require_own_stamp, stamp_tables
from tasks.records.schema import metadata, schema_version
from tasks.records.sql_records import SqlRecords
from tasks.records.storage.database import LOCK_TIMEOUT_SECONDS, Database, enable_wal
from tasks.records.storage.sqlite_file import back_up_sqlite_file, ensure_sqlite_file
from tasks.records.storage.url import find_records_url
from tasks.rules.retention import DEFAULT_RETENTION

if TYPE_CHECKING:  # Alembic loads slowly; records that need no migration do not need it
    from alembic.config import Config

_MIGRATIONS_DIRECTORY = Path(__file__).with_name("migrations")
_MIGRATION_LOCK_ID = 0x666C6565_74706163  # "fleetpac": an arbitrary number; every fleetpatch must use the same one
_OWN_DATABASE_HINT = (
    "Give fleetpatch a database of its own: CREATE DATABASE fleetpatch ENCODING 'UTF8' TEMPLATE template0."
)
_OWN_FILE_HINT = "That file is another program's: point FLEETPATCH_RECORDS_URL at one of fleetpatch's own."

_ALEMBIC_LOCK = threading.Lock()
"""Only one migration at a time: Alembic keeps the current migration in a module global."""


class _SchemaStatus(Enum):
    EMPTY = "empty"
    OLDER = "older"
    CURRENT = "current"


def open_records(url: str | None = None, *, fleet: str | None = None) -> SqlRecords:
    """Open the records of a fleet. Create or migrate the database if that is necessary.

    Several processes may call this at the same time: one migrates, the others wait. Before a migration, an SQLite file
    is copied to ``<name>.<revision>.bak`` in the same directory.

    Args:
        url: ``sqlite:///path`` or ``postgresql://…``. None: FLEETPATCH_RECORDS_URL, or ``records.db`` in the user's
            data directory if that variable is not set.
        fleet: the fleet. None: that of this process, see ``find_fleet``.

    Raises:
        RecordsError: the database cannot be reached, belongs to another program or fleet, or was written by a newer
            fleetpatch; FLEETPATCH_FLEET is no usable name.
    """
    return SqlRecords(_open_database(find_records_url(url), find_fleet() if fleet is None else fleet))


def _open_database(url: URL, fleet: str) -> Database:
    database = Database(url, fleet)
    try:
        if database.is_sqlite:
            ensure_sqlite_file(Path(str(database.url.database)))
        with database.begin_read("open the records") as connection:
            status = _find_schema_status(connection, database)
        if database.is_sqlite:
            enable_wal(database)
        if status is not _SchemaStatus.CURRENT:
            _migrate_to_newest(database)
    except BaseException:
        database.close()
        raise
    return database


def _build_alembic_config() -> "Config":
    from alembic.config import Config  # noqa: PLC0415 - see above

    config = Config()
    config.set_main_option("script_location", str(_MIGRATIONS_DIRECTORY).replace("%", "%%"))
    return config


def find_newest_revision() -> str:
    """Return the newest schema revision of this fleetpatch. It comes from the names of the migration files."""
    return max(path.name[1:5] for path in (_MIGRATIONS_DIRECTORY / "versions").glob("v[0-9][0-9][0-9][0-9]_*.py"))


def _find_schema_status(connection: Connection, database: Database) -> _SchemaStatus:
    """Return whether the database is empty, older or current.

    Raises:
        RecordsError: the database belongs to another program, is newer, or does not use UTF-8.
    """
    tables = set(inspect(connection).get_table_names())
    revision = (
        connection.execute(select(schema_version)).scalar_one_or_none() if schema_version.name in tables else None
    )
    if revision is None:
        if tables:
            names = ", ".join(sorted(tables)[:3])
            hint = _OWN_FILE_HINT if database.is_sqlite else _OWN_DATABASE_HINT
            raise RecordsError(f"{database.display_name} isn't a fleetpatch database: it contains {names}", hint=hint)
        _require_utf8(connection, database)
        return _SchemaStatus.EMPTY
    if revision == find_newest_revision():
        require_own_stamp(connection, database)
        return _SchemaStatus.CURRENT
    from alembic.script import ScriptDirectory  # noqa: PLC0415 - see above

    scripts = ScriptDirectory.from_config(_build_alembic_config())
    known_revisions = {script.revision for script in scripts.walk_revisions()}
    if revision not in known_revisions:
        raise RecordsError(
            f"{database.display_name} was written by a newer fleetpatch: it is at revision {revision}, "
            f"and this one knows up to {scripts.get_current_head()}",
            hint="Upgrade fleetpatch here, or point FLEETPATCH_RECORDS_URL at another database; going back takes the "
            "backup that was made before the upgrade.",
        )
    return _SchemaStatus.OLDER


def _require_utf8(connection: Connection, database: Database) -> None:
    if database.is_sqlite:
        return
    encoding = connection.execute(text("SHOW server_encoding")).scalar_one()
    if encoding != "UTF8":
        raise RecordsError(
            f"{database.display_name} has the encoding {encoding}; it has to be UTF8", hint=_OWN_DATABASE_HINT
        )


def _migrate_to_newest(database: Database) -> None:
    """Create the tables, or migrate them to the newest revision, in one transaction: completely or not at all.

    The transaction also holds the lock against other processes.
    """
    from tasks.records.pages_role import grant_pages_role  # noqa: PLC0415 - as Alembic: only a migration needs it
    from tasks.records.retention import replace_retention_rows  # noqa: PLC0415 - the same

    with database.begin_write("migrate the records") as connection:
        if not database.is_sqlite:
            connection.execute(text("SET LOCAL lock_timeout = 0"))  # another process's migration may be slow
            connection.execute(text("SELECT pg_advisory_xact_lock(:lock)"), {"lock": _MIGRATION_LOCK_ID})
            # All readers and writers of a table wait behind a migration that waits for it.
            connection.execute(text(f"SET LOCAL lock_timeout = '{LOCK_TIMEOUT_SECONDS:.3f}s'"))
            ensure_schema(connection, database)
        status = _find_schema_status(connection, database)  # check again: another process may have migrated
        if status is _SchemaStatus.CURRENT:
            return
        _require_right_to_migrate(connection, database)
        if status is _SchemaStatus.EMPTY:
            create_tables(connection)
        else:
            if database.is_sqlite:
                revision = connection.execute(select(schema_version)).scalar_one()
                back_up_sqlite_file(Path(str(database.url.database)), revision)
            run_migrations(connection)
        stamp_tables(connection, database)
        if not database.is_sqlite:
            grant_pages_role(connection)
        if status is _SchemaStatus.EMPTY:
            replace_retention_rows(connection, DEFAULT_RETENTION)


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


def _require_right_to_migrate(connection: Connection, database: Database) -> None:
    """Raise RecordsError before a migration by a role that can make no table: that of the pages."""
    right = text("SELECT has_schema_privilege(current_schema(), 'CREATE')")
    if not database.is_sqlite and not connection.execute(right).scalar_one():
        raise RecordsError(
            f"{database.display_name} has no tables of this version, and its user may make none",
            hint="Start a worker of this version first, or any command with the URL of the workers.",
        )


def create_tables(connection: Connection) -> None:
    """Create the tables as this fleetpatch has them, in the connection's current transaction."""
    metadata.create_all(connection, checkfirst=False)
    schema_version.create(connection)
    connection.execute(insert(schema_version), {"version_num": find_newest_revision()})


def run_migrations(connection: Connection, revision: str = "head") -> None:
    """Run the migrations up to a revision, in the connection's current transaction."""
    from alembic import command  # noqa: PLC0415 - see above

    config = _build_alembic_config()
    config.attributes["connection"] = connection
    with _ALEMBIC_LOCK:
        command.upgrade(config, revision)
