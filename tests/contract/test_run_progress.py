"""The store of the progress of runs, on every database."""

from datetime import UTC, datetime

from sqlalchemy import select

from tasks.domain.protocols.leases import LeaseHolder
from tasks.domain.protocols.records import ProgressRow
from tasks.records.page_schema import run_progress
from tasks.records.run_progress import SqlRunProgress
from tasks.records.sql_records import SqlRecords

AT = datetime(2026, 3, 10, tzinfo=UTC)
MINE, THEIRS = LeaseHolder("mine", "h", 1, "u"), LeaseHolder("theirs", "h", 2, "u")


def build_row(machine: str, message: str = "", fraction: float | None = None) -> ProgressRow:
    return ProgressRow(machine, "install", "InProgress", fraction, message, AT, AT, 1, 0)


def read(records: SqlRecords, run_id: str = "run") -> dict[str, str]:
    query = select(run_progress.c.machine, run_progress.c.message).where(run_progress.c.run_id == run_id)
    with records.database.begin_read("look") as connection:
        return dict(connection.execute(query).tuples().all())


def test_rows_are_stored_replaced_and_deleted(records: SqlRecords) -> None:
    store = SqlRunProgress(records.database)
    assert store.save("run", [build_row(f"m{number}") for number in range(1200)])
    assert store.save("run", [build_row("m7", "a\x00\ud800b")])
    assert store.save("other", [build_row("m7", "other")])
    found = read(records)
    assert len(found) == 1200
    assert found["m7"] == "a\ufffd\ufffdb"
    assert store.delete("run")
    assert read(records) == {}
    assert read(records, "other") == {"m7": "other"}


def test_only_the_holder_of_the_lease_writes(records: SqlRecords) -> None:
    store = SqlRunProgress(records.database)
    assert not store.save("run", [build_row("m")], MINE)
    records.leases.acquire("run", MINE, 60)
    assert store.save("run", [build_row("m", "mine")], MINE)
    records.leases.release("run", MINE)
    records.leases.acquire("run", THEIRS, 60)
    assert store.save("run", [build_row("m", "theirs")], THEIRS)
    assert not store.save("run", [build_row("m", "late")], MINE)
    assert not store.delete("run", MINE)
    assert read(records) == {"m": "theirs"}
