"""New records for a test, and leases beside them on a clock that the test pushes: the fake, SQLite and PostgreSQL.

Their tables are made once per process, and copied for each test. That open_records makes them is a test of its own.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest

from tasks.domain.protocols.leases import LeaseHolder
from tasks.records.leases import SqlLeases
from tasks.records.setup import open_records
from tasks.records.sql_records import SqlRecords
from tests.support.fake_clock import FakeClock
from tests.support.fake_leases import FakeLeases
from tests.support.fake_records import FakeRecords
from tests.support.postgres import fresh_database, server

ANNE = LeaseHolder("token-anne", "ctl-1", 4711, "anne")
BERT = LeaseHolder("token-bert", "ctl-2", 4712, "bert")
BOTH = ["sqlite", pytest.param("postgres", marks=pytest.mark.postgres)]


@dataclass
class Place:
    """Leases, the records beside them, and their clock."""

    leases: FakeLeases | SqlLeases
    records: FakeRecords | SqlRecords
    clock: FakeClock


@contextmanager
def opened(kind: str, folder: Path) -> Iterator[SqlRecords]:
    """Give new records in a database of that kind."""
    with new_database(kind, folder) as url, open_records(url) as records:
        yield records


@contextmanager
def new_database(kind: str, folder: Path) -> Iterator[str]:
    """Give the URL of a database of that kind which has the records' tables, and nothing in them."""
    if kind == "sqlite":
        file = folder / "records.db"
        file.touch(mode=0o600)
        file.write_bytes(_make_file())
        yield f"sqlite:///{file}"
        return
    with fresh_database(template=_make_template()) as url:
        yield url


@contextmanager
def empty_database(kind: str, folder: Path) -> Iterator[str]:
    """Give the URL of a database of that kind in which there is nothing."""
    if kind == "sqlite":
        yield f"sqlite:///{folder / 'records.db'}"
        return
    with fresh_database() as url:
        yield url


@cache
def _make_file() -> bytes:
    with TemporaryDirectory() as folder:
        file = Path(folder) / "records.db"
        open_records(f"sqlite:///{file}").close()
        return file.read_bytes()


@cache
def _make_template() -> str:
    name = "records_template"
    server().execute(f"DROP DATABASE IF EXISTS {name}")  # of a time before that failed
    server().execute(f"CREATE DATABASE {name} ENCODING 'UTF8' LOCALE 'C' TEMPLATE template0")
    open_records(server().url(name)).close()
    return name


@contextmanager
def place_of(kind: str, folder: Path) -> Iterator[Place]:
    """Give new leases and records of that kind, "fake" included."""
    clock = FakeClock()
    if kind == "fake":
        kept = FakeRecords()
        yield Place(FakeLeases(kept, clock), kept, clock)
        return
    with opened(kind, folder) as records:
        yield Place(SqlLeases(records.database, clock), records, clock)
