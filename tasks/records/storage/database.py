"""Opens the database with durable transactions: a committed transaction survives a power cut."""

import os
import sqlite3
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final
from weakref import WeakSet, WeakValueDictionary

from sqlalchemy import Connection, Engine, Executable, create_engine, event, text
from sqlalchemy.engine import URL
from sqlalchemy.engine.interfaces import DBAPIConnection
from sqlalchemy.exc import DBAPIError, OperationalError, SQLAlchemyError, StatementError
from sqlalchemy.exc import TimeoutError as PoolTimeout

from inventory.files.paths import StorageFault, build_storage_error, find_storage_fault, find_temporary_folder
from tasks.domain.errors import RecordsError, RecordsUnavailable
from tasks.domain.protocols.clock import Deadline, SystemClock
from tasks.domain.retry import retry
from tasks.records.fleets import DEFAULT_FLEET, build_file_path, build_schema_name, build_slug
from tasks.records.storage.sqlite_file import RECORDS_ALTERNATIVE
from tasks.records.storage.url import redact_url

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


APPLICATION_NAME = "fleetpatch"
"""The beginning of the name of a session in PostgreSQL; the fleet follows. It says who uses which records."""
LOCK_TIMEOUT_SECONDS = 30.0
"""How long a writer waits for another process, in seconds."""
SQLITE_SYNCHRONOUS = "FULL"
"""When a commit waits for the disk. In WAL mode, NORMAL may lose the last commits."""
LIBPQ_TIMEOUTS = {
    "connect_timeout": 10,
    "keepalives_idle": 15,
    "keepalives_interval": 5,
    "keepalives_count": 3,
    "tcp_user_timeout": 30_000,  # milliseconds
}
"""libpq's options, in seconds if not noted. Without them, a run can wait for hours for a server that disappeared."""
_SERVER_TIMEOUTS = "; ".join(
    f"SET {name.replace('keepalives', 'tcp_keepalives')} = {value}"
    for name, value in LIBPQ_TIMEOUTS.items()
    if name != "connect_timeout"
)
"""The same at the server's end. Without them, it keeps the sessions of a site that disappeared for two hours."""
WRITER_QUEUE_SECONDS = 60.0
"""How long a thread waits for other threads of its process, in seconds."""
CONNECTIONS_VARIABLE: Final = "FLEETPATCH_RECORDS_CONNECTIONS"
DEFAULT_CONNECTIONS: Final = 10
"""The most connections of a process. A transaction takes a few milliseconds, and a process has one interpreter: ten
threads that wait for the database keep it busy. The others wait for their turn, ``WRITER_QUEUE_SECONDS`` at most.
"""
_MIN_CONNECTIONS: Final = 2  # a migration holds one while it uses another
_KEPT_CONNECTIONS: Final = 5


def read_connection_bound() -> int:
    """Return the most connections of a process to the records.

    Raises:
        RecordsError: the variable is no such number.
    """
    value = os.environ.get(CONNECTIONS_VARIABLE, "").strip()
    if not value:
        return DEFAULT_CONNECTIONS
    if not (value.isdecimal() and int(value) >= _MIN_CONNECTIONS):
        hint = f"Write a number from {_MIN_CONNECTIONS}."
        raise RecordsError(f"{CONNECTIONS_VARIABLE}={value!r} is no number of connections", hint=hint)
    return int(value)


def _build_pool_options() -> dict[str, Any]:
    bound = read_connection_bound()
    kept = min(bound, _KEPT_CONNECTIONS)
    return {"pool_size": kept, "max_overflow": bound - kept, "pool_timeout": WRITER_QUEUE_SECONDS}


class _Pool:
    """The connections of a process to one database. The last object that uses them closes them."""

    def __init__(self, engine: Engine) -> None:
        self.engine, self.users = engine, WeakSet[Database]()


_POOLS: "WeakValueDictionary[tuple[int, URL, str], _Pool]" = WeakValueDictionary()
_POOLS_LOCK = threading.Lock()


