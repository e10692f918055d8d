"""One database, made to behave: what a committed transaction holds survives a power cut, and threads take turns."""

import sqlite3
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from sqlalchemy import Connection, Engine, create_engine, event, text
from sqlalchemy.engine import URL
from sqlalchemy.exc import OperationalError

from tasks.errors import RecordsError, RecordsUnavailable
from tasks.records.address import shown
from tasks.records.faults import translated

BUSY_SECONDS = 30.0
"""How long a writer waits for another process's turn to end."""
_NO_ENDLESS_WAIT = {
    "connect_timeout": 10,
    "keepalives_idle": 15,
    "keepalives_interval": 5,
    "keepalives_count": 3,
    "tcp_user_timeout": 30_000,  # milliseconds
}
"""libpq's options, in seconds: a server whose machine is gone without a word must not hold a run for hours."""
QUEUE_SECONDS = 60.0
"""How long a thread waits for its own process' others."""
_POOL: dict[str, Any] = {"pool_size": 5, "max_overflow": 10, "pool_timeout": QUEUE_SECONDS}


class Database:
    """An engine with two kinds of transactions. For all threads of one process; a forked child opens its own.

    Attributes:
        place: the database as it may be shown.
    """

    def __init__(self, url: URL) -> None:
        self.url = url
        self.place = shown(url)
        self.sqlite = url.get_backend_name() == "sqlite"
        with translated("use the records", self.place):
            self.engine = _sqlite(url) if self.sqlite else _postgresql(url)
        # Both are said, whatever the server's or the role's default is. A writer sees what others have stored while it
        # waited for its turn, and is never sent again; a reader sees the moment of its first question.
        writing: dict[str, Any] = {"isolation_level": "READ COMMITTED"}
        reading: dict[str, Any] = {"isolation_level": "REPEATABLE READ", "postgresql_readonly": True}
        if self.sqlite:
            # A deferred transaction that turns into a writer half-way fails at once when another one wrote meanwhile.
            writing, reading = {"begins_with": "BEGIN IMMEDIATE"}, {}
        self._writer, self._reader = self.engine.execution_options(**writing), self.engine.execution_options(**reading)
        # SQLite lets waiting writers poll, and the unlucky ones starve; in one process they can queue instead.
        self._turn = threading.Lock() if self.sqlite else None

    @contextmanager
    def reading(self, doing: str) -> Iterator[Connection]:
        """Give a connection that sees one consistent state, that of its first question, and changes nothing."""
        with translated(doing, self.place), self._reader.connect() as connection, connection.begin():
            yield connection

    @contextmanager
    def writing(self, doing: str) -> Iterator[Connection]:
        """Give a connection whose work is on disk when the block is left, or not at all."""
        with (
            self._in_turn(doing),
            translated(doing, self.place),
            self._writer.connect() as connection,
            connection.begin(),
        ):
            if not self.sqlite:
                _set_terms(connection)
            yield connection

    @contextmanager
    def _in_turn(self, doing: str) -> Iterator[None]:
        if self._turn is None:
            yield
            return
        if not self._turn.acquire(timeout=QUEUE_SECONDS):
            raise RecordsUnavailable(
                f"can't {doing} in {self.place}: others have been writing for too long",
                hint="The disk is slow, or another program holds the database; PostgreSQL takes more writers at once.",
            )
        try:
            yield
        finally:
            self._turn.release()

    def close(self) -> None:
        """Give the connections up."""
        self.engine.dispose()


def _sqlite(url: URL) -> Engine:
    engine = create_engine(
        url,
        hide_parameters=True,
        connect_args={"timeout": BUSY_SECONDS},
        **_POOL,
    )

    @event.listens_for(engine, "connect")
    def _prepare(connection: sqlite3.Connection, _record: object) -> None:
        connection.isolation_level = None  # transactions begin where we say, not where the driver guesses
        connection.execute("PRAGMA foreign_keys = ON")
        connection.execute("PRAGMA synchronous = FULL")  # in WAL mode, NORMAL may lose the last commits

    @event.listens_for(engine, "begin")
    def _begin(connection: Connection) -> None:
        begins_with = connection.get_execution_options().get("begins_with", "BEGIN")
        if begins_with:
            connection.exec_driver_sql(begins_with)

    return engine


def _postgresql(url: URL) -> Engine:
    arguments = {name: value for name, value in _NO_ENDLESS_WAIT.items() if name not in url.query}
    return create_engine(
        url,
        hide_parameters=True,
        pool_pre_ping=True,
        pool_recycle=1800,
        connect_args=arguments,
        **_POOL,
    )


def _set_terms(connection: Connection) -> None:
    """Wait for the disk at commit, even where the server or the role was tuned not to, and for nobody else for long.

    A controller that stops half-way (its machine is suspended, say) must not keep its rows from the others.
    """
    connection.execute(
        text(
            "SELECT set_config('synchronous_commit', 'on', true) WHERE current_setting('synchronous_commit') = 'off' "
            "UNION ALL SELECT set_config('lock_timeout', :busy, true) "
            "UNION ALL SELECT set_config('idle_in_transaction_session_timeout', :busy, true)"
        ),
        {"busy": f"{BUSY_SECONDS:.0f}s"},
    )


def switch_to_wal(database: Database) -> None:
    """Put an SQLite file in WAL mode, where readers and a writer don't wait for each other. It stays so.

    Raises:
        RecordsError: the file system can't do it.
    """
    patience = time.monotonic() + BUSY_SECONDS
    with translated("prepare the records", database.place), database.engine.connect() as connection:
        bare = connection.execution_options(begins_with="")
        while True:
            try:
                mode = bare.exec_driver_sql("PRAGMA journal_mode = WAL").scalar_one()
                break
            except OperationalError as error:
                # The busy timeout doesn't cover this statement when several processes create the file at once.
                if "locked" not in str(error.orig) or time.monotonic() > patience:
                    raise
                time.sleep(0.02)
    if mode != "wal":
        raise RecordsError(
            f"the file system of {database.place} can't hold the records safely (journal mode {mode})",
            hint="Put the file on a local disk, or use PostgreSQL.",
        )
