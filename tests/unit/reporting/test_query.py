"""Questions in SQL reach the tables and nothing else, and what is wrong with them is said."""

import os
import re
import subprocess
import sys
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from datetime import time

import pyarrow as pa
import pytest

from tasks.domain.errors import RequestError
from tasks.domain.protocols.tables import TABLES, Batch
from tasks.reports.query import engine
from tasks.reports.query.azure_views import SOURCES, VIEWS
from tasks.reports.query.engine import FleetQuery, find_tables, open_query
from tests.ci import tree


class Rows:
    """A source with one machine. ``read`` has the tables that were asked for."""

    def __init__(self, name: str = "web-1") -> None:
        self.read: list[str] = []
        self._name = name

    def read_table(self, name: str) -> Iterable[Batch]:
        self.read.append(name)
        if name != "machines":
            return []
        values = {"name": self._name, "critical": 2, "tags": [("role", "web")]}
        return [[[values.get(column) for column in TABLES["machines"]]]]


def _ask(sql: str, seconds: float = 60.0) -> list[tuple[object, ...]]:
    with open_query(Rows(), seconds) as query:
        return query.ask(sql).list_rows()


def test_only_named_tables_are_read_and_each_once() -> None:
    source = Rows()
    query = FleetQuery(source)
    assert query.ask("WITH mine AS (SELECT * FROM Machines) SELECT name FROM mine").list_rows() == [("web-1",)]
    query.ask("SELECT count(*) FROM machines")
    assert source.read == ["machines"]
    query.ask("FROM patchassessmentresources")
    assert sorted(source.read) == ["machines", "updates"]
    query.close()


def test_every_view_says_what_it_reads() -> None:
    assert set(SOURCES) == set(VIEWS)
    for name, statement in VIEWS.items():
        assert SOURCES[name] == find_tables(re.sub("'[^']*'", "''", statement))


def test_maps_and_numbers_keep_their_types() -> None:
    assert _ask("SELECT tags['role'], critical + 1, security FROM machines") == [("web", 3, None)]


def test_frames_keep_integers_that_are_missing() -> None:
    with open_query(Rows()) as query:
        frame = query.read_frame("SELECT critical, security, name FROM machines")
    assert str(frame["security"].dtype) == "Int64"
    assert frame["critical"].tolist() == [2]


def test_text_that_is_no_unicode_is_read() -> None:
    with open_query(Rows("a\udcffb")) as query:
        assert query.ask("SELECT name FROM machines").list_rows() == [("a?b",)]


@pytest.mark.parametrize(
    "sql",
    [
        "SELECT 1; SELECT 2",
        "DROP VIEW machines",
        "CREATE TABLE mine (a INT)",
        "INSERT INTO machines VALUES (1)",
        "ATTACH 'other.db'",
        "COPY machines TO 'out.csv'",
        "EXPORT DATABASE 'out'",
        "INSTALL httpfs",
        "LOAD httpfs",
        "SET memory_limit = '100GB'",
        "PRAGMA database_list",
        "CALL pragma_version()",
        "",
    ],
)
def test_what_does_more_than_read_is_refused(sql: str) -> None:
    with pytest.raises(RequestError):
        _ask(sql)


@pytest.mark.parametrize(
    "sql",
    [
        "SELECT * FROM read_csv('/etc/passwd')",
        "SELECT * FROM read_text('/etc/passwd')",
        "SELECT * FROM '/etc/passwd'",
        "SELECT * FROM glob('/etc/*')",
        "SELECT * FROM 'https://example.org/a.parquet'",
        "SELECT getenv('HOME')",
    ],
)
def test_files_the_network_and_the_program_are_out_of_reach(sql: str) -> None:
    with pytest.raises(RequestError):
        _ask(sql)


def test_variables_of_the_program_are_no_tables() -> None:
    secrets = pa.table({"a": [1]})
    with open_query(Rows()) as query, pytest.raises(RequestError, match="secrets"):
        query.ask("SELECT * FROM secrets")
    assert secrets.num_rows == 1