class Database:
    """An SQLAlchemy engine with read and write transactions in the tables of one fleet.

    All threads of one process may share an object. A forked child must open its own. In PostgreSQL, all objects of a
    process for one URL and fleet share their connections, so that the bound is that of the process.

    Args:
        url: the database that the fleets share; on SQLite, the file of the fleet "default".
        fleet: the fleet whose tables are used.

    Attributes:
        shared_url: the database that the fleets share.
        url: the database of this fleet: on SQLite, each has a file.
        schema: the fleet's schema in PostgreSQL; "" for the one that the user and the URL choose, and on SQLite.
        display_name: the database's name for messages, without a password.
    """

    def __init__(self, url: URL, fleet: str = DEFAULT_FLEET) -> None:
        self.fleet, self.shared_url = fleet, url
        self.is_sqlite = url.get_backend_name() == "sqlite"
        self.schema = "" if self.is_sqlite else build_schema_name(fleet)
        self.url = url.set(database=str(build_file_path(Path(str(url.database)), fleet))) if self.is_sqlite else url
        self.display_name = redact_url(self.url) + (f" (fleet {fleet})" if self.schema else "")
        with translate_errors("use the records", self.display_name):
            self._pool = self._join_pool()
        self.engine = self._pool.engine
        # Both isolation levels are explicit, because the defaults of the server or the role may differ. A writer sees
        # what others committed while it waited, and needs no retry. A reader sees the state at its first query.
        writing: dict[str, Any] = {"isolation_level": "READ COMMITTED"}
        reading: dict[str, Any] = {"isolation_level": "REPEATABLE READ", "postgresql_readonly": True}
        if self.is_sqlite:
            # A deferred transaction that writes after a read fails at once if another transaction wrote meanwhile.
            writing, reading = {"begins_with": "BEGIN IMMEDIATE"}, {}
        self._write_engine, self._read_engine = (
            self.engine.execution_options(**writing),
            self.engine.execution_options(**reading),
        )
        # On SQLite, waiting writers poll, and some can starve. Within one process this lock makes them a queue.
        self._writer_lock = threading.Lock() if self.is_sqlite else None

    @contextmanager
    def begin_read(self, action: str) -> Iterator[Connection]:
        """Yield a read-only connection. It sees one consistent state: the state at its first query."""
        with translate_errors(action, self.display_name), self._read_engine.connect() as connection, connection.begin():
            yield connection

    def read_rows(self, action: str, query: Executable) -> Sequence[Any]:
        """Return all rows of a query. Raise RecordsError if the database can't be read."""
        with self.begin_read(action) as connection:
            return connection.execute(query).all()

    def read_values(self, action: str, query: Executable) -> Sequence[Any]:
        """Return the first value of each row of a query. Raise RecordsError if the database can't be read."""
        with self.begin_read(action) as connection:
            return connection.execute(query).scalars().all()

    @contextmanager
    def begin_write(self, action: str) -> Iterator[Connection]:
        """Yield a connection for writing. At the end of the block all changes are on disk; after an error, none."""
        with (
            self._hold_writer_lock(action),
            translate_errors(action, self.display_name),
            self._write_engine.connect() as connection,
            connection.begin(),
        ):
            if not self.is_sqlite:
                _set_transaction_options(connection)
            yield connection

    @contextmanager
    def open_autocommit(self, action: str) -> Iterator[Connection]:
        """Yield a connection on which each statement is a transaction. Its settings end with it.

        For statements that PostgreSQL executes in no transaction. The fleet's schema is not chosen.
        """
        engine = self.engine.execution_options(isolation_level="AUTOCOMMIT")
        with translate_errors(action, self.display_name), engine.connect() as connection:
            connection.detach()
            yield connection

    @contextmanager
    def _hold_writer_lock(self, action: str) -> Iterator[None]:
        if self._writer_lock is None:
            yield
            return
        if not self._writer_lock.acquire(timeout=WRITER_QUEUE_SECONDS):
            raise self.build_queue_error(action)
        try:
            yield
        finally:
            self._writer_lock.release()

    @property
    def queue_seconds(self) -> float:
        """How long a thread waits for other threads of its process, in seconds."""
        return WRITER_QUEUE_SECONDS

    def build_queue_error(self, action: str) -> RecordsUnavailable:
        """Return the error of a thread whose turn to write did not come in this time."""
        return RecordsUnavailable(
            f"can't {action} in {self.display_name}: other processes have been writing for too long",
            hint="The disk is slow, or another program locks the database; PostgreSQL allows more writers.",
        )

    def _join_pool(self) -> _Pool:
        if self.is_sqlite:  # its file may be replaced, and it has no bound of connections
            return _Pool(_build_sqlite_engine(self.url))
        key = (os.getpid(), self.url, self.fleet)
        with _POOLS_LOCK:
            pool = _POOLS.get(key) or _Pool(_build_postgresql_engine(self.url, self.fleet, self.schema))
            _POOLS[key] = pool
            pool.users.add(self)
        return pool

    def close(self) -> None:
        """Close all connections that no other object of this process uses."""
        with _POOLS_LOCK:
            self._pool.users.discard(self)
            if not self._pool.users:
                self.engine.dispose()


