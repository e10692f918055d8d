"""The database's errors become RecordsError here, once: whether they may pass, and what a person can do about each."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import NamedTuple

from sqlalchemy.exc import DBAPIError, OperationalError, SQLAlchemyError, StatementError
from sqlalchemy.exc import TimeoutError as PoolTimeout

from tasks.errors import RecordsError, RecordsUnavailable


class _Fault(NamedTuple):
    """What a driver says, and what that means."""

    mark: str  # in the kind of its error or in its words, in lower case
    transient: bool
    hint: str


_FAULTS = (
    _Fault(
        "is locked",
        transient=True,
        hint="Another program holds the database: stop backups or shells that are open on it, or use PostgreSQL.",
    ),
    _Fault("locking protocol", transient=True, hint="Too many programs open the database at once: use PostgreSQL."),
    _Fault("disk is full", transient=True, hint="Make room on the disk that holds the records."),
    _Fault("no space left", transient=True, hint="Make room on the disk that holds the records."),
    _Fault(
        "disk i/o error",
        transient=False,
        hint="The disk that holds the records fails: look at the system log, and restore a backup elsewhere.",
    ),
    _Fault(
        "readonly database",
        transient=False,
        hint="Let this user write the records file and its folder, or point FLEETPATCH_RECORDS_URL elsewhere.",
    ),
    _Fault(
        "read-only transaction",
        transient=True,  # while the primary's address moves to another server
        hint="The server is a standby: point FLEETPATCH_RECORDS_URL at the primary.",
    ),
    _Fault(
        "unable to open database file",
        transient=False,
        hint="Let this user write the records folder, or point FLEETPATCH_RECORDS_URL elsewhere.",
    ),
    _Fault(
        "file is not a database",
        transient=False,
        hint="The file is something else: point FLEETPATCH_RECORDS_URL at another one.",
    ),
    _Fault("malformed", transient=False, hint="The records file is damaged: restore a backup."),
    _Fault("no such table", transient=False, hint="The tables were changed by hand: restore a backup."),
    _Fault("no such column", transient=False, hint="The tables were changed by hand: restore a backup."),
    _Fault("undefinedtable", transient=False, hint="The tables were changed by hand: restore a backup."),
    _Fault(
        "authentication failed",
        transient=False,
        hint="Look at the user and the password in FLEETPATCH_RECORDS_URL, and at the server's pg_hba.conf.",
    ),
    _Fault(
        "no password supplied",
        transient=False,
        hint="Give the password in FLEETPATCH_RECORDS_URL or in a ~/.pgpass file.",
    ),
    _Fault("pg_hba.conf", transient=False, hint="Let this user and host in, in the server's pg_hba.conf."),
    _Fault("certificate", transient=False, hint="Look at the ssl options of FLEETPATCH_RECORDS_URL."),
    _Fault("does not support ssl", transient=False, hint="Look at the ssl options of FLEETPATCH_RECORDS_URL."),
    _Fault(
        "does not exist",
        transient=False,
        hint="Create what is missing (docs/records.md), or name the right one in FLEETPATCH_RECORDS_URL.",
    ),
    _Fault(
        "permission denied",
        transient=False,
        hint="Give the database's user the rights to create and use tables in its schema.",
    ),
    *(
        _Fault(mark, transient=False, hint="Correct the port or the options in FLEETPATCH_RECORDS_URL.")
        for mark in (
            "invalid connection option",
            "bad value for",
            "argumenterror",
            "invalid integer",
            "invalid port",
            "info string",
        )
    ),
    _Fault(
        "too many clients",
        transient=True,
        hint="Raise max_connections on the server, or run fewer controllers at a time.",
    ),
)
_MOST_SAID = 500  # characters; a value that is quoted may be of any length
_AWAY = "Is the PostgreSQL server running, and does FLEETPATCH_RECORDS_URL name it rightly?"
_PASSING = ("08", "25P03", "40", "53", "55P03", "57")
"""SQLSTATEs, or their first two characters, of what passes: no connection, a transaction that was idle for too long,
conflicts, no room or memory, locks, and a server that is going down, starting up or ends a statement."""


@contextmanager
def translated(doing: str, place: str) -> Iterator[None]:
    """Raise RecordsError for every error of the database in the block; RecordsUnavailable where it may pass by itself.

    Args:
        doing: what is tried, to follow "can't": "save an outcome".
        place: the database as it may be shown (no password).
    """
    try:
        yield
    except PoolTimeout as error:
        raise RecordsUnavailable(
            f"can't {doing} in {place}: all connections are busy",
            hint="The database is slow or hangs: look at its load, or run fewer machines at a time.",
        ) from error
    except SQLAlchemyError as error:
        said = _said(error)
        transient, hint = _judged(error, said)
        kind = RecordsUnavailable if transient else RecordsError
        raise kind(f"can't {doing} in {place}: {said}", hint=hint) from error


def _said(error: SQLAlchemyError) -> str:
    """Return what the driver said, on one line, without the statement and its parameters."""
    original = error.orig if isinstance(error, StatementError) and error.orig is not None else error
    lines = [line.strip() for line in str(original).splitlines() if line.strip()]
    return lines[0][:_MOST_SAID] if lines else type(original).__name__


def _judged(error: SQLAlchemyError, said: str) -> tuple[bool, str]:
    """Return whether it may pass by itself, and what a person can do."""
    original = error.orig if isinstance(error, DBAPIError) else None
    text = f"{type(original or error).__name__} {said}".lower()
    state = getattr(original, "sqlstate", None) or ""
    passing = state.startswith(_PASSING)
    for fault in _FAULTS:
        if fault.mark in text:
            return fault.transient or passing, fault.hint
    # Of a server that can't be reached, or is gone half-way, psycopg has words only; sqlite3 has no states at all.
    unstated = isinstance(error, OperationalError) and hasattr(original, "sqlstate") and not state
    gone = unstated or (isinstance(error, DBAPIError) and error.connection_invalidated)
    return gone or passing, _AWAY if gone or state.startswith(("08", "57P")) else ""
