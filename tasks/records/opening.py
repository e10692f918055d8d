"""Opening the records: created when they aren't there, migrated when they are older, refused when they aren't ours."""

import errno
import os
import sqlite3
import stat
import threading
from contextlib import closing, suppress
from enum import Enum
from pathlib import Path
from typing import TYPE_CHECKING

from sqlalchemy import Connection, String, column, inspect, select, table, text

from tasks.errors import RecordsError
from tasks.records.address import address
from tasks.records.database import Database, switch_to_wal
from tasks.records.retention import write_retention
from tasks.records.schema import VERSION_TABLE
from tasks.records.sql import SqlRecords
from tasks.rules.retention import USUAL

if TYPE_CHECKING:  # Alembic takes longer to load than records that need no migration take to read
    from alembic.config import Config

_MIGRATIONS = Path(__file__).with_name("migrations")
_LOCK = 0x666C6565_74706163  # "fleetpac": any number will do, as long as every fleetpatch takes the same
_OWN = "Give fleetpatch a database of its own: CREATE DATABASE fleetpatch ENCODING 'UTF8' TEMPLATE template0."
_OWN_FILE = "That file is another program's: point FLEETPATCH_RECORDS_URL at one of fleetpatch's own."
_KINDS = {
    stat.S_IFDIR: "a directory",
    stat.S_IFIFO: "a pipe",
    stat.S_IFCHR: "a device",
    stat.S_IFBLK: "a device",
    stat.S_IFSOCK: "a socket",
}
_HINTS = {
    errno.ENAMETOOLONG: "Give a shorter path.",
    errno.ENOTDIR: "A part of this path is a file: correct it.",
    errno.EEXIST: "A part of this path is a file: correct it.",
}

_ONE_AT_A_TIME = threading.Lock()
"""Alembic keeps the migration that runs in a global of its module."""


class _Age(Enum):
    EMPTY = "empty"
    OLDER = "older"
    CURRENT = "current"


def open_records(url: str | None = None) -> SqlRecords:
    """Open the records, ready for use.

    Several processes may do so at once: one of them migrates, the others wait. An SQLite file is copied before it is
    migrated, to ``<name>.<revision>.bak`` beside it.

    Args:
        url: ``sqlite:///path`` or ``postgresql://…``; None: FLEETPATCH_RECORDS_URL, or else ``records.db`` in the
            user's data directory.

    Raises:
        RecordsError: it can't be reached, holds something else, or was written by a newer fleetpatch.
    """
    database = Database(address(url))
    try:
        if database.sqlite:
            _make_file(Path(str(database.url.database)))
        with database.reading("open the records") as connection:
            age = _age(connection, database)
        if database.sqlite:
            switch_to_wal(database)
        if age is not _Age.CURRENT:
            _migrate(database)
    except BaseException:
        database.close()
        raise
    return SqlRecords(database)


def _config() -> "Config":
    from alembic.config import Config  # noqa: PLC0415 - see above

    config = Config()
    config.set_main_option("script_location", str(_MIGRATIONS).replace("%", "%%"))
    return config


def newest_revision() -> str:
    """Return the revision that this version of fleetpatch brings a database to, as its migrations' files are named."""
    return max(path.name[1:5] for path in (_MIGRATIONS / "versions").glob("v[0-9][0-9][0-9][0-9]_*.py"))


def _make_file(path: Path) -> None:
    """Create an empty file that only its owner reads: what machines say may be confidential."""
    try:
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        if path.exists():
            _check_file(path)
        else:
            _create(path)
    except OSError as error:
        hint = _HINTS.get(error.errno or 0, "Let this user write there, or point FLEETPATCH_RECORDS_URL elsewhere.")
        raise RecordsError(f"can't use {path} for the records: {error.strerror}", hint=hint) from error
    except ValueError as error:  # a NUL
        raise RecordsError(f"can't use {str(path)!r} for the records: {error}", hint="Correct that path.") from error


def _create(path: Path) -> None:
    with suppress(FileExistsError):  # another process was quicker
        os.close(os.open(path, os.O_CREAT | os.O_RDWR | os.O_EXCL, 0o600))


