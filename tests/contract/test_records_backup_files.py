"""The files of backups: damaged, taken, of others; keys; what the command says."""

import json
import sqlite3
from collections.abc import Callable
from contextlib import closing
from datetime import timedelta
from pathlib import Path

import pytest

from fleetpatch.cli.main import main
from tasks.domain.errors import FleetpatchError, RecordsError
from tasks.domain.rows.audit import AuditResult
from tasks.records.audit.log import SqlAuditLog
from tasks.records.backup import making
from tasks.records.backup.archive import read_backup, write_backup
from tasks.records.backup.making import back_up_records
from tasks.records.backup.manifest import BackupManifest
from tasks.records.backup.restoring import plan_restore
from tasks.records.decisions import DecisionKind, SqlDecisions
from tasks.records.setup import open_records
from tests.contract.backed_up_records import MOMENT, append_entry, decide, read_run_ids, restore, save_run
from tests.contract.records_subjects import new_database
from tests.support.postgres import programs


def _rewrite(file: Path, change: Callable[[BackupManifest], BackupManifest]) -> None:
    content = file.with_name("content")
    manifest = change(read_backup(file, content))
    file.unlink()
    write_backup(file, manifest, content)


def test_a_backup_of_a_newer_version_is_refused(tmp_path: Path) -> None:
    file = tmp_path / "backup"

    def age(found: BackupManifest) -> BackupManifest:
        return found.model_copy(update={"records": found.records.model_copy(update={"revision": "9999"})})

    with new_database("sqlite", tmp_path) as url:
        back_up_records(url, file, MOMENT)
        _rewrite(file, age)
        with pytest.raises(RecordsError, match="the backup is of a newer fleetpatch"):
            plan_restore(url, file)


@pytest.mark.parametrize("place", [0, 600, 20_000, -12_000])
def test_a_damaged_backup_is_refused(tmp_path: Path, place: int) -> None:
    file = tmp_path / "backup"
    with new_database("sqlite", tmp_path) as url:
        back_up_records(url, file, MOMENT)
        content = bytearray(file.read_bytes())
        content[place] ^= 0xFF
        file.write_bytes(content)
        with pytest.raises(RecordsError, match=r"damaged|is no backup"):
            plan_restore(url, file)


def test_a_file_that_is_there_is_not_overwritten_unless_it_is_a_backup_and_that_was_said(tmp_path: Path) -> None:
    file, other = tmp_path / "backup", tmp_path / "letter"
    other.write_text("mine")
    with new_database("sqlite", tmp_path) as url:
        back_up_records(url, file, MOMENT)
        assert file.stat().st_mode & 0o777 == 0o600
        with pytest.raises(RecordsError, match="is there already"):
            back_up_records(url, file, MOMENT)
        later = back_up_records(url, file, MOMENT + timedelta(days=1), overwrite=True)
        assert plan_restore(url, file).backup == later
        for overwrite, path in ((True, other), (False, other), (True, tmp_path / "records.db")):
            with pytest.raises(RecordsError):
                back_up_records(url, path, MOMENT, overwrite=overwrite)
        assert other.read_text() == "mine"
        assert sorted(each.name for each in tmp_path.iterdir()) == ["backup", "letter", "records.db"]


def test_damaged_records_are_not_backed_up_and_can_be_replaced_if_that_is_said(tmp_path: Path) -> None:
    file = tmp_path / "backup"
    with new_database("sqlite", tmp_path) as url:
        run = save_run(url, 1)
        back_up_records(url, file, MOMENT)
        records = tmp_path / "records.db"
        content = records.read_bytes()
        records.write_bytes(b"x" * 4096 + content[4096:])
        with pytest.raises(RecordsError):
            back_up_records(url, tmp_path / "second", MOMENT)
        assert not (tmp_path / "second").exists()
        with pytest.raises(RecordsError, match="the present records can't be read"):
            restore(url, file)
        restored = restore(url, file, replace_unreadable=True)
        assert read_run_ids(url) == {run}
        assert Path(restored.kept).read_bytes().startswith(b"xxxx")


def test_a_page_that_is_damaged_is_noticed_by_the_backup(tmp_path: Path) -> None:
    with new_database("sqlite", tmp_path) as url:
        save_run(url, 1)
        records = tmp_path / "records.db"
        with closing(sqlite3.connect(records)) as file:
            page = file.execute("SELECT rootpage FROM sqlite_master WHERE name = 'ix_runs_state'").fetchone()[0]
            size = file.execute("PRAGMA page_size").fetchone()[0]
        content = bytearray(records.read_bytes())
        content[(page - 1) * size : page * size] = bytes([13]) + bytes(size - 1)
        records.write_bytes(content)
        with pytest.raises(RecordsError, match=r"damaged|can't"):
            back_up_records(url, tmp_path / "backup", MOMENT)
        assert not (tmp_path / "backup").exists()


def test_a_copy_that_lacks_decisions_that_this_computer_knows_is_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FLEETPATCH_KEYS", str(tmp_path / "keys"))
    with new_database("sqlite", tmp_path) as url:
        decide(url, "token-1")
        append_entry(url, "one")
        with closing(sqlite3.connect(tmp_path / "records.db")) as file:
            file.execute("DELETE FROM decisions")
            file.execute("DELETE FROM audit_log")
            file.commit()
        manifest = back_up_records(url, tmp_path / "backup", MOMENT)
        assert manifest.audit_log.startswith("cut short: ")
        assert manifest.decisions.startswith("broken: the chain of decisions is not whole")
        assert main(["records", "backup", str(tmp_path / "second"), "--records", url]) == 3