def test_a_wrong_name_gets_the_near_ones() -> None:
    with pytest.raises(RequestError) as caught:
        _ask("SELECT * FROM machins")
    assert caught.value.hint.startswith("Did you mean machines")
    with pytest.raises(RequestError, match="compliance"):
        _ask("SELECT complience FROM machines")


def test_a_query_that_takes_too_long_ends() -> None:
    with pytest.raises(RequestError, match="too long"):
        _ask("SELECT sum(a.range * b.range) FROM range(10000000) a, range(10000000) b", seconds=0.3)


@pytest.mark.parametrize(
    "sql", ["DESCRIBE machines", "SHOW TABLES", "SUMMARIZE machines", "VALUES (1)", "FROM machines"]
)
def test_all_that_reads_is_allowed(sql: str) -> None:
    assert _ask(sql)


@pytest.mark.parametrize("sql", ["EXPLAIN SELECT 1", "EXPLAIN ANALYZE CREATE TABLE mine AS SELECT 1"])
def test_an_explained_statement_is_refused_because_it_may_be_executed(sql: str) -> None:
    with pytest.raises(RequestError, match="only reads"):
        _ask(sql)


def test_columns_of_one_name_are_all_kept() -> None:
    with open_query(Rows()) as query:
        answer = query.ask("SELECT 1 AS a, 2 AS a, 3 AS a_1")
    assert answer.columns == ("a", "a_2", "a_1")
    assert answer.list_rows() == [(1, 2, 3)]


def test_an_interval_is_text_as_sql_shows_it() -> None:
    sql = """SELECT INTERVAL 26 HOUR AS "a""b", TIME '12:00' AS t ORDER BY 1"""
    assert _ask(sql) == [("26:00:00", time(12))]
    with open_query(Rows()) as query:
        assert query.ask(sql).columns == ('a"b', "t")


@pytest.mark.parametrize(
    "sql", ["SELECT DATE '20000-01-01'", "SELECT 'infinity'::TIMESTAMP", "SELECT '1-01-01 (BC)'::DATE"]
)
def test_a_time_that_python_has_not_is_named_with_the_remedy(sql: str) -> None:
    with pytest.raises(RequestError, match="time that can't be shown") as caught:
        _ask(sql)
    assert "::VARCHAR" in caught.value.hint


def test_an_answer_that_is_too_large_ends(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(engine, "MAX_ANSWER_BYTES", 10**6)
    with pytest.raises(RequestError, match="the answer has more than"):
        _ask("SELECT * FROM range(1000000000000)")


def test_ctrl_c_is_no_fault_and_no_timeout() -> None:
    program = """
import os, signal, threading
from tests.unit.reporting.test_query import Rows, open_query
signal.signal(signal.SIGINT, signal.default_int_handler)  # workers of pytest-xdist ignore it, and so would this
with open_query(Rows()) as query:
    threading.Timer(0.3, os.kill, (os.getpid(), signal.SIGINT)).start()
    try:
        query.ask("SELECT count(*) FROM range(1000000000000)")
    except KeyboardInterrupt:
        print("interrupted")
"""
    words, one_thread = [sys.executable, "-c", program], {**os.environ, "OMP_NUM_THREADS": "1"}
    done = subprocess.run(words, cwd=tree.TOP, env=one_thread, capture_output=True, text=True, timeout=300, check=False)
    assert (done.stdout, done.returncode) == ("interrupted\n", 0), done.stderr


def test_ctrl_c_before_the_query_begins_ends_it(monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupt(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(ThreadPoolExecutor, "submit", interrupt)
    with open_query(Rows()) as query, pytest.raises(KeyboardInterrupt):
        query.ask("SELECT 1")


def test_the_time_limit_holds_for_one_row_of_many() -> None:
    with pytest.raises(RequestError, match="too long"):
        _ask("SELECT count(*) FROM range(1000000000000)", seconds=0.3)