def _check_file(path: Path) -> None:
    """Ask whether a file can be used, without opening it.

    Closing a file gives up all POSIX locks that this process holds on it, whoever took them: another connection of ours
    would go on without its lock, and a second process could remove the journal under it
    (https://www.sqlite.org/howtocorrupt.html, section 2.2).
    """
    kind = stat.S_IFMT(path.stat().st_mode)
    if kind != stat.S_IFREG:
        raise RecordsError(
            f"{path} can't hold the records: it is {_KINDS.get(kind, 'no file')}",
            hint="Name a file on a local disk: sqlite:////var/lib/fleetpatch/records.db (four slashes).",
        )
    if not os.access(path, os.R_OK | os.W_OK):
        raise PermissionError(errno.EACCES, os.strerror(errno.EACCES))


def _revision(connection: Connection) -> str | None:
    number = column("version_num", String)
    found: str | None = connection.execute(select(number).select_from(table(VERSION_TABLE))).scalar_one_or_none()
    return found


def _age(connection: Connection, database: Database) -> _Age:
    """Tell how a database compares with what we need.

    Raises:
        RecordsError: it isn't ours, is newer, or can't hold Unicode.
    """
    tables = set(inspect(connection).get_table_names())
    revision = _revision(connection) if VERSION_TABLE in tables else None
    if revision is None:
        if tables:
            names = ", ".join(sorted(tables)[:3])
            hint = _OWN_FILE if database.sqlite else _OWN
            raise RecordsError(f"{database.place} isn't a fleetpatch database: it holds {names}", hint=hint)
        _check_encoding(connection, database)
        return _Age.EMPTY
    if revision == newest_revision():
        return _Age.CURRENT
    from alembic.script import ScriptDirectory  # noqa: PLC0415 - see above

    scripts = ScriptDirectory.from_config(_config())
    known = {script.revision for script in scripts.walk_revisions()}
    if revision not in known:
        raise RecordsError(
            f"{database.place} was written by a newer fleetpatch: it is at revision {revision}, "
            f"and this one knows up to {scripts.get_current_head()}",
            hint="Upgrade fleetpatch here, or point FLEETPATCH_RECORDS_URL at another database; going back takes the "
            "backup that was made before the upgrade.",
        )
    return _Age.OLDER


def _check_encoding(connection: Connection, database: Database) -> None:
    if database.sqlite:
        return
    encoding = connection.execute(text("SHOW server_encoding")).scalar_one()
    if encoding != "UTF8":
        raise RecordsError(f"{database.place} has the encoding {encoding}; it has to be UTF8", hint=_OWN)


def _migrate(database: Database) -> None:
    """Bring the tables up to date in one transaction, which is the lock as well: all of it happens, or nothing."""
    with database.writing("migrate the records") as connection:
        if not database.sqlite:
            connection.execute(text("SET LOCAL lock_timeout = 0"))  # another process' migration may take its time
            connection.execute(text("SELECT pg_advisory_xact_lock(:lock)"), {"lock": _LOCK})
        age = _age(connection, database)  # again: another process may have been quicker
        if age is _Age.CURRENT:
            return
        if age is _Age.OLDER and database.sqlite:
            _back_up(Path(str(database.url.database)), str(_revision(connection)))
        migrate(connection)
        if age is _Age.EMPTY:  # a history that is already there was begun in the belief that it is kept forever
            write_retention(connection, USUAL)


def migrate(connection: Connection, revision: str = "head") -> None:
    """Run the migrations up to a revision, inside the transaction that the connection is in."""
    from alembic import command  # noqa: PLC0415 - see above

    config = _config()
    config.attributes["connection"] = connection
    with _ONE_AT_A_TIME:
        command.upgrade(config, revision)


def _back_up(path: Path, revision: str) -> None:
    """Copy the file as it is now. The caller holds the write lock, so that nothing changes meanwhile."""
    backup = path.with_name(f"{path.name}.{revision}.bak")
    partial = backup.with_name(f"{backup.name}.part")
    try:
        partial.unlink(missing_ok=True)
        os.close(os.open(partial, os.O_CREAT | os.O_EXCL | os.O_RDWR, 0o600))
        with closing(sqlite3.connect(path)) as source, closing(sqlite3.connect(partial)) as target:
            source.backup(target)
        partial.replace(backup)
    except (OSError, sqlite3.Error) as error:
        raise RecordsError(
            f"can't copy {path} to {backup} before migrating it: {error}",
            hint="Make room on that disk and let this user write the folder; nothing was changed.",
        ) from error
