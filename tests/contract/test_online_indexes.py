"""Indexes that records of an earlier release lack: built while others write, and only by who may."""

import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from sqlalchemy import event, inspect, text
from sqlalchemy.engine import make_url

from tasks.records import schema
from tasks.records.queries.updates import read_last_update_results
from tasks.records.setup import open_records
from tasks.records.sql_records import SqlRecords
from tasks.records.storage.online_indexes import build_missing_indexes
from tests.contract.records_subjects import BOTH, new_database, opened
from tests.support import builders as make
from tests.support.postgres import fresh_database

NEW, OLD = "ix_update_results_name_machine_number_run_id", "ix_update_results_name"
SECONDS = 30.0


def read_indexes(records: SqlRecords) -> set[str | None]:
    with records.database.begin_read("look") as connection:
        found = inspect(connection).get_indexes("update_results", schema=records.database.schema or None)
        return {index["name"] for index in found} & {NEW, OLD}


def make_older(records: SqlRecords) -> None:
    """Give the records the indexes of release 0.1.0."""
    with records.database.begin_write("make it older") as connection:
        connection.execute(text(f"DROP INDEX {NEW}"))
        connection.execute(text(f"CREATE INDEX {OLD} ON update_results (name)"))


@pytest.fixture(params=BOTH)
def older(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[SqlRecords]:
    with opened(request.param, tmp_path) as records:
        make_older(records)
        yield records


@pytest.fixture
def on_postgres(tmp_path: Path) -> Iterator[SqlRecords]:
    with opened("postgres", tmp_path) as records:
        make_older(records)
        yield records


@pytest.mark.parametrize("kind", BOTH)
def test_new_records_lack_none(kind: str, tmp_path: Path) -> None:
    with opened(kind, tmp_path) as records:
        assert read_indexes(records) == {NEW}
        assert build_missing_indexes(records.database, schema.metadata) == ()


def test_it_takes_the_place_of_the_old_one(older: SqlRecords) -> None:
    older.save(make.make_report())
    assert build_missing_indexes(older.database, schema.metadata) == (NEW,)
    assert read_indexes(older) == {NEW}
    assert build_missing_indexes(older.database, schema.metadata) == ()


@pytest.mark.postgres
def test_who_writes_does_not_wait_for_it(on_postgres: SqlRecords) -> None:
    on_postgres.save(make.make_report())
    insert = text(
        "INSERT INTO update_results (outcome, run_id, machine, update_id, name, arch, classification, state, reason, "
        "available, kb) SELECT number, run_id, machine, '', 'written', '', '', '', '', '', '' FROM outcomes LIMIT 1"
    )
    built: list[tuple[str, ...]] = []
    thread = threading.Thread(target=lambda: built.append(build_missing_indexes(on_postgres.database, schema.metadata)))
    waits = text("SELECT count(*) FROM pg_locks WHERE NOT granted AND locktype = 'virtualxid'")
    with on_postgres.database.begin_write("write for long") as older_writer:
        older_writer.execute(insert)
        thread.start()
        for _ in range(int(SECONDS / 0.05)):  # the index waits for the writer that began before it
            if older_writer.execute(waits).scalar_one():
                break
            threading.Event().wait(0.05)
        assert older_writer.execute(waits).scalar_one() == 1
        with on_postgres.database.begin_write("write meanwhile") as writer:
            writer.execute(text("SET LOCAL lock_timeout = '1s'"))
            writer.execute(insert)
        assert thread.is_alive()
    thread.join(SECONDS)
    assert built == [(NEW,)]
    assert read_indexes(on_postgres) == {NEW}


@pytest.mark.postgres
def test_what_a_broken_attempt_left_is_built_anew(on_postgres: SqlRecords) -> None:
    build_missing_indexes(on_postgres.database, schema.metadata)
    spoil = f"UPDATE pg_index SET indisvalid = false WHERE indexrelid = '{NEW}'::regclass"
    with on_postgres.database.begin_write("spoil it") as connection:
        connection.execute(text(spoil))
    assert build_missing_indexes(on_postgres.database, schema.metadata) == (NEW,)
    assert build_missing_indexes(on_postgres.database, schema.metadata) == ()


@pytest.mark.postgres
def test_who_does_not_own_the_table_builds_nothing(tmp_path: Path) -> None:
    with new_database("postgres", tmp_path) as url:
        with open_records(url) as records:
            make_older(records)
            with records.database.begin_write("make a role") as connection:
                connection.execute(text("CREATE ROLE looks_only LOGIN"))
                connection.execute(text("GRANT SELECT ON ALL TABLES IN SCHEMA public TO looks_only"))
        try:
            with open_records(make_url(url).set(username="looks_only").render_as_string()) as records:
                assert build_missing_indexes(records.database, schema.metadata) == ()
        finally:
            with open_records(url) as records, records.database.begin_write("drop the role") as connection:
                connection.execute(text("DROP OWNED BY looks_only"))
                connection.execute(text("DROP ROLE looks_only"))


@pytest.mark.postgres
def test_it_is_built_in_the_schema_of_the_fleet() -> None:
    with fresh_database() as url, open_records(url, fleet="north") as records:
        make_older(records)
        assert build_missing_indexes(records.database, schema.metadata) == (NEW,)
        assert read_indexes(records) == {NEW}


@pytest.mark.postgres
def test_the_last_results_of_an_update_are_found_without_reading_all_of_them(on_postgres: SqlRecords) -> None:
    on_postgres.save(make.make_report())
    build_missing_indexes(on_postgres.database, schema.metadata)
    insert = text(
        "INSERT INTO update_results (outcome, run_id, machine, update_id, name, arch, classification, state, reason, "
        "available, kb) SELECT o.number, 'r' || n / 10, 'm' || n % 10, '', 'u' || n % 20, '', '', '', '', '', '' "
        "FROM generate_series(1, 20000) n, (SELECT number FROM outcomes LIMIT 1) o"
    )
    with on_postgres.database.begin_write("insert") as connection:
        connection.execute(insert)
    with on_postgres.database.open_autocommit("vacuum") as connection:
        connection.execute(text("VACUUM ANALYZE update_results"))
    asked: list[tuple[str, object]] = []
    engine = on_postgres.database._read_engine
    event.listen(engine, "before_cursor_execute", lambda _, __, sql, values, *___: asked.append((sql, values)))
    assert set(read_last_update_results(on_postgres.database, "u3")) == {"m3"}
    sql, values = asked[-1]
    with on_postgres.database.begin_read("explain") as connection:
        plan = "\n".join(connection.exec_driver_sql(f"EXPLAIN {sql}", values).scalars())  # type: ignore[arg-type]
    assert f"Index Only Scan using {NEW}" in plan
