"""The audit log and the command: what it records of itself, and audit list, verify and cut."""

import io
import os
import pwd
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
import typer.main
from sqlalchemy import delete, update

import fleetpatch.cli.command
from fleetpatch.cli.app import app
from fleetpatch.cli.runtime.acting_command import ActingCommand
from flows.ports.caller import Caller
from flows.ports.ports import Ports
from tasks.domain.errors import PolicyRefused
from tasks.domain.rows.audit import AuditEntry
from tasks.records.audit.log import SqlAuditLog
from tasks.records.audit.verification import AuditState, verify_log
from tasks.records.automatic.opt_outs import SqlOptOuts
from tasks.records.page_schema import audit_log
from tasks.records.setup import open_records
from tests.contract.cli.conftest import Stage, security

READING = {
    "approvals", "assess", "audit list", "audit send", "audit verify", "automatic explain", "broker",
    "calendar", "compliance", "compliance-report", "components list", "components plan",
    "components schema", "config check", "config import-azure", "config schema", "doctor", "events list",
    "events serve", "events token list", "hotpatch status", "images history",
    "images list", "images plan", "images schema", "inventory check", "inventory list", "inventory schema",
    "machines list", "maintenance list", "maintenance show", "orders", "plan", "policy explain", "providers", "query",
    "report", "runs", "server",
    "settings", "show", "snapshots list", "updaters status", "updates", "version", "web token list", "why",
}  # fmt: skip
"""Commands that change nothing of the fleet. The engine records an assessment and a plan, as it does with each run."""
RECORDED_ELSEWHERE = {
    "audit cut",
    "records backup",
    "records copy",
    "records restore",
    "web login",
    "web logout",
    "web token add",
    "web token remove",
}
"""The function that they call records it, for all who call it."""
NOT_RECORDED = {"prefect"}
"""Prefect's own command: what it does is done in Prefect, which the audit log does not see."""
ME = pwd.getpwuid(os.getuid()).pw_name


