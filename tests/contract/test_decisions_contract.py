"""The chain of decisions with several writers at the same time, on SQLite and PostgreSQL."""

from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from threading import Event

import pytest
from sqlalchemy import select

from inventory.files.own_keys import FOLDER_VARIABLE
from tasks.records import schema
from tasks.records.audit.seals_and_heads import AuditHead
from tasks.records.decisions import DecisionKind, SqlDecisions
from tasks.records.setup import open_records
from tasks.records.storage.database import CONNECTIONS_VARIABLE
from tests.contract.records_subjects import BOTH, new_database

WRITERS, EACH = 6, 8


@pytest.fixture(params=BOTH)
def url(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    monkeypatch.setenv(FOLDER_VARIABLE, str(tmp_path / "keys"))
    with new_database(request.param, tmp_path) as made:
        yield made


def decide(url: str, writer: int) -> None:
    """Store decisions as a process does: with what it has read itself, and the noted end that all share."""
    with open_records(url) as records:
        decisions = SqlDecisions(records.database)
        for number in range(EACH):
            with records.database.begin_write("decide") as connection:
                decisions.append(connection, DecisionKind.STOP, "stopped", f"{writer}/{number}")
            decisions.note_newest()
            assert decisions.find(DecisionKind.STOP, f"{writer}/{number}") is not None


def test_several_writers_make_one_chain(url: str) -> None:
    with ThreadPoolExecutor(WRITERS) as pool:
        list(pool.map(decide, [url] * WRITERS, range(WRITERS)))
    with open_records(url) as records:
        found = SqlDecisions(records.database).find_all(DecisionKind.STOP)
        with records.database.begin_read("read the chain") as connection:
            numbers = connection.execute(select(schema.decisions.c.number).order_by(schema.decisions.c.number))
            assert list(numbers.scalars()) == list(range(1, WRITERS * EACH + 1))
    assert len(found) == WRITERS * EACH


def test_threads_share_what_was_read(url: str) -> None:
    with open_records(url) as records:
        decisions = [SqlDecisions(records.database) for _ in range(WRITERS)]

        def write(writer: int) -> None:
            for number in range(EACH):
                with records.database.begin_write("decide") as connection:
                    decisions[writer].append(connection, DecisionKind.STOP, "stopped", f"{writer}/{number}")
                decisions[writer].note_newest()
                decisions[writer].require_whole()

        with ThreadPoolExecutor(WRITERS) as pool:
            list(pool.map(write, range(WRITERS)))
        assert len(decisions[0].find_all(DecisionKind.STOP)) == WRITERS * EACH


def test_what_is_rolled_back_was_never_decided(url: str) -> None:
    with open_records(url) as records:
        decisions = SqlDecisions(records.database)

        def fail() -> None:
            with records.database.begin_write("decide") as connection:
                decisions.append(connection, DecisionKind.STOP, "stopped", "run", "run.1")
                raise RuntimeError

        with pytest.raises(RuntimeError):
            fail()
        assert decisions.find(DecisionKind.STOP, "run") is None
        with records.database.begin_write("decide") as connection:
            decisions.append(connection, DecisionKind.STOP, "stopped", "run", "run.1")
        decisions.require_whole()
        assert decisions.find(DecisionKind.STOP, "run") is not None


def test_a_decision_that_holds_is_not_stored_again(url: str) -> None:
    with open_records(url) as records:
        decisions = SqlDecisions(records.database)
        for decided in ("paused:", "paused:", "ended", "ended", "paused:"):
            with records.database.begin_write("decide") as connection:
                decisions.append(connection, DecisionKind.PAUSE, decided, "*")
        with records.database.begin_read("read the chain") as connection:
            kept = connection.execute(select(schema.decisions.c.decision).order_by(schema.decisions.c.number))
            assert list(kept.scalars()) == ["paused:", "ended", "paused:"]


@pytest.mark.postgres
def test_writers_that_have_all_connections_do_not_wait_for_a_reader(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(FOLDER_VARIABLE, str(tmp_path / "keys"))
    monkeypatch.setenv(CONNECTIONS_VARIABLE, "2")
    with new_database("postgres", tmp_path) as url, open_records(url) as records:
        decisions, is_reading = SqlDecisions(records.database), Event()

        def read_heads() -> Mapping[str, AuditHead | None]:
            is_reading.set()
            return SqlDecisions.read_heads(decisions)

        monkeypatch.setattr(decisions, "read_heads", read_heads)
        with ThreadPoolExecutor(1) as pool:
            with records.database.begin_write("decide") as first, records.database.begin_write("look") as second:
                second.execute(select(schema.decisions.c.number))
                reading = pool.submit(decisions.require_whole)  # it needs a third connection
                assert not is_reading.wait(0.5)
                decisions.append(first, DecisionKind.STOP, "stopped", "run")
            reading.result(10)
        assert decisions.find(DecisionKind.STOP, "run") is not None
