"""Creating, migrating, refusing; on both databases."""

import os
import signal
import sqlite3
import stat
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from pathlib import Path

import pytest
from alembic.script import ScriptDirectory
from sqlalchemy import Connection, event, inspect, text

from tasks.domain.errors import RecordsError, RecordsUnavailable
from tasks.records import setup
from tasks.records.queries.history import History
from tasks.records.setup import open_records, run_migrations
from tasks.records.storage.database import Database, enable_wal
from tasks.records.storage.url import find_records_url
from tests.contract.next_release import NEXT_REVISION, make_migrations
from tests.contract.records_processes import migrate_and_die, open_and_append
from tests.contract.records_subjects import BOTH, empty_database
from tests.support import builders as make
from tests.support.forked_calls import begin_call, make_barrier
from tests.support.postgres import fresh_database

PRESENT_REVISION = setup.find_newest_revision()


@pytest.fixture(params=BOTH)
def url(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[str]:
    with empty_database(request.param, tmp_path) as made:
        yield made


@pytest.fixture
def next_release(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Let this process be of the next release, and return the folder of its migrations."""
    migrations = make_migrations(tmp_path_factory.mktemp("next"))
    monkeypatch.setattr(setup, "_MIGRATIONS_DIRECTORY", migrations)
    return migrations


def _fill(url: str) -> None:
    """Make a database as this release leaves it, with something in it."""
    with open_records(url) as records:
        records.save(make.make_run())
        records.save(make.make_outcome())
        records.append_entry(make.make_journal_entry())
        records.save(make.make_job_output())


def _check_kept(url: str) -> None:
    with open_records(url) as records:
        history = History(records)
        assert history.find_run(make.RUN_ID) == make.make_run()
        assert history.read_report(make.RUN_ID, make.MACHINE).outcomes == (make.make_outcome(),)
        assert history.read_journal(make.RUN_ID) == (make.make_journal_entry(),)
        assert history.open_job_logs(make.RUN_ID)[make.MACHINE] == make.make_job_output().text
        assert records.read_measure(make.MACHINE, "reboot_seconds") == 50.0


def _read_revision(url: str) -> str:
    database = Database(find_records_url(url))
    with database.begin_read("look") as connection:
        revision: str = connection.execute(text("SELECT version_num FROM fleetpatch_version")).scalar_one()
        has_table = inspect(connection).has_table("of_the_next_release")
    database.close()
    assert has_table == (revision == NEXT_REVISION)
    return revision


def test_an_older_database_is_migrated_with_all_that_is_in_it(url: str, request: pytest.FixtureRequest) -> None:
    _fill(url)
    request.getfixturevalue("next_release")
    _check_kept(url)
    assert _read_revision(url) == NEXT_REVISION


def test_a_newer_database_is_refused_by_this_release(
    url: str, next_release: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    open_records(url).close()
    monkeypatch.undo()
    with pytest.raises(
        RecordsError, match=rf"newer fleetpatch: it is at revision {NEXT_REVISION}.*up to {PRESENT_REVISION}"
    ) as caught:
        open_records(url)
    assert "Upgrade fleetpatch here" in caught.value.hint


def test_opening_again_changes_nothing(url: str) -> None:
    with open_records(url) as records:
        records.save(make.make_report())
    with open_records(url) as records:
        assert History(records).read_report(make.RUN_ID) == make.make_report()


def test_migrations_are_numbered_by_their_files() -> None:
    assert ScriptDirectory.from_config(setup._build_alembic_config()).get_current_head() == setup.find_newest_revision()


def test_a_database_of_somebody_else_is_refused_and_left_alone(url: str) -> None:
    database = Database(find_records_url(url))
    with database.begin_write("prepare") as connection:
        connection.execute(text("CREATE TABLE orders (id integer)"))
    with pytest.raises(RecordsError, match="isn't a fleetpatch database: it contains orders") as caught:
        open_records(url)
    assert ("FLEETPATCH_RECORDS_URL" if database.is_sqlite else "a database of its own") in caught.value.hint
    with database.begin_read("look") as connection:
        if database.is_sqlite:
            assert connection.execute(text("PRAGMA journal_mode")).scalar_one() != "wal"
            tables = connection.execute(text("SELECT name FROM sqlite_master")).scalars().all()
        else:
            query = "SELECT tablename FROM pg_tables WHERE schemaname = 'public'"
            tables = connection.execute(text(query)).scalars().all()
    assert tables == ["orders"]
    database.close()


def test_a_migration_that_fails_leaves_the_database_as_it_was(
    url: str, request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch
) -> None:
    _fill(url)
    request.getfixturevalue("next_release")

    def fail(connection: Connection, revision: str = "head") -> None:
        run_migrations(connection, revision)
        raise RecordsError("power cut")

    with monkeypatch.context() as patch:
        patch.setattr(setup, "run_migrations", fail)
        with pytest.raises(RecordsError, match="power cut"):
            open_records(url)
    assert _read_revision(url) == PRESENT_REVISION
    _check_kept(url)


def test_a_process_that_is_killed_before_the_migration_is_whole_leaves_what_was_there(
    url: str, request: pytest.FixtureRequest
) -> None:
    _fill(url)
    call = begin_call(migrate_and_die, url, request.getfixturevalue("next_release"))
    assert call.receive() == "migrated"
    assert call.end() == -signal.SIGKILL
    assert _read_revision(url) == PRESENT_REVISION
    _check_kept(url)


@pytest.mark.slow
@pytest.mark.parametrize("older", [False, True], ids=["created", "migrated"])
def test_four_processes_may_open_at_once(url: str, older: bool, request: pytest.FixtureRequest) -> None:
    if older:
        _fill(url)
    migrations = request.getfixturevalue("next_release")
    together = make_barrier(4)
    calls = [begin_call(open_and_append, url, f"m{n}", together, migrations) for n in range(4)]
    assert [(call.receive(), call.end()) for call in calls] == [("appended", 0)] * 4
    assert _read_revision(url) == NEXT_REVISION
    with open_records(url) as records:
        for n in range(4):
            keys = [entry.key for entry in records.read_entries(make.RUN_ID, f"m{n}")]
            assert keys == [str(number) for number in range(20)]


def test_threads_may_open_at_once(url: str) -> None:
    start = threading.Barrier(4)

    def work() -> None:
        start.wait()
        open_records(url).close()

    with ThreadPoolExecutor(4) as pool:
        for done in [pool.submit(work) for _ in range(4)]:
            done.result()
    with open_records(url) as records:
        assert records.read_entries("any") == ()


def test_threads_may_open_different_databases_at_once(tmp_path: Path) -> None:
    start = threading.Barrier(4)

    def work(number: int) -> None:
        start.wait()
        with open_records(f"sqlite:///{tmp_path / str(number)}.db") as records:
            records.append_entry(make.make_journal_entry(key=str(number)))
            assert [entry.key for entry in records.read_entries(make.RUN_ID)] == [str(number)]

    with ThreadPoolExecutor(4) as pool:
        for done in [pool.submit(work, number) for number in range(4)]:
            done.result()


class TestSqliteFile:
    def test_only_its_owner_can_read_it(self, tmp_path: Path) -> None:
        path = tmp_path / "new" / "folder" / "records.db"
        with open_records(f"sqlite:///{path}") as records:
            records.append_entry(make.make_journal_entry())
            for file in path.parent.iterdir():
                assert stat.S_IMODE(file.stat().st_mode) == 0o600, file
        assert stat.S_IMODE(path.parent.stat().st_mode) == 0o700

    def test_the_journal_is_as_safe_as_sqlite_can_make_it(self, tmp_path: Path) -> None:
        url = f"sqlite:///{tmp_path / 'r.db'}"
        names = ("journal_mode", "synchronous", "foreign_keys", "busy_timeout")
        with open_records(url) as records, records.database.begin_read("look") as connection:
            settings = {name: connection.execute(text(f"PRAGMA {name}")).scalar_one() for name in names}
        assert settings == {"journal_mode": "wal", "synchronous": 2, "foreign_keys": 1, "busy_timeout": 30_000}

    def test_switching_to_wal_waits_where_sqlite_itself_would_not(self, tmp_path: Path) -> None:
        # Of processes that create a file at once, SQLite turns some away without minding the busy timeout.
        path = tmp_path / "records.db"
        database = Database(find_records_url(f"sqlite:///{path}"))
        event.listen(database.engine, "connect", lambda raw, _record: raw.execute("PRAGMA busy_timeout = 0"))
        with database.begin_read("connect") as connection:
            assert connection.execute(text("PRAGMA journal_mode")).scalar_one() == "delete"
        with closing(sqlite3.connect(path, isolation_level=None, check_same_thread=False)) as other:
            other.execute("BEGIN EXCLUSIVE")
            release = threading.Timer(0.3, other.execute, ["COMMIT"])
            release.start()
            enable_wal(database)
            release.join()
        with database.begin_read("look") as connection:
            assert connection.execute(text("PRAGMA journal_mode")).scalar_one() == "wal"
        database.close()

    def test_it_is_copied_before_it_is_migrated(self, tmp_path: Path, request: pytest.FixtureRequest) -> None:
        path = tmp_path / "100% mine.db"
        _fill(f"sqlite:///{path}")
        request.getfixturevalue("next_release")
        open_records(f"sqlite:///{path}").close()
        backup = tmp_path / f"100% mine.db.{PRESENT_REVISION}.bak"
        assert stat.S_IMODE(backup.stat().st_mode) == 0o600
        with closing(sqlite3.connect(backup)) as copy:
            assert copy.execute("SELECT version_num FROM fleetpatch_version").fetchone() == (PRESENT_REVISION,)
            assert copy.execute("SELECT id FROM runs").fetchone() == (make.RUN_ID,)
        assert not list(tmp_path.glob("*.part"))

    def test_without_a_copy_nothing_is_migrated(self, tmp_path: Path, request: pytest.FixtureRequest) -> None:
        path = tmp_path / "records.db"
        _fill(f"sqlite:///{path}")
        request.getfixturevalue("next_release")
        (tmp_path / f"records.db.{PRESENT_REVISION}.bak").mkdir()
        with pytest.raises(RecordsError, match="before migrating it") as caught:
            open_records(f"sqlite:///{path}")
        assert "nothing was changed" in caught.value.hint
        (tmp_path / f"records.db.{PRESENT_REVISION}.bak").rmdir()
        _check_kept(f"sqlite:///{path}")

    def test_a_file_that_is_no_database_is_refused(self, tmp_path: Path) -> None:
        path = tmp_path / "notes.txt"
        path.write_text("shopping list " * 100)
        with pytest.raises(RecordsError, match="not a database") as caught:
            open_records(f"sqlite:///{path}")
        assert "point FLEETPATCH_RECORDS_URL at another one" in caught.value.hint
        assert path.read_text() == "shopping list " * 100

    def test_a_folder_that_can_not_be_made(self, tmp_path: Path) -> None:
        (tmp_path / "file").write_text("")
        with pytest.raises(RecordsError, match=r"can't use .*records.db for the records: ") as caught:
            open_records(f"sqlite:///{tmp_path / 'file' / 'records.db'}")
        assert caught.value.hint

    def test_the_default_is_made_on_first_use(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.delenv("FLEETPATCH_RECORDS_URL", raising=False)
        monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path))
        with open_records() as records:
            assert records.display_name == str(tmp_path / "fleetpatch" / "records.db")
        assert (tmp_path / "fleetpatch" / "records.db").exists()

    def test_a_full_disk_is_said_plainly_and_loses_nothing(self, tmp_path: Path) -> None:
        with open_records(f"sqlite:///{tmp_path / 'r.db'}") as records:
            records.append_entry(make.make_journal_entry())
            for _ in range(5):  # each of the pool's connections has its own limit
                with records.database.begin_read("limit") as connection:
                    pages = connection.execute(text("PRAGMA page_count")).scalar_one()
                    connection.execute(text(f"PRAGMA max_page_count = {pages}"))
            with pytest.raises(RecordsError, match="disk is full") as caught:
                records.save(make.make_job_output(text=os.urandom(400_000).hex()))
            assert "Make room" in caught.value.hint
            assert caught.value.transient
            assert records.read_entries(make.RUN_ID) == (make.make_journal_entry(),)


@pytest.mark.postgres
class TestPostgres:
    def test_an_encoding_that_loses_text_is_refused(self) -> None:
        with fresh_database("LATIN1") as url:
            with pytest.raises(RecordsError, match="has the encoding LATIN1; it has to be UTF8") as caught:
                open_records(url)
            assert "ENCODING 'UTF8'" in caught.value.hint

    def test_commits_wait_for_the_disk_even_where_the_server_would_not(self) -> None:
        with fresh_database() as url, open_records(f"{url}&options=-c%20synchronous_commit%3Doff") as records:
            with records.database.begin_read("look") as connection:
                assert connection.execute(text("SHOW synchronous_commit")).scalar_one() == "off"
            with records.database.begin_write("look") as connection:
                assert connection.execute(text("SHOW synchronous_commit")).scalar_one() == "on"

    def test_the_server_does_not_compile_queries(self) -> None:
        # Its estimates for a fleet of thousands are above jit_above_cost: it compiled for longer than the query took.
        with fresh_database() as url, open_records(url) as records, records.database.begin_read("look") as connection:
            assert connection.execute(text("SHOW jit")).scalar_one() == "off"

    def test_a_migration_does_not_keep_writers_waiting_behind_a_backup(
        self, request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        def change_runs(connection: Connection) -> None:
            connection.execute(text("ALTER TABLE runs ADD COLUMN of_the_next_release integer"))

        with fresh_database() as url:
            _fill(url)
            request.getfixturevalue("next_release")
            backup = Database(find_records_url(url))
            with monkeypatch.context() as patch, backup.begin_read("back up") as connection:
                connection.execute(text("SELECT * FROM runs"))
                patch.setattr(setup, "run_migrations", change_runs)
                patch.setattr(setup, "LOCK_TIMEOUT_SECONDS", 0.2)
                with pytest.raises(RecordsUnavailable):
                    open_records(url)
            backup.close()
            assert _read_revision(url) == PRESENT_REVISION
            with open_records(url) as records:
                assert records.read_entries("none") == ()

    def test_a_connection_that_died_meanwhile_is_replaced(self) -> None:
        with fresh_database() as url, open_records(url) as records:
            records.append_entry(make.make_journal_entry())
            killer = Database(find_records_url(url))
            with killer.begin_write("kill") as connection:
                connection.execute(
                    text(
                        "SELECT pg_terminate_backend(pid) FROM pg_stat_activity "
                        "WHERE datname = current_database() AND pid <> pg_backend_pid()"
                    )
                )
            killer.close()
            records.append_entry(make.make_journal_entry(key="after"))
            assert [entry.key for entry in records.read_entries(make.RUN_ID)][1:] == ["after"]
