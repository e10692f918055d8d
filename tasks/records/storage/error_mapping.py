"""Translates the database's errors into RecordsError, with a hint. Decides which errors are transient."""

import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from sqlalchemy.exc import DBAPIError, OperationalError, SQLAlchemyError, StatementError
from sqlalchemy.exc import TimeoutError as PoolTimeout

from inventory.files.paths import StorageFault, build_storage_error, find_storage_fault, find_temporary_folder
from tasks.domain.errors import RecordsError, RecordsUnavailable
from tasks.records.storage.sqlite_file import RECORDS_ALTERNATIVE

_CHANGED_TABLES = "The tables were changed by hand: restore a backup."
_SSL_OPTIONS = "Look at the ssl options of FLEETPATCH_RECORDS_URL."
_OPTIONS = "Correct the port or the options in FLEETPATCH_RECORDS_URL."
_HINTS = {
    "is locked": "Another program locks the database: stop backups or shells that have it open, or use PostgreSQL.",
    "locking protocol": "Too many programs open the database at once: use PostgreSQL.",
    "no space left": "Make room on the disk of the database server.",
    "disk i/o error": (
        "The disk of the records fails: look at the system log. If it does, restore a backup on another disk."
    ),
    "readonly database": (
        "Let this user write the records file and its folder, or point FLEETPATCH_RECORDS_URL elsewhere."
    ),
    "read-only transaction": "The server is a standby: point FLEETPATCH_RECORDS_URL at the primary.",
    "unable to open database file": (
        "Let this user write the records folder, or point FLEETPATCH_RECORDS_URL elsewhere."
    ),
    "file is not a database": "The file is something else: point FLEETPATCH_RECORDS_URL at another one.",
    "malformed": "The records file is damaged: restore a backup.",
    "no such table": _CHANGED_TABLES,
    "no such column": _CHANGED_TABLES,
    "undefinedtable": _CHANGED_TABLES,
    "authentication failed": (
        "Look at the user and the password in FLEETPATCH_RECORDS_URL, and at the server's pg_hba.conf."
    ),
    "no password supplied": "Give the password in FLEETPATCH_RECORDS_URL or in a ~/.pgpass file.",
    "pg_hba.conf": "Allow this user and this host in the server's pg_hba.conf.",
    "certificate": _SSL_OPTIONS,
    "does not support ssl": _SSL_OPTIONS,
    "does not exist": (
        "Create what is missing (docs/reference/records.md), or name the right one in FLEETPATCH_RECORDS_URL."
    ),
    "permission denied": "Give the database's user the rights to create and use tables in its schema.",
    "invalid connection option": _OPTIONS,
    "bad value for": _OPTIONS,
    "argumenterror": _OPTIONS,
    "invalid integer": _OPTIONS,
    "invalid port": _OPTIONS,
    "info string": _OPTIONS,
    "too many clients": "Raise max_connections on the server, or run fewer controllers at a time.",
}
"""Remedies, by a part of the error's class name or message in lower case. The first that is found counts."""
_TRANSIENT_ERRORS = frozenset(
    {
        "is locked",
        "locking protocol",
        "no space left",
        "read-only transaction",  # during a failover
        "too many clients",
    }
)
_SQLITE_STORAGE_ERRORS = ("disk is full", "disk i/o error", "unable to open database file", "readonly database")
_DISK_FULL_SQLSTATE = "53100"
_MAX_MESSAGE_CHARACTERS = 500  # characters; the driver may quote a long value
_UNREACHABLE_HINT = "Is the PostgreSQL server running, and does FLEETPATCH_RECORDS_URL name it correctly?"
_TRANSIENT_SQLSTATES = ("08", "25P03", "40", "53", "55P03", "57")
"""SQLSTATEs, or their first two characters, of transient errors.

08: no connection; 25P03: idle transaction timeout; 40: rollback after a conflict; 53: no disk space or memory;
55P03: lock not available; 57: the server shuts down, starts, or cancels a statement.
"""


@contextmanager
def translate_errors(action: str, database_name: str) -> Iterator[None]:
    """Raise RecordsError for every database error in the block; RecordsUnavailable if the error is transient.

    Args:
        action: the action in words, for example "save an outcome". The message puts "can't" before it.
        database_name: the database's name for messages, without a password.
    """
    try:
        yield
    except PoolTimeout as error:
        raise RecordsUnavailable(
            f"can't {action} in {database_name}: all connections are busy",
            hint="The database is slow or hangs: look at its load, or run fewer machines at a time.",
        ) from error
    except SQLAlchemyError as error:
        # The first line of the driver's message, without the statement and its parameters.
        original = error.orig if isinstance(error, StatementError) and error.orig is not None else error
        lines = [line.strip() for line in str(original).splitlines() if line.strip()]
        message = lines[0][:_MAX_MESSAGE_CHARACTERS] if lines else type(original).__name__
        if (fault := _find_storage_fault(error, message, database_name)) is not None:
            raise build_storage_error(RecordsUnavailable, f"can't {action} in {database_name}", fault) from error
        is_transient, hint = _classify_error(error, message)
        kind = RecordsUnavailable if is_transient else RecordsError
        raise kind(f"can't {action} in {database_name}: {message}", hint=hint) from error


def _find_storage_fault(error: SQLAlchemyError, message: str, database_name: str) -> StorageFault | None:
    """Return why nothing could be written on a disk; None if that is not the reason.

    SQLite says "disk I/O error" when no space is left for its shared memory, and "unable to open database file" when
    none is left for a file beside the database. It also writes temporary files.
    """
    original = error.orig if isinstance(error, DBAPIError) else None
    if getattr(original, "sqlstate", None) == _DISK_FULL_SQLSTATE:
        return StorageFault(message, "Make room on the disk of the database server.")
    if not isinstance(original, sqlite3.Error) or not any(text in message.lower() for text in _SQLITE_STORAGE_ERRORS):
        return None
    fault = find_storage_fault(Path(database_name), find_temporary_folder(), alternative=RECORDS_ALTERNATIVE)
    if fault is None and _SQLITE_STORAGE_ERRORS[0] in message.lower():
        return StorageFault(
            message, f"Make room on the disk of the records, and look at this user's quota: {database_name}"
        )
    return fault


def _classify_error(error: SQLAlchemyError, message: str) -> tuple[bool, str]:
    """Return whether the error is transient, and a hint."""
    original = error.orig if isinstance(error, DBAPIError) else None
    text = f"{type(original or error).__name__} {message}".lower()
    state = getattr(original, "sqlstate", None) or ""
    is_transient = state.startswith(_TRANSIENT_SQLSTATES)
    for pattern, hint in _HINTS.items():
        if pattern in text:
            return pattern in _TRANSIENT_ERRORS or is_transient, hint
    # psycopg gives no SQLSTATE if the server is unreachable or the connection breaks. sqlite3 has no SQLSTATEs.
    unstated = isinstance(error, OperationalError) and hasattr(original, "sqlstate") and not state
    gone = unstated or (isinstance(error, DBAPIError) and error.connection_invalidated)
    return gone or is_transient, _UNREACHABLE_HINT if gone or state.startswith(("08", "57P")) else ""