@pytest.mark.postgres
def test_what_pg_restore_refuses_leaves_the_present_records_in_place(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    found = programs()
    assert found is not None
    with new_database("postgres", tmp_path) as url:
        run = save_run(url, 1)
        monkeypatch.setenv("PATH", "/nowhere")
        with pytest.raises(RecordsError, match="pg_dump is not on the PATH") as caught:
            back_up_records(url, tmp_path / "backup", MOMENT)
        assert "pg_dump --format=custom '--schema=\"public\"'" in caught.value.hint
        monkeypatch.setenv("PATH", f"{found}:/usr/bin:/bin")
        back_up_records(url, tmp_path / "backup", MOMENT)
        tools = tmp_path / "tools"
        tools.mkdir()
        script = f'#!/bin/sh\ncase $1 in --list) exec {found}/pg_restore "$@" ;; esac\necho "no room" >&2\nexit 3\n'
        (tools / "pg_restore").write_text(script)
        (tools / "pg_restore").chmod(0o755)
        monkeypatch.setenv("PATH", f"{tools}:{found}:/usr/bin:/bin")
        assert main(["records", "restore", str(tmp_path / "backup"), "--records", url, "--yes"]) == 5
        with pytest.raises(FleetpatchError, match="no room"):
            restore(url, tmp_path / "backup")
        assert read_run_ids(url) == {run}


def test_a_database_of_another_kind_is_refused(tmp_path: Path) -> None:
    with new_database("sqlite", tmp_path) as url:
        back_up_records(url, tmp_path / "backup", MOMENT)
        _rewrite(tmp_path / "backup", lambda found: found.model_copy(update={"database": "postgresql"}))
        with pytest.raises(RecordsError, match="the backup is of postgresql"):
            plan_restore(url, tmp_path / "backup")


def test_keys_are_in_a_file_of_their_own_and_never_replace_others(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    keys, backup, saved = tmp_path / "keys", str(tmp_path / "backup"), str(tmp_path / "saved-keys")
    monkeypatch.setenv("FLEETPATCH_KEYS", str(keys))
    with new_database("sqlite", tmp_path) as url:
        decide(url, "token-1")
        assert main(["records", "backup", backup, "--keys", saved, "--records", url, "--json"]) == 0
        assert json.loads(capsys.readouterr().out)["keys"] == ["audit", "decisions"]
        key = (keys / "decisions").read_bytes()
        assert key.strip() not in Path(backup).read_bytes()
        assert Path(saved).stat().st_mode & 0o777 == 0o600
        assert main(["records", "backup", backup, "--overwrite", "--keys", saved, "--records", url]) == 5, "never again"

        monkeypatch.setenv("FLEETPATCH_KEYS", str(tmp_path / "new-keys"))
        new = f"sqlite:///{tmp_path / 'new/fleet/records.db'}"
        capsys.readouterr()
        assert main(["records", "restore", backup, "--keys", saved, "--records", new, "--yes", "--json"]) == 0
        assert json.loads(capsys.readouterr().out)["writtenKeys"] == ["audit", "decisions"]
        assert (tmp_path / "new-keys/decisions").read_bytes() == key
        with open_records(new) as records:
            assert set(SqlDecisions(records.database).find_all(DecisionKind.TOKEN)) == {"token-1"}
        (tmp_path / "new-keys/decisions").write_bytes(b"another\n")
        assert main(["records", "restore", backup, "--keys", saved, "--records", new, "--yes"]) == 5
        assert (tmp_path / "new-keys/decisions").read_bytes() == b"another\n"


def test_a_restoration_needs_a_yes_and_is_in_the_audit_log(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    backup = str(tmp_path / "backup")
    with new_database("sqlite", tmp_path) as url:
        assert main(["records", "backup", backup, "--records", url]) == 0
        newer = save_run(url, 1)
        assert main(["records", "restore", backup, "--records", url, "--dry-run"]) == 0
        assert main(["records", "restore", backup, "--records", url]) == 2
        assert read_run_ids(url) == {newer}
        assert f"1 newer run is not in the backup: {newer}" in capsys.readouterr().out
        assert main(["records", "restore", backup, "--records", url, "--yes"]) == 0
        assert read_run_ids(url) == set()
        with open_records(url) as records:
            entries = SqlAuditLog(records.database).read(10)
        assert [(each.act, each.result) for each in entries] == [
            ("records restore", AuditResult.DONE),
            ("records restore", AuditResult.BEGUN),
            ("records backup", AuditResult.DONE),
        ]


def test_records_of_an_earlier_version_are_backed_up_as_they_are(tmp_path: Path) -> None:
    with new_database("sqlite", tmp_path) as url:
        file = tmp_path / "records.db"
        with closing(sqlite3.connect(file)) as connection:
            connection.execute("UPDATE fleetpatch_version SET version_num = '0000'")
            connection.commit()
        assert main(["records", "backup", str(tmp_path / "backup"), "--records", url]) == 3
        assert plan_restore(url, tmp_path / "backup").backup.records.revision == "0000"
        with closing(sqlite3.connect(file)) as connection:
            assert connection.execute("SELECT version_num FROM fleetpatch_version").fetchone()[0] == "0000"
        assert making.NOT_CHECKED in plan_restore(url, tmp_path / "backup").backup.audit_log