def _build_sqlite_engine(url: URL) -> Engine:
    engine = create_engine(
        url, hide_parameters=True, connect_args={"timeout": LOCK_TIMEOUT_SECONDS}, **_build_pool_options()
    )

    @event.listens_for(engine, "connect")
    def _set_pragmas(connection: sqlite3.Connection, _record: object) -> None:
        connection.isolation_level = None  # the driver must not begin transactions; _begin_transaction does
        connection.execute("PRAGMA foreign_keys = ON")
        connection.execute(f"PRAGMA synchronous = {SQLITE_SYNCHRONOUS}")

    @event.listens_for(engine, "begin")
    def _begin_transaction(connection: Connection) -> None:
        begins_with = connection.get_execution_options().get("begins_with", "BEGIN")
        if begins_with:
            connection.exec_driver_sql(begins_with)

    return engine


def _build_postgresql_engine(url: URL, fleet: str, schema: str) -> Engine:
    options = {**LIBPQ_TIMEOUTS, "application_name": f"{APPLICATION_NAME} {build_slug(fleet)}"}
    arguments = {name: value for name, value in options.items() if name not in url.query}
    engine = create_engine(
        url,
        hide_parameters=True,
        pool_pre_ping=True,
        pool_recycle=1800,
        connect_args=arguments,
        **_build_pool_options(),
    )

    @event.listens_for(engine, "connect")
    def _set_session_options(connection: DBAPIConnection, _record: object) -> None:
        # Compiling a query takes PostgreSQL longer than each query here takes without.
        connection.cursor().execute(f"SET jit = off; {_SERVER_TIMEOUTS}")
        connection.commit()

    if schema:

        @event.listens_for(engine, "begin")
        def _choose_schema(connection: Connection) -> None:
            # In each transaction: behind a pooler, the next one may be in another session. No table of another schema
            # is found: without its own, a statement fails.
            connection.exec_driver_sql(f'SET LOCAL search_path = "{schema}"')

    return engine


def _set_transaction_options(connection: Connection) -> None:
    """Make the commit wait for the disk, even if the server or role has that turned off, and limit lock times.

    The idle timeout is for a controller that stops inside a transaction (for example, its system is suspended): it must
    not hold row locks.
    """
    connection.execute(
        text(
            "SELECT set_config('synchronous_commit', 'on', true) WHERE current_setting('synchronous_commit') = 'off' "
            "UNION ALL SELECT set_config('lock_timeout', :busy, true) "
            "UNION ALL SELECT set_config('idle_in_transaction_session_timeout', :busy, true)"
        ),
        {"busy": f"{LOCK_TIMEOUT_SECONDS:.0f}s"},
    )


def enable_wal(database: Database) -> None:
    """Set an SQLite file to WAL mode, in which readers and a writer do not block each other. The mode is permanent.

    Raises:
        RecordsError: the file system does not support WAL mode.
    """
    clock = SystemClock()
    with translate_errors("prepare the records", database.display_name), database.engine.connect() as connection:
        bare = connection.execution_options(begins_with="")
        mode = retry(
            lambda: bare.exec_driver_sql("PRAGMA journal_mode = WAL").scalar_one(),
            OperationalError,
            clock=clock,
            deadline=Deadline.after(clock, LOCK_TIMEOUT_SECONDS),
            wait=0.02,
            # The busy timeout does not cover this statement if several processes create the file at once.
            is_retryable=lambda error: "locked" in str(error.orig),
        )
    if mode != "wal":
        raise RecordsError(
            f"the file system of {database.display_name} is not safe for the records (journal mode {mode})",
            hint="Put the file on a local disk, or use PostgreSQL.",
        )