@pytest.fixture(autouse=True)
def own_keys(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FLEETPATCH_KEYS", str(tmp_path / "keys"))
    monkeypatch.delenv("SUDO_USER", raising=False)


def read(stage: Stage) -> list[AuditEntry]:
    with open_records(stage.url) as records:
        return list(SqlAuditLog(records.database).iterate())


def walk(command: Any, path: tuple[str, ...] = ()) -> dict[str, Any]:
    below = getattr(command, "commands", None)
    if below is None:
        real = command.callback() if type(command).__name__ == "LazyCommand" else command
        return {" ".join(path): real}
    return {name: leaf for word, inner in below.items() for name, leaf in walk(inner, (*path, word)).items()}


def test_every_command_is_recorded_or_changes_nothing() -> None:
    """A new command that acts must be an ActingCommand, or stand in one of the lists above."""
    assert callable(fleetpatch.cli.command.main)
    commands = walk(typer.main.get_command(app))
    acting = {name for name, command in commands.items() if isinstance(command, ActingCommand)}
    others = READING | RECORDED_ELSEWHERE | NOT_RECORDED
    assert acting | others == set(commands)
    assert not acting & others
    assert {"patch", "resume", "cancel", "approve", "reject", "unlock", "deploy", "sets release"} <= acting


def test_an_act_is_recorded_with_who_did_it_and_how_it_ended(stage: Stage) -> None:
    assert stage.run("automatic", "pause", "*", "--reason", "an audit").code == 2  # the scope has no machine
    stage.add("web")
    assert stage.run("automatic", "pause", "*", "--reason", "an audit").code == 0
    entries = read(stage)
    assert [(each.act, each.subject, str(each.result)) for each in entries] == [
        ("automatic pause", "*", "begun"),
        ("automatic pause", "*", "failed"),
        ("automatic pause", "*", "begun"),
        ("automatic pause", "*", "done"),
    ]
    assert {(each.who, each.source, each.claimed) for each in entries} == {(ME, "os", "")}
    assert entries[0].address.endswith(f"uid {os.getuid()}")
    assert entries[0].detail == '{"reason": "an audit"}'
    assert "machine" in entries[1].message


def test_a_name_that_is_only_claimed_stands_apart(stage: Stage, monkeypatch: pytest.MonkeyPatch) -> None:
    stage.run("approve", "20260310", "--as", "the boss", "--plan", "0123")
    assert {(each.act, each.who, each.claimed) for each in read(stage)} == {("approve", ME, "the boss")}
    monkeypatch.setenv("USER", "eve")
    monkeypatch.setenv("LOGNAME", "eve")
    monkeypatch.setenv("SUDO_USER", "bert")
    stage.run("cancel", "20260310")
    assert [(each.who, each.claimed) for each in read(stage)][-1] == (ME, "bert")


def test_what_a_person_declines_is_refused(stage: Stage, monkeypatch: pytest.MonkeyPatch) -> None:
    stage.add("web", security("openssl"))
    typed = io.StringIO("n\n")
    typed.isatty = lambda: True  # type: ignore[method-assign]
    monkeypatch.setattr("sys.stdin", typed)
    assert stage.run("patch", "*", "--no-prefect").code == 0
    assert [(each.act, each.subject, str(each.result)) for each in read(stage)] == [
        ("patch", "*", "begun"),
        ("patch", "*", "refused"),
    ]


def test_what_changes_nothing_is_not_recorded(stage: Stage) -> None:
    stage.add("web", security("openssl"))
    stage.run("patch", "*", "--no-prefect", "--dry-run")
    stage.run("machines")
    stage.run("history")
    assert read(stage) == []
    stage.run("history", "--keep-runs", "forever")
    assert [each.act for each in read(stage)] == ["history", "history"]


def test_nothing_is_done_if_the_log_can_not_be_written(stage: Stage, tmp_path: Path) -> None:
    stage.add("web")
    key = tmp_path / "keys/audit"
    key.parent.mkdir(mode=0o700)
    key.write_text("everybody reads it\n")
    key.chmod(0o644)
    said = stage.run("automatic", "pause", "*", "--reason", "an audit")
    assert said.code == 5
    assert "the audit log can't be sealed" in said.err
    assert "can be read or written by others" in said.err
    with open_records(stage.url) as records:
        assert not SqlAuditLog(records.database).read(1)
        assert not SqlOptOuts(records.database).read_active(datetime.now(UTC))


def test_a_run_of_the_command_is_recorded_by_the_engine(stage: Stage, monkeypatch: pytest.MonkeyPatch) -> None:
    stage.add("web", security("openssl"))
    ports = stage.ports

    def build_ports(who: Caller) -> Ports:
        return replace(ports(who), append_audit=SqlAuditLog(open_records(stage.url).database).append)

    monkeypatch.setattr(stage, "ports", build_ports)
    assert stage.run("patch", "*", "--no-prefect", "--yes").code == 0
    begun, done = (each for each in read(stage) if each.act == "run")
    assert (begun.who, begun.source, begun.subject) == (ME, "os", done.subject)
    assert '"kind": "patch"' in begun.detail
    assert '"scope": "*"' in begun.detail
    assert (str(begun.result), str(done.result), done.message) == ("begun", "done", "Succeeded")
    stage.run("assess")
    assert '"kind": "assess"' in read(stage)[-1].detail


def test_a_run_that_the_policy_forbids_is_refused(stage: Stage, monkeypatch: pytest.MonkeyPatch) -> None:
    def forbid(*_words: object, **_options: object) -> None:
        raise PolicyRefused("rule 'prod' forbids it", hint="Ask olga.")

    stage.add("web", security("openssl"))
    ports = stage.ports

    def build_ports(who: Caller) -> Ports:
        return replace(ports(who), append_audit=SqlAuditLog(open_records(stage.url).database).append)

    monkeypatch.setattr(stage, "ports", build_ports)
    monkeypatch.setattr("flows.execution._enforce_policy", forbid)
    assert stage.run("patch", "*", "--no-prefect", "--yes").code == 2
    assert [(each.act, str(each.result), each.message) for each in read(stage)] == [
        ("patch", "begun", ""),
        ("run", "refused", "rule 'prod' forbids it"),
        ("patch", "refused", "rule 'prod' forbids it"),
    ]


def test_the_state_of_the_log_is_its_exit_code(stage: Stage, tmp_path: Path) -> None:
    assert stage.run("audit", "verify").code == 3
    assert stage.run("audit", "verify", "--json").json["state"] == "empty"
    for days in ("400", "500"):
        stage.run("history", "--keep-runs", days)
    said = stage.run("audit", "verify")
    assert (said.code, said.out.splitlines()[0]) == (0, "The audit log is intact.")
    head = stage.run("audit", "verify", "--json").json["head"]
    assert head["number"] == 4
    assert stage.run("audit", "verify", "--head", f"4:{head['seal']}").code == 0
    assert stage.run("audit", "verify", "--head", f"9:{head['seal']}").code == 1
    assert stage.run("audit", "verify", "--head", "4").code == 2
    keys = (tmp_path / "keys").rename(tmp_path / "away")
    said = stage.run("audit", "verify")
    assert (said.code, said.out.splitlines()[0]) == (5, "The audit log can't be checked: its key is missing.")
    (tmp_path / "keys").mkdir(mode=0o700)
    (keys / "audit").rename(tmp_path / "keys/audit")
    assert stage.run("audit", "verify", "--json").json["state"] == "end unknown"
    assert stage.run("audit", "verify").code == 3


def test_a_broken_log_is_said_and_cut(stage: Stage) -> None:
    for days in ("400", "500", "600"):
        stage.run("history", "--keep-runs", days)
    with open_records(stage.url) as records, records.database.begin_write("attack") as connection:
        connection.execute(update(audit_log).where(audit_log.c.number == 2).values(who="eve"))
    said = stage.run("audit", "verify")
    assert said.code == 1
    assert "entry 2 was changed, or added without the key" in said.out
    refused = stage.run("audit", "cut", "2", "--reason", "eve was here", "--yes")
    assert (refused.code, "entry 2 was changed" in refused.err) == (2, True)
    cut = stage.run("audit", "cut", "2", "--reason", "eve was here", "--accept-faults", "--yes", "--json").json
    assert cut["removed"] == 2
    assert cut["entry"]["message"].startswith("eve was here (accepted: broken: entry 2 was changed")
    said = stage.run("audit", "verify")
    assert (said.code, "5 entries: 3 to 7" in said.out, f"by {ME}: entries up to 2, eve was here" in said.out) == (
        0,
        True,
        True,
    )


def test_only_the_newest_entries_can_be_checked(stage: Stage) -> None:
    for days in ("400", "500", "600"):
        stage.run("history", "--keep-runs", days)
    with open_records(stage.url) as records:
        log = SqlAuditLog(records.database)
        found = verify_log(log, newest=2)
        assert (found.state, found.first, found.entries) == (AuditState.INTACT, 5, 2)
        with records.database.begin_write("attack") as connection:
            connection.execute(update(audit_log).where(audit_log.c.number == 6).values(who="eve"))
        assert verify_log(log, newest=2).state is AuditState.BROKEN
        with records.database.begin_write("attack") as connection:
            connection.execute(delete(audit_log).where(audit_log.c.number >= 5))
        assert verify_log(log, newest=2).state is AuditState.CUT_SHORT


def test_old_entries_are_removed_only_as_a_recorded_cut(stage: Stage) -> None:
    for days in ("400", "500", "600"):
        stage.run("history", "--keep-runs", days)
    assert stage.run("audit", "cut", "9", "--reason", "old", "--yes").code == 2
    assert stage.run("audit", "cut", "4", "--reason", " ", "--yes").code == 2
    assert stage.run("audit", "cut", "4", "--reason", "old").code == 2  # there is no terminal
    assert stage.run("audit", "cut", "4", "--reason", "old", "--yes").code == 0
    assert stage.run("audit", "verify").code == 0
    assert [each.number for each in read(stage)] == [5, 6, 7]
    assert stage.run("audit", "cut", "7", "--reason", "all", "--yes").code == 0
    assert stage.run("audit", "verify").code == 0
    with open_records(stage.url) as records, records.database.begin_write("attack") as connection:
        connection.execute(delete(audit_log))
    assert stage.run("audit", "verify").code == 1
    assert stage.run("audit", "cut", "8", "--reason", "lost", "--accept-faults", "--yes").code == 0
    assert stage.run("audit", "verify").code == 0


def test_the_log_is_listed(stage: Stage) -> None:
    stage.run("history", "--keep-runs", "400")
    said = stage.run("audit", "list")
    assert (said.code, "history" in said.out, ME in said.out) == (0, True, True)
    (entry,) = stage.run("audit", "list", "--json", "--limit", "1", "--act", "history").json
    assert (entry["who"], entry["source"], entry["claimed"], entry["result"]) == (ME, "os", "", "done")  # type: ignore[index]
    unknown = stage.run("audit", "list", "--who", "nobody")
    assert (unknown.code, "--who: the audit log has no 'nobody'" in unknown.err) == (2, True)


def test_the_installer_of_a_broker_is_printed(stage: Stage) -> None:
    stage.add("web-1")
    stage.add("web-2")
    said = stage.run("broker", "web-1", "--user", "patch")
    assert said.code == 0
    assert said.out.startswith("#!/bin/sh\n")
    assert 'patch ALL=(root) NOPASSWD: /usr/local/sbin/fleetpatch-broker ""' in said.out
    assert "BEGIN PUBLIC KEY" in said.out
    assert "PRIVATE" not in said.out
    assert stage.run("broker", "web-*", "--user", "patch").code == 2
    assert stage.run("broker", "web-1").code == 2  # the inventory names no login
