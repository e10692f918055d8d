"""The database's errors become RecordsError here, once, with what a person can do about each."""

from collections.abc import Iterator
from contextlib import contextmanager

from sqlalchemy.exc import DBAPIError, SQLAlchemyError, StatementError
from sqlalchemy.exc import TimeoutError as PoolTimeout

from tasks.errors import RecordsError

_HINTS = (
    (
        "database is locked",
        "Another program holds the database: stop backups or shells that are open on it, or use PostgreSQL.",
    ),
    ("disk is full", "Make room on the disk that holds the records."),
    ("no space left", "Make room on the disk that holds the records."),
    (
        "disk i/o error",
        "The disk that holds the records fails: look at the system log, and restore a backup elsewhere.",
    ),
    (
        "readonly database",
        "Let this user write the records file and its folder, or point FLEETPATCH_RECORDS_URL elsewhere.",
    ),
    ("read-only transaction", "The server is a standby: point FLEETPATCH_RECORDS_URL at the primary."),
    (
        "unable to open database file",
        "Let this user write the records folder, or point FLEETPATCH_RECORDS_URL elsewhere.",
    ),
    ("file is not a database", "The file is something else: point FLEETPATCH_RECORDS_URL at another one."),
    ("malformed", "The records file is damaged: restore a backup."),
    ("no such table", "The tables were changed by hand: restore a backup."),
    ("no such column", "The tables were changed by hand: restore a backup."),
    ("undefinedtable", "The tables were changed by hand: restore a backup."),
    (
        "authentication failed",
        "Look at the user and the password in FLEETPATCH_RECORDS_URL, and at the server's pg_hba.conf.",
    ),
    ("no password supplied", "Give the password in FLEETPATCH_RECORDS_URL or in a ~/.pgpass file."),
    ("permission denied", "Give the database's user the rights to create and use tables in its schema."),
    ("too many clients", "Raise max_connections on the server, or run fewer controllers at a time."),
)
_UNREACHABLE = "Is the PostgreSQL server running, and does FLEETPATCH_RECORDS_URL name it rightly?"


@contextmanager
def translated(doing: str, place: str) -> Iterator[None]:
    """Raise RecordsError for every error of the database in the block.

    Args:
        doing: what is tried, to follow "can't": "save an outcome".
        place: the database as it may be shown (no password).
    """
    try:
        yield
    except PoolTimeout as error:
        raise RecordsError(
            f"can't {doing} in {place}: all connections are busy",
            hint="The database is slow or hangs: look at its load, or run fewer machines at a time.",
        ) from error
    except SQLAlchemyError as error:
        said = _said(error)
        raise RecordsError(f"can't {doing} in {place}: {said}", hint=_hint(error, said)) from error


def _said(error: SQLAlchemyError) -> str:
    """Return what the driver said, on one line, without the statement and its parameters."""
    original = error.orig if isinstance(error, StatementError) and error.orig is not None else error
    lines = [line.strip() for line in str(original).splitlines() if line.strip()]
    return lines[0] if lines else type(original).__name__


def _hint(error: SQLAlchemyError, said: str) -> str:
    original = type(getattr(error, "orig", error)).__name__
    text = f"{original} {said}".lower()
    for mark, hint in _HINTS:
        if mark in text:
            return hint
    lost = isinstance(error, DBAPIError) and (error.connection_invalidated or "connection" in text)
    return _UNREACHABLE if lost else ""
