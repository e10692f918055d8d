"""Prefect's empty tables, for each server that begins with none. PostgreSQL's are made once per release of Prefect.

``python -m tests.support.prefect_tables`` writes ``tables.sql`` anew, after a change of Prefect's release.
"""

import fcntl
import sqlite3
import subprocess
import sys
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Final

from prefect import __version__

from flows.prefect_api.server_database import TABLES_FILE, TABLES_RELEASE, make_tables
from tests.ci.tree import TOP
from tests.support.environment import without_ours
from tests.support.postgres import Server as Postgres

TABLES_ARE_THERE: Final = {
    "PREFECT_SERVER_DATABASE_MIGRATE_ON_START": "false",
    "PREFECT_SERVER_REGISTER_BLOCKS_ON_START": "false",
    "PREFECT_SERVER_MEMOIZE_BLOCK_AUTO_REGISTRATION": "false",
}
"""Settings of a server that begins with these tables. To look for migrations, and to store each type of block of
Prefect's collections, are two fifths of what its start takes then. A client stores the types that it uses."""


def put_tables(home: Path) -> None:
    """Put the tables where a server with this PREFECT_HOME looks for them, unless it has some."""
    home.mkdir(parents=True, exist_ok=True)
    if not (home / "prefect.db").exists():
        copy_tables(home / "prefect.db")


def copy_tables(target: Path) -> None:
    """Put the tables into a new file."""
    make_tables(f"sqlite:///{target}", TABLES_RELEASE)


def make_postgres_database(postgres: Postgres) -> str:
    """Make a database with the tables on a PostgreSQL server. Return its URL as Prefect's settings have it."""
    postgres.execute("CREATE DATABASE prefect ENCODING 'UTF8' LOCALE 'C' TEMPLATE template0")
    url = f"postgresql+asyncpg://postgres@/prefect?host={postgres.folder}"
    where = ("--host", str(postgres.folder), "--username", "postgres", "--dbname", "prefect")
    with _place("sql") as made:
        if made.exists():
            words = ("--quiet", "--no-psqlrc", "--set", "ON_ERROR_STOP=1", "--single-transaction", "--file", str(made))
            subprocess.run((postgres.binaries / "psql", *where, *words), capture_output=True, check=True)
        else:
            _upgrade(PREFECT_API_DATABASE_CONNECTION_URL=url)
            new = made.with_suffix(".new")
            subprocess.run((postgres.binaries / "pg_dump", *where, "--file", str(new)), capture_output=True, check=True)
            new.replace(made)
    return url


def make_with_prefect(home: Path) -> str:
    """Let Prefect make its tables in a folder, and return the statements that make the same in another file."""
    _upgrade(PREFECT_HOME=str(home))
    with closing(sqlite3.connect(home / "prefect.db")) as found:
        return "".join(f"{line.rstrip()}\n" for line in "\n".join(found.iterdump()).splitlines())


@contextmanager
def _place(kind: str) -> Iterator[Path]:
    """Give the file where they are kept, to nobody else meanwhile: tests in other processes want them as well."""
    place = TOP / "build"
    place.mkdir(exist_ok=True)
    with (place / f"prefect-{kind}.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield place / f"prefect-{__version__}.{kind}"


def _upgrade(**settings: str) -> None:
    words = (sys.executable, "-m", "prefect", "server", "database", "upgrade", "--yes")
    with TemporaryDirectory() as home:
        environment = {**without_ours(), "PREFECT_HOME": home, **settings}
        subprocess.run(words, env=environment, capture_output=True, check=True)


if __name__ == "__main__":
    with TemporaryDirectory() as folder:
        TABLES_FILE.write_text(make_with_prefect(Path(folder)), encoding="utf-8")
