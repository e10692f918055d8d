"""New records for a test, and leases beside them on a clock that the test pushes: the fake, SQLite and PostgreSQL."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest

from tasks.protocols.leases import LeaseHolder
from tasks.records.leases import SqlLeases
from tasks.records.setup import open_records
from tasks.records.sql_records import SqlRecords
from tests.support.fake_clock import FakeClock
from tests.support.fake_leases import FakeLeases
from tests.support.fake_records import FakeRecords
from tests.support.postgres import fresh_database

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
    if kind == "sqlite":
        with open_records(f"sqlite:///{folder / 'records.db'}") as records:
            yield records
    else:
        with fresh_database() as url, open_records(url) as records:
            yield records


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
