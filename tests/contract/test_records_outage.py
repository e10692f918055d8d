"""The database goes away under an open SqlRecords and comes back: nothing is lost, doubled, or needs reopening."""

import sqlite3
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from pathlib import Path
from typing import Any

import psycopg
import pytest
from sqlalchemy import event, text

from tasks.domain.errors import RecordsError, RecordsUnavailable
from tasks.domain.protocols.leases import LeaseHolder
from tasks.domain.protocols.records import JournalEntry
from tasks.domain.states import OperationState
from tasks.records.queries.history import History
from tasks.records.setup import open_records
from tasks.records.sql_records import SqlRecords
from tasks.records.storage.database import Database
from tests.support import builders as make
from tests.support.postgres import Server, fresh_database, own_server

ME = LeaseHolder("token-me", "ctl-1", 1, "me")


def _everything(records: SqlRecords, entry: JournalEntry) -> list[Callable[[], object]]:
    history = History(records)
    return [
        lambda: records.append_entry(entry),
        lambda: records.read_entries(make.RUN_ID),
        lambda: records.save(make.make_outcome()),
        lambda: records.save(make.make_report(run=make.make_run(state=OperationState.IN_PROGRESS))),
        lambda: records.read_measure(make.MACHINE, "reboot_seconds"),
        lambda: history.read_report(make.RUN_ID),
        lambda: records.leases.renew(make.RUN_ID, ME, 600),
        records.leases.find_leaseless_runs,
        lambda: records.leases.release("other", ME),
        lambda: records.leases.acquire(make.RUN_ID, ME, 600),
    ]


@pytest.fixture(scope="module")
def server() -> Iterator[Server]:
    with own_server() as running:
        yield running


