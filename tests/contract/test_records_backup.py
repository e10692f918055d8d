"""Backups of the records on both databases: made while others write, and restored elsewhere and in place."""

import os
import sqlite3
from collections.abc import Iterator
from contextlib import closing
from datetime import UTC, datetime
from pathlib import Path

import pytest
from sqlalchemy import text

from tasks.domain.errors import RecordsError
from tasks.domain.states import OperationState
from tasks.records.audit.log import SqlAuditLog
from tasks.records.audit.verification import AuditState, verify_log
from tasks.records.backup.making import back_up_records
from tasks.records.backup.restoring import plan_restore, require_restorable, restore_records
from tasks.records.decisions import DecisionKind, SqlDecisions
from tasks.records.queries.history import History
from tasks.records.queries.other_fleets import find_other_fleets
from tasks.records.setup import open_records
from tests.contract.backed_up_records import ME, MOMENT, append_entry, decide, read_run_ids, restore, save_run
from tests.contract.records_processes import hold_open, write_for_ever
from tests.contract.records_subjects import BOTH, empty_database, new_database
from tests.support.forked_calls import begin_call
from tests.support.postgres import programs

WRITERS = 3


@pytest.fixture(params=BOTH)
def kind(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    found = programs()
    if found is not None:
        monkeypatch.setenv("PATH", f"{found}:{os.environ['PATH']}")
    return str(request.param)


@pytest.fixture
def url(kind: str, tmp_path: Path) -> Iterator[str]:
    with new_database(kind, tmp_path) as made:
        yield made


@pytest.fixture
def elsewhere(kind: str, tmp_path: Path) -> Iterator[str]:
    """Give the URL of a database in which there is nothing."""
    folder = tmp_path / "elsewhere"
    folder.mkdir()
    with empty_database(kind, folder) as made:
        yield made


def test_every_run_that_was_stored_before_the_backup_began_is_in_it_although_others_write(
    url: str, elsewhere: str, tmp_path: Path
) -> None:
    writers = [begin_call(write_for_ever, url, number) for number in range(WRITERS)]
    try:
        stored = {writer.receive() for writer in writers for _ in range(3)}
        manifest = back_up_records(url, tmp_path / "backup", datetime.now(UTC))
        assert {writer.receive() for writer in writers for _ in range(3)}, "they were not held up"
    finally:
        for writer in writers:
            writer.process.kill()
            writer.end()
    assert (manifest.audit_log, manifest.decisions) == ("intact", "empty")

    restore(elsewhere, tmp_path / "backup")

    found = read_run_ids(elsewhere)
    assert stored <= found
    assert len(found) == manifest.records.rows["runs"]
    with open_records(elsewhere) as records:
        history = History(records)
        finished = [run for run in history.read_runs(limit=10_000) if history.read_report(run.id).outcomes]
        assert stored <= {run.id for run in finished}
        assert all(records.read_entries(run_id) for run_id in found), "the journal comes before the run"
        assert verify_log(SqlAuditLog(records.database)).state in {AuditState.INTACT, AuditState.END_UNKNOWN}


def test_what_was_decided_and_logged_since_the_backup_stays_and_the_replaced_records_are_kept(
    url: str, tmp_path: Path
) -> None:
    kept_run = save_run(url, 1)
    append_entry(url, "before")
    decide(url, "token-old")
    with open_records(url) as records, records.database.begin_write("log in") as connection:
        connection.execute(
            text("INSERT INTO login_links VALUES ('d', 'anne', 'admin', '2027-01-01 00:00:00+00:00', 's')")
        )
    manifest = back_up_records(url, tmp_path / "backup", MOMENT)
    assert manifest.decisions == "intact"
    newer = save_run(url, 2)
    append_entry(url, "after")
    decide(url, "token-new")
    plan = plan_restore(url, tmp_path / "backup")
    assert (plan.newer_runs, plan.reopened_runs, plan.sessions) == ((newer,), (), ())

    restored = restore_records(url, plan, MOMENT)

    assert (restored.carried.decisions, restored.carried.audit_entries, restored.ended_logins) == (1, 1, 1)
    assert read_run_ids(url) == {kept_run}
    with open_records(url) as records:
        decisions = SqlDecisions(records.database).find_all(DecisionKind.TOKEN)
        assert set(decisions) == {"token-old", "token-new"}
        log = SqlAuditLog(records.database)
        assert [entry.subject for entry in log.read(10)] == ["after", "before"]
        assert verify_log(log).state is AuditState.INTACT
        assert find_other_fleets(records.database) == (), "what was replaced is no fleet"
    append_entry(url, "next")
    with open_records(url) as records:
        assert verify_log(SqlAuditLog(records.database)).state is AuditState.INTACT
        if records.database.is_sqlite:
            with closing(sqlite3.connect(restored.kept)) as file:
                kept = {row[0] for row in file.execute("SELECT id FROM runs")}
            assert Path(restored.kept).stat().st_mode & 0o777 == 0o600
        else:
            with records.database.begin_read("look at what was kept") as connection:
                kept = set(connection.execute(text(f'SELECT id FROM "{restored.kept}".runs')).scalars())
    assert kept == {kept_run, newer}


def test_nothing_is_restored_under_a_program_that_has_the_records_open(url: str, tmp_path: Path) -> None:
    run = save_run(url, 1)
    back_up_records(url, tmp_path / "backup", MOMENT)
    holder = begin_call(hold_open, url)
    holder.receive()
    try:
        plan = plan_restore(url, tmp_path / "backup")
        with pytest.raises(RecordsError, match="the records are open: "):
            require_restorable(plan, abandon_runs=True, replace_unreadable=True)
        with pytest.raises(RecordsError):
            restore_records(url, plan, MOMENT)
    finally:
        holder.process.kill()
        holder.end()
    assert read_run_ids(url) == {run}


def test_a_program_of_another_user_is_noticed_by_the_file_itself(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with new_database("sqlite", tmp_path) as url:
        back_up_records(url, tmp_path / "backup", MOMENT)
        monkeypatch.setattr("tasks.records.backup.restoring.find_sessions", lambda _database: ())
        plan = plan_restore(url, tmp_path / "backup")
        holder = begin_call(hold_open, url)
        holder.receive()
        try:
            with pytest.raises(RecordsError, match=r"another program has .* open"):
                restore_records(url, plan, MOMENT)
        finally:
            holder.process.kill()
            holder.end()
        assert list(tmp_path.glob("*.replaced-*")) == []
        restore_records(url, plan, MOMENT)


def test_runs_in_progress_are_not_taken_away(url: str, tmp_path: Path) -> None:
    back_up_records(url, tmp_path / "empty", MOMENT)
    run = save_run(url, 1, state=OperationState.IN_PROGRESS, ended_at=None)
    with open_records(url) as records:
        records.leases.acquire(run, ME, 600)
        with records.database.begin_write("show progress") as connection:
            connection.execute(
                text(
                    "INSERT INTO run_progress (run_id, machine, step, state, message, since, at) VALUES "
                    f"('{run}', 'web-1', 'install', 'x', '', '2026-01-01 00:00:00+00:00', '2026-01-01 00:00:00+00:00')"
                )
            )
    back_up_records(url, tmp_path / "running", MOMENT)
    plan = plan_restore(url, tmp_path / "empty")
    assert (plan.newer_runs, plan.lost_machines) == ((run,), ("web-1",))
    with pytest.raises(RecordsError, match=f"a process executes run {run}"):
        require_restorable(plan, abandon_runs=True, replace_unreadable=True)
    with open_records(url) as records:
        records.leases.release(run, ME)
    with pytest.raises(RecordsError, match=f"run {run} is in progress, and no process executes it"):
        require_restorable(plan_restore(url, tmp_path / "empty"), abandon_runs=False, replace_unreadable=True)

    save_run(url, 1)
    assert plan_restore(url, tmp_path / "running").reopened_runs == (run,)
    restore(url, tmp_path / "empty", abandon_runs=True)
    assert read_run_ids(url) == set()


def test_a_fleet_gets_its_own_records_back_and_no_others(
    url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    common = save_run(url, 1)
    monkeypatch.setenv("FLEETPATCH_FLEET", "Site Ä")
    own = save_run(url, 2)
    manifest = back_up_records(url, tmp_path / "backup", MOMENT)
    assert manifest.records.fleet == "Site Ä"
    save_run(url, 3)
    with open_records(url, fleet="default") as other:
        History(other).read_runs(limit=1)  # another fleet's programs may go on
        restore(url, tmp_path / "backup")
    assert read_run_ids(url) == {own}
    monkeypatch.delenv("FLEETPATCH_FLEET")
    assert read_run_ids(url) == {common}
    with pytest.raises(RecordsError, match="the backup is of the fleet Site Ä, and this is the fleet default"):
        plan_restore(url, tmp_path / "backup")
