import sqlite3
import traceback
from pathlib import Path

import psycopg
import pytest
from sqlalchemy.exc import DBAPIError, OperationalError, StatementError
from sqlalchemy.exc import TimeoutError as PoolTimeout

from tasks.domain.errors import RecordsError, RecordsUnavailable
from tasks.records.setup import open_records
from tasks.records.storage.database import translate_errors
from tasks.records.storage.url import find_records_url, redact_url


@pytest.fixture(autouse=True)
def _no_variable(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("FLEETPATCH_RECORDS_URL", raising=False)


class TestAddress:
    def test_the_default_is_in_the_users_data_directory(self, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
        monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path))
        assert find_records_url().database == str(tmp_path / "fleetpatch" / "records.db")

    def test_the_variable_overrides_it_and_an_argument_overrides_both(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("FLEETPATCH_RECORDS_URL", "sqlite:////one.db")
        assert find_records_url().database == "/one.db"
        assert find_records_url("sqlite:////two.db").database == "/two.db"

    def test_relative_and_home_paths_become_absolute(self, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
        monkeypatch.chdir(tmp_path)
        monkeypatch.setenv("HOME", "/home/ops")
        assert find_records_url("sqlite:///r.db").database == str(tmp_path / "r.db")
        assert find_records_url("sqlite:///~/r.db").database == "/home/ops/r.db"

    @pytest.mark.parametrize("scheme", ["postgresql", "postgres", "postgresql+psycopg"])
    def test_postgresql_by_any_of_its_names(self, scheme: str) -> None:
        assert find_records_url(f"{scheme}://u@h/d").drivername == "postgresql+psycopg"

    @pytest.mark.parametrize(
        ("url", "said"),
        [
            ("mysql://u:hunter2@h/d", "unknown kind: 'mysql'"),
            ("hunter2", "can't be read as a URL"),
            ("postgresql://u:hunter2@h:port/d", "can't be read as a URL"),
            ("postgresql://u:hunter2@h", "names no database"),
            ("sqlite://", "names no file"),
            ("sqlite:///:memory:", "names no file"),
            ("sqlite:///file:x?mode=memory&uri=true", "names no file"),
        ],
    )
    def test_what_we_do_not_know_is_refused_without_showing_the_url(self, url: str, said: str) -> None:
        with pytest.raises(RecordsError, match=said) as caught:
            find_records_url(url)
        assert "Examples: sqlite:////" in caught.value.hint
        assert "hunter2" not in "".join(traceback.format_exception(caught.value)).split("RecordsError", 1)[1]

    def test_passwords_are_never_shown(self) -> None:
        url = find_records_url("postgresql://ops:hunter2@db:5433/fleet?sslpassword=hunter2&password=hunter2")
        assert redact_url(url) == "postgresql://ops@db:5433/fleet"
        assert redact_url(find_records_url("sqlite:////r.db")) == "/r.db"


class TestFaults:
    def test_an_error_names_what_was_tried_where_and_what_to_do(self) -> None:
        with pytest.raises(RecordsError) as caught, translate_errors("save an outcome", "/r.db"):
            raise OperationalError("INSERT secret", {"p": "secret"}, sqlite3.OperationalError("database is locked"))
        assert str(caught.value) == "can't save an outcome in /r.db: database is locked"
        assert caught.value.transient
        assert "Another program locks the database" in caught.value.hint

    def test_a_pool_that_ran_dry(self) -> None:
        with pytest.raises(RecordsError, match="all connections are busy") as caught, translate_errors("save", "/r.db"):
            raise PoolTimeout
        assert caught.value.hint
        assert caught.value.transient

    @pytest.mark.parametrize(
        ("original", "transient"),
        [
            (sqlite3.OperationalError("database is locked"), True),
            (sqlite3.OperationalError("database table is locked: runs"), True),
            (sqlite3.OperationalError("database or disk is full"), True),
            (sqlite3.OperationalError("locking protocol"), True),
            (sqlite3.OperationalError("disk I/O error"), False),
            (sqlite3.OperationalError("attempt to write a readonly database"), False),
            (sqlite3.OperationalError("unable to open database file"), False),
            (sqlite3.OperationalError("no such table: runs"), False),
            (sqlite3.OperationalError("something new"), False),
            (sqlite3.DatabaseError("file is not a database"), False),
            (sqlite3.DatabaseError("database disk image is malformed"), False),
            (psycopg.OperationalError("connection failed: Connection refused"), True),
            (psycopg.OperationalError("consuming input failed: server closed the connection unexpectedly"), True),
            (psycopg.OperationalError("failed to resolve host 'db': Temporary failure in name resolution"), True),
            (psycopg.errors.ConnectionTimeout("connection timeout expired"), True),
            (psycopg.OperationalError("the password given: password authentication failed"), False),
            (psycopg.OperationalError('FATAL:  database "fleet" does not exist'), False),
            (psycopg.OperationalError("FATAL:  no pg_hba.conf entry for host"), False),
            (psycopg.OperationalError("connection failed: FATAL:  sorry, too many clients already"), True),
            (psycopg.OperationalError("certificate verify failed"), False),
            (psycopg.errors.AdminShutdown("terminating connection"), True),
            (psycopg.errors.CannotConnectNow("the database system is starting up"), True),
            (psycopg.errors.DiskFull("could not extend file"), True),
            (psycopg.errors.DeadlockDetected("deadlock detected"), True),
            (psycopg.errors.SerializationFailure("could not serialize access"), True),
            (psycopg.errors.LockNotAvailable("canceling statement due to lock timeout"), True),
            (psycopg.errors.IdleInTransactionSessionTimeout("terminating connection"), True),
            (psycopg.errors.QueryCanceled("canceling statement due to statement timeout"), True),
            (psycopg.errors.ReadOnlySqlTransaction("cannot execute INSERT in a read-only transaction"), True),
            (psycopg.errors.UndefinedTable('relation "runs" does not exist'), False),
            (psycopg.errors.InsufficientPrivilege("permission denied for table runs"), False),
            (psycopg.errors.InvalidPassword("falsch"), False),
            (psycopg.errors.UntranslatableCharacter("unsupported Unicode escape sequence"), False),
            (psycopg.errors.UniqueViolation("duplicate key value"), False),
        ],
        ids=lambda value: str(value) if isinstance(value, Exception) else None,
    )
    def test_what_may_pass_by_itself_is_told_apart(self, original: Exception, transient: bool) -> None:
        module = psycopg if isinstance(original, psycopg.Error) else sqlite3
        wrapped = DBAPIError.instance("INSERT", {}, original, module.Error)
        with pytest.raises(RecordsError) as caught, translate_errors("save", "/r.db"):
            raise wrapped
        assert caught.value.transient is transient
        assert isinstance(caught.value, RecordsUnavailable) is transient

    def test_a_connection_that_died_under_a_statement(self) -> None:
        died = DBAPIError("INSERT", {}, psycopg.InterfaceError("the connection is lost"), connection_invalidated=True)
        with pytest.raises(RecordsUnavailable) as caught, translate_errors("save", "db"):
            raise died
        assert "Is the PostgreSQL server running" in caught.value.hint

    def test_a_fault_that_is_not_the_databases_is_no_passing_one(self) -> None:
        with pytest.raises(RecordsError) as caught, translate_errors("save", "/r.db"):
            raise StatementError("no zone", "INSERT", {}, ValueError("the datetime has no zone"))
        assert not caught.value.transient

    def test_other_errors_pass(self) -> None:
        with pytest.raises(KeyError), translate_errors("save", "/r.db"):
            raise KeyError("x")

    def test_a_server_that_is_not_there(self) -> None:
        url = "postgresql://ops:hunter2@127.0.0.1:1/fleet"
        with pytest.raises(
            RecordsError, match=r"can't open the records in postgresql://ops@127.0.0.1:1/fleet"
        ) as caught:
            open_records(url)
        assert caught.value.transient
        assert "Is the PostgreSQL server running" in caught.value.hint
        assert "hunter2" not in "".join(traceback.format_exception(caught.value))
