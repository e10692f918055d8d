"""Records that move from one kind of database to the other: what is read there afterwards, and what is refused."""

import json
from collections.abc import Iterator
from pathlib import Path

import pytest
from sqlalchemy import Connection, func, select

from fleetpatch.cli.main import main
from tasks.domain.errors import RecordsError
from tasks.domain.rows.audit import AuditResult
from tasks.domain.states import OperationState
from tasks.records import schema
from tasks.records.audit.log import SqlAuditLog
from tasks.records.audit.verification import AuditState, verify_log
from tasks.records.backup import copying
from tasks.records.backup.copying import copy_records
from tasks.records.decisions import DecisionKind, SqlDecisions
from tasks.records.queries.history import History
from tasks.records.setup import open_records
from tests.contract.backed_up_records import append_entry, decide, read_run_ids, save_run
from tests.contract.records_processes import hold_open
from tests.contract.records_subjects import ANNE, empty_database, new_database
from tests.support import builders as make
from tests.support.forked_calls import begin_call

pytestmark = pytest.mark.postgres
KINDS = [("sqlite", "postgres"), ("postgres", "sqlite")]


@pytest.fixture(params=KINDS, ids=["to PostgreSQL", "to SQLite"])
def urls(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[tuple[str, str]]:
    """Give the URL of records with a run, and that of a database of the other kind in which there is nothing."""
    kind, other = request.param
    folder = tmp_path / "other"
    folder.mkdir()
    with new_database(kind, tmp_path) as source, empty_database(other, folder) as target:
        save_run(source, 1)
        append_entry(source, "before")
        decide(source, "token-1")
        with open_records(source) as records:
            state = make.make_package_state(updates=[make.make_update(name=f"lib{number}") for number in range(3)])
            records.save(make.make_assessment(machine="wéb\u2028-1", packages=state))
        yield source, target


def test_everything_is_read_in_the_copy_as_in_the_source(urls: tuple[str, str]) -> None:
    source, target = urls

    copied = copy_records(source, target)

    assert copied.audit_log == "intact"
    assert copied.rows["runs"] == 1
    assert copied.rows["assessment_updates"] > 0
    assert read_run_ids(target) == read_run_ids(source)
    with open_records(source) as old, open_records(target) as new:
        (run,) = History(old).read_runs()
        checked = History(new, require_seals=True)
        assert checked.read_report(run.id) == History(old).read_report(run.id)
        assert checked.read_journal(run.id) == History(old).read_journal(run.id)
        assert new.read_last_assessment("wéb\u2028-1") == old.read_last_assessment("wéb\u2028-1")
        assert set(SqlDecisions(new.database).find_all(DecisionKind.TOKEN)) == {"token-1"}
        assert verify_log(SqlAuditLog(new.database)).state is AuditState.END_UNKNOWN, "until its next entry"


def test_what_is_stored_later_goes_behind_what_was_copied(urls: tuple[str, str]) -> None:
    source, target = urls
    copy_records(source, target)

    save_run(target, 2)
    append_entry(target, "after")
    with open_records(target) as records:
        records.save(make.make_assessment(machine="web-2"))
        assert [entry.subject for entry in SqlAuditLog(records.database).read(10)] == ["after", "before"]
        assert verify_log(SqlAuditLog(records.database)).state is AuditState.INTACT
        assert len(History(records).read_runs()) == 2


def test_records_are_never_copied_over_others(urls: tuple[str, str]) -> None:
    source, target = urls
    kept = save_run(target, 2)

    with pytest.raises(RecordsError, match="has records: 1 rows in runs"):
        copy_records(source, target)

    assert read_run_ids(target) == {kept}


def test_a_copy_that_is_not_the_same_is_not_kept(urls: tuple[str, str], monkeypatch: pytest.MonkeyPatch) -> None:
    source, target = urls
    digest, calls = copying._digest_rows, []

    def lose_a_row(connection: Connection, table: object) -> tuple[int, int]:
        calls.append(table)
        count, total = digest(connection, table)  # type: ignore[arg-type]
        return (count - 1, total) if len(calls) == 8 else (count, total)

    monkeypatch.setattr(copying, "_digest_rows", lose_a_row)
    with pytest.raises(RecordsError, match="is not the same in"):
        copy_records(source, target)

    with open_records(target) as records, records.database.begin_read("look") as connection:
        tables = [table for table in schema.metadata.sorted_tables if table.name not in {"retention", "fleet_stamp"}]
        assert [connection.execute(select(func.count()).select_from(table)).scalar_one() for table in tables] == [
            0
        ] * len(tables)


def test_records_that_somebody_uses_are_refused(urls: tuple[str, str]) -> None:
    source, target = urls
    with open_records(source) as records:
        run_id = save_run(source, 3, state=OperationState.IN_PROGRESS, ended_at=None)
        records.leases.acquire(run_id, ANNE, 60)
    with pytest.raises(RecordsError, match=f"a process executes run {run_id}"):
        copy_records(source, target)
    with open_records(source) as records:
        records.leases.release(run_id, ANNE)

    holder = begin_call(hold_open, source)
    try:
        holder.receive()
        with pytest.raises(RecordsError, match="the records are open: "):
            copy_records(source, target)
    finally:
        holder.process.kill()
        holder.end()


def test_the_same_database_is_no_copy(urls: tuple[str, str]) -> None:
    with pytest.raises(RecordsError, match="are the same database"):
        copy_records(urls[0], urls[0])


def test_the_command_copies_and_both_audit_logs_have_it(
    urls: tuple[str, str], capsys: pytest.CaptureFixture[str]
) -> None:
    source, target = urls

    assert main(["records", "copy", target, "--records", source, "--yes", "--json"]) == 0

    told = json.loads(capsys.readouterr().out)
    assert (told["auditLog"], told["rows"]["runs"]) == ("intact", 1)
    assert read_acts(source)[0] == ("records copy", AuditResult.BEGUN)
    assert read_acts(target)[:2] == [("records copy", AuditResult.DONE), ("records copy", AuditResult.BEGUN)]
    assert main(["records", "copy", target, "--records", source, "--yes"]) == 5
    assert "has records: " in capsys.readouterr().err
    assert read_acts(source)[0] == ("records copy", AuditResult.FAILED)


def read_acts(url: str) -> list[tuple[str, str]]:
    with open_records(url) as records:
        return [(entry.act, entry.result) for entry in SqlAuditLog(records.database).read(10)]


def test_a_password_is_no_argument(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["records", "copy", "postgresql://anne:secret@db.example.org/fleetpatch", "--yes"]) == 2
    assert "the URL contains a password" in capsys.readouterr().err