@pytest.mark.slow
@pytest.mark.postgres
class TestPostgresql:
    def test_the_same_records_work_again_once_the_server_is_back(self, server: Server) -> None:
        with open_records(server.url("fleetpatch")) as records:
            records.save(make.make_run(state=OperationState.IN_PROGRESS))
            records.append_entry(make.make_journal_entry())
            records.leases.acquire(make.RUN_ID, ME, 600)
            with ThreadPoolExecutor(5) as pool:  # so that the pool holds several connections that will be dead
                list(pool.map(lambda n: records.append_entry(make.make_journal_entry(key=str(n))), range(20)))
            before = records.read_entries(make.RUN_ID)
            again = make.make_journal_entry(key="again")
            server.stop()
            for _ in range(2):
                for ask in _everything(records, again):
                    with pytest.raises(RecordsUnavailable) as caught:
                        ask()
                    assert "Is the PostgreSQL server running" in caught.value.hint
            with pytest.raises(RecordsUnavailable):
                open_records(server.url("fleetpatch"))
            server.start()
            with ThreadPoolExecutor(5) as pool:
                for done in [pool.submit(ask) for ask in _everything(records, again)]:
                    done.result()
            assert records.read_entries(make.RUN_ID) == (*before, again)
            assert records.leases.renew(make.RUN_ID, ME, 600).is_kept

    def test_a_server_that_goes_down_half_way_through_leaves_nothing_half_done(self, server: Server) -> None:
        entry = make.make_journal_entry(run_id="half-way")

        def delete_and_go_down(records: SqlRecords) -> None:
            with records.database.begin_write("delete") as connection:
                connection.execute(text("DELETE FROM journal"))
                server.stop()
                connection.execute(text("DELETE FROM runs"))

        with open_records(server.url("fleetpatch")) as records:
            records.append_entry(entry)
            with pytest.raises(RecordsUnavailable):
                delete_and_go_down(records)
            server.start()
            assert records.read_entries("half-way") == (entry,)

    def test_an_answer_that_is_lost_after_the_commit_doubles_nothing(
        self, server: Server, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        entry = make.make_journal_entry(run_id="lost-answer")
        lost = iter([True])

        def commit_and_die(connection: Any) -> None:
            connection.commit()
            if next(lost, False):
                connection.dbapi_connection.close()
                raise psycopg.OperationalError("server closed the connection unexpectedly")

        with open_records(server.url("fleetpatch")) as records:
            monkeypatch.setattr(records.database.engine.dialect, "do_commit", commit_and_die)
            with pytest.raises(RecordsUnavailable):
                records.append_entry(entry)
            assert records.read_entries("lost-answer") == (entry,)
            records.append_entry(entry)
            assert records.read_entries("lost-answer") == (entry,)

    def test_what_does_not_pass_is_told_apart(self) -> None:
        with fresh_database() as url:
            with pytest.raises(RecordsError, match="does not exist") as caught:
                open_records(url.replace("?", "_missing?"))
            assert not caught.value.transient
            with open_records(url) as records:
                with records.database.begin_write("break") as connection:
                    connection.execute(text("ALTER TABLE journal RENAME TO gone"))
                with pytest.raises(RecordsError, match="does not exist") as caught:
                    records.append_entry(make.make_journal_entry())
                assert not caught.value.transient
                assert "restore a backup" in caught.value.hint

    def test_nobody_waits_for_ever_for_a_row_that_somebody_keeps(self, monkeypatch: pytest.MonkeyPatch) -> None:
        def patience(seconds: float) -> None:
            monkeypatch.setattr("tasks.records.storage.database.LOCK_TIMEOUT_SECONDS", seconds)

        def renewed(records: SqlRecords) -> bool:
            return records.leases.renew(make.RUN_ID, ME, 600).is_kept

        def keep_its_row(stuck: SqlRecords, others: SqlRecords) -> None:
            patience(4.0)
            with stuck.database.begin_write("hang") as connection:
                connection.execute(text("UPDATE leases SET pid = 7"))
                patience(1.0)
                with pytest.raises(RecordsUnavailable, match="lock timeout"):
                    renewed(others)
                patience(30.0)
                assert renewed(others)  # meanwhile the server has ended the transaction that did nothing more

        with fresh_database() as url, open_records(url) as records, open_records(url) as stuck:
            records.leases.acquire(make.RUN_ID, ME, 600)
            with pytest.raises(RecordsUnavailable):
                keep_its_row(stuck, records)
            view = records.leases.find_lease(make.RUN_ID)
            assert view is not None
            assert view.holder == ME


def test_a_locked_file_is_waited_for_and_then_said_to_pass(tmp_path: Path) -> None:
    path = tmp_path / "records.db"
    entry = make.make_journal_entry()
    with open_records(f"sqlite:///{path}") as records:
        _hasten(records.database)
        with closing(sqlite3.connect(path, isolation_level=None)) as other:
            other.execute("BEGIN EXCLUSIVE")
            for ask in (lambda: records.append_entry(entry), lambda: records.leases.acquire(make.RUN_ID, ME, 60)):
                with pytest.raises(RecordsUnavailable, match="locked"):
                    ask()
            other.execute("ROLLBACK")
        records.append_entry(entry)
        records.leases.acquire(make.RUN_ID, ME, 60)
        assert records.read_entries(make.RUN_ID) == (entry,)


def test_threads_that_queue_for_a_locked_file_do_not_wait_for_ever(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tasks.records.storage.database.WRITER_QUEUE_SECONDS", 0.1)
    path = tmp_path / "records.db"
    with open_records(f"sqlite:///{path}") as records, closing(sqlite3.connect(path, isolation_level=None)) as other:
        entry = make.make_journal_entry()
        with ThreadPoolExecutor(1) as pool:
            other.execute("BEGIN EXCLUSIVE")
            first = pool.submit(records.append_entry, entry)  # waits for the file, as long as it takes
            _await_writer(records.database)
            with pytest.raises(RecordsUnavailable, match="other processes have been writing for too long"):
                records.append_entry(make.make_journal_entry(key="second"))
            other.execute("ROLLBACK")
            first.result()
        records.append_entry(make.make_journal_entry(key="third"))
        assert [each.key for each in records.read_entries(make.RUN_ID)] == [entry.key, "third"]


def test_a_file_that_was_changed_by_hand_is_not_said_to_pass(tmp_path: Path) -> None:
    path = tmp_path / "records.db"
    with open_records(f"sqlite:///{path}") as records:
        with closing(sqlite3.connect(path)) as other:
            other.execute("DROP TABLE journal")
        with pytest.raises(RecordsError, match="no such table") as caught:
            records.append_entry(make.make_journal_entry())
        assert not caught.value.transient


def _await_writer(database: Database) -> None:
    patience = time.monotonic() + 60
    while database._writer_lock is None or not database._writer_lock.locked():
        assert time.monotonic() < patience
        time.sleep(0.01)


def _hasten(database: Database) -> None:
    """Wait 50 ms where the real one waits 30 s."""
    database.close()
    event.listen(database.engine, "connect", lambda raw, _record: raw.execute("PRAGMA busy_timeout = 50"))
