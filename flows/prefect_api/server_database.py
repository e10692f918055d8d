"""Prefect's database before its server starts: a new file gets its tables, and one that is there is looked at.

Prefect 3.8.8 makes its tables in more than a hundred steps, and reads all of them at each start. ``tables.sql`` has the
outcome (SQLite), and ``HEADS`` the last step: a database that has had it needs none.
"""

import os
import sqlite3
from collections.abc import Iterator, Mapping
from contextlib import closing, contextmanager, suppress
from pathlib import Path
from tempfile import mkstemp
from typing import Any, Final

import sqlalchemy as sa

from inventory.data_class import dataclass
from tasks.domain.errors import CannotRun
from tasks.records.storage.database import LIBPQ_TIMEOUTS

TABLES_RELEASE: Final = "3.8.8"
"""The release of Prefect whose tables these are."""
TABLES_FILE: Final = Path(__file__).with_name("tables.sql")
HEADS: Final = frozenset({"a3b9c7d2e5f1", "d4a7e1c93f52"})
"""The last step of that release: of SQLite, and of PostgreSQL."""
_TLS: Final = "PREFECT_SERVER_DATABASE_SQLALCHEMY_CONNECT_ARGS_TLS_"
_TLS_FILES: Final = {"CA_FILE": "sslrootcert", "CERT_FILE": "sslcert", "KEY_FILE": "sslkey"}


@dataclass(frozen=True, slots=True)
class DatabaseState:
    """What the server needs to do with a database."""

    has_all_tables: bool = False  # whether Prefect has nothing to change in its tables
    has_automations: bool = True  # whether events may start something. True where it is not known.


def make_tables(database_url: str, release: str) -> None:
    """Put Prefect's tables into a new SQLite file, for nobody but its owner to read.

    Nothing happens where a file is, with another database, and with another release of Prefect: the server makes them.

    Args:
        database_url: in the form of SQLAlchemy.
        release: of Prefect.
    """
    url = sa.make_url(database_url)
    file = Path(url.database or "")
    if url.get_backend_name() != "sqlite" or release != TABLES_RELEASE or not file.is_absolute() or file.exists():
        return
    with suppress(OSError, sqlite3.Error):  # the server meets it again, and complains
        file.parent.mkdir(parents=True, exist_ok=True)
        descriptor, name = mkstemp(prefix=".new-", suffix=".db", dir=file.parent)  # mode 600
        os.close(descriptor)
        new = Path(name)
        try:
            with closing(sqlite3.connect(new)) as tables:
                tables.executescript(TABLES_FILE.read_text(encoding="utf-8"))
            file.hardlink_to(new)  # unless another server has made it meanwhile, or there are no links here
        finally:
            new.unlink()


def read_database_state(database_url: str, environ: Mapping[str, str], release: str) -> DatabaseState:
    """Return what the server needs to do with a database. One that can't be read is the server's own to complain of."""
    try:
        with connect_database(database_url, environ) as connection:
            if connection is None or "alembic_version" not in sa.inspect(connection).get_table_names():
                return DatabaseState()
            head = connection.scalar(sa.text("SELECT version_num FROM alembic_version"))
            count = connection.scalar(sa.text("SELECT count(*) FROM automation"))
            return DatabaseState(release == TABLES_RELEASE and head in HEADS, bool(count))
    except CannotRun:
        return DatabaseState()


@contextmanager
def connect_database(database_url: str, environ: Mapping[str, str]) -> Iterator[sa.Connection | None]:
    """Give a connection to the server's database, in a transaction; None if its file has yet to be made.

    ``database_url`` is in the form of SQLAlchemy, and ``environ`` has Prefect's settings of TLS.

    Raises:
        CannotRun: the database can't be read.
    """
    url = sa.make_url(database_url)
    if url.get_backend_name() == "sqlite" and not Path(url.database or "").exists():
        yield None
        return
    engine = build_engine(url, environ)
    try:
        with engine.begin() as connection:
            yield connection
    except sa.exc.SQLAlchemyError as error:
        raise CannotRun(
            f"Prefect's database can't be read, so its secrets can't be checked: {type(error).__name__}",
            hint="Is the database running, and may this user write to it? `fleetpatch server --show` names it.",
        ) from error
    finally:
        engine.dispose()


def build_engine(url: sa.URL, environ: Mapping[str, str]) -> sa.Engine:
    """Return an engine for the database of the server. Its drivers are not asynchronous."""
    if url.get_backend_name() == "sqlite":
        return sa.create_engine(url.set(drivername="sqlite"), connect_args={"timeout": 30})
    arguments: dict[str, Any] = dict(LIBPQ_TIMEOUTS)
    if mode := url.query.get("ssl"):
        arguments["sslmode"] = mode
    if environ.get(f"{_TLS}ENABLED", "").lower() in {"1", "true"}:
        arguments["sslmode"] = "verify-full"
        arguments |= {name: environ[_TLS + file] for file, name in _TLS_FILES.items() if environ.get(_TLS + file)}
    return sa.create_engine(
        url.set(drivername="postgresql+psycopg").difference_update_query(["ssl"]), connect_args=arguments
    )
