"""Prefect's empty tables, for each server that begins with none. They are made once per release of Prefect."""

import fcntl
import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Final

from prefect import __version__

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
    with _place("sqlite") as made:
        if not made.exists():
            with TemporaryDirectory() as home:
                _upgrade(PREFECT_HOME=home)
                shutil.copyfile(Path(home) / "prefect.db", made.with_suffix(".new"))
            made.with_suffix(".new").replace(made)
        shutil.copyfile(made, target)
    target.chmod(0o600)


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
