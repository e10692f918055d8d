"""The audit log leaves: every entry, in order, also after a receiver was away."""

import socket
import time
from collections.abc import Iterator
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import delete, update

from flows.notify.audit_forwarding import (
    SYSLOG_VARIABLE,
    Backlog,
    find_audit_backlogs,
    forward_audit_log,
    read_targets,
    send_pending,
)
from flows.notify.events import build_audit_event, render_cef, render_json
from inventory.credentials import Secret, resolve_own_secret
from tasks.domain.errors import CredentialError
from tasks.domain.rows.audit import AuditEntry, AuditResult
from tasks.records.audit.cutting import cut_log
from tasks.records.audit.log import SqlAuditLog
from tasks.records.page_schema import audit_log
from tasks.records.sql_records import SqlRecords
from tests.contract.records_subjects import opened

NOW = datetime(2026, 11, 25, 12, tzinfo=UTC)


@pytest.fixture
def records(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[SqlRecords]:
    monkeypatch.setenv("FLEETPATCH_KEYS", str(tmp_path / "keys"))
    with opened("sqlite", tmp_path) as made:
        yield made


@pytest.fixture
def server() -> Iterator[socket.socket]:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as made:
        made.bind(("127.0.0.1", 0))
        made.settimeout(5)
        yield made


def append(records: SqlRecords, act: str, claimed: str = "") -> AuditEntry:
    entry = AuditEntry(
        at=NOW,
        who="anna",
        address="10.0.0.7",
        act=act,
        subject="env=prod",
        detail="",
        result=AuditResult.DONE,
        message="",
        source="token",
        claimed=claimed,
    )
    return SqlAuditLog(records.database).append(entry)


def no_secret(reference: str) -> Secret:
    raise CredentialError(f"there is no {reference}")


def name_targets(server: socket.socket) -> dict[str, str]:
    return {"syslog": f"syslog+udp://127.0.0.1:{server.getsockname()[1]}"}


def test_a_receiver_may_be_in_a_variable_of_fleetpatch(
    records: SqlRecords, server: socket.socket, monkeypatch: pytest.MonkeyPatch
) -> None:
    append(records, "approve")
    monkeypatch.setenv("FLEETPATCH_SIEM", name_targets(server)["syslog"])
    assert send_pending(records.database, {"syslog": "env:FLEETPATCH_SIEM"}, resolve_own_secret)[0].count == 0
    assert b"act=approve" in server.recv(65_536)


def test_an_entry_is_cef_and_json_with_number_and_seal(records: SqlRecords) -> None:
    entry = append(records, "approve", claimed="the|boss=1")
    event = build_audit_event(entry)
    cef = render_cef(event, "1.0")
    assert cef.startswith("CEF:0|fleetpatch|fleetpatch|1.0|audit|approve done|3|")
    for field in ("suser=anna", "act=approve", "outcome=done", "cs1=the|boss\\=1", "cs1Label=claimed", "cn1=1"):
        assert field in cef
    assert f"cs5={entry.seal} cs5Label=seal" in cef
    assert f'"seal": "{entry.seal}"'.encode() in render_json(event)


def test_every_entry_is_sent_once_and_in_order(records: SqlRecords, server: socket.socket) -> None:
    targets = name_targets(server)
    for act in ("login", "patch"):
        append(records, act)
    assert send_pending(records.database, targets, no_secret)[0].count == 0
    append(records, "logout")
    assert send_pending(records.database, targets, no_secret)[0].count == 0
    sent = [server.recv(65536).decode() for _ in range(3)]
    assert [each.split("act=")[1].split()[0] for each in sent] == ["login", "patch", "logout"]
    server.settimeout(0)
    with pytest.raises(BlockingIOError):  # nothing else came
        server.recv(65536)


def test_what_a_receiver_did_not_take_is_sent_later(records: SqlRecords, server: socket.socket) -> None:
    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))
        away = {"syslog": f"syslog+tcp://127.0.0.1:{closed.getsockname()[1]}"}
    for act in ("login", "patch"):
        append(records, act)
    (left,) = send_pending(records.database, away, no_secret)
    assert (left.count, left.oldest_at) == (2, NOW)
    assert "Connection refused" in left.message
    assert find_audit_backlogs(records.database, away)[0].count == 2
    assert send_pending(records.database, name_targets(server), no_secret)[0].count == 0


def test_a_reference_that_leads_to_nothing_loses_nothing(records: SqlRecords) -> None:
    append(records, "patch")
    (left,) = send_pending(records.database, {"webhook": "file:/nowhere"}, no_secret)
    assert (left.count, left.message) == (1, "there is no file:/nowhere")


def test_entries_leave_in_the_background_and_nothing_waits(records: SqlRecords, server: socket.socket) -> None:
    with forward_audit_log(records.database, no_secret, name_targets(server)):
        began = time.monotonic()
        append(records, "patch")
        assert time.monotonic() - began < 2
    assert "act=patch" in server.recv(65536).decode()


def test_a_silent_receiver_delays_the_end_only_for_seconds(records: SqlRecords) -> None:
    with socket.socket() as silent:
        silent.bind(("127.0.0.1", 0))
        silent.listen(1)
        append(records, "patch")
        began = time.monotonic()
        with forward_audit_log(
            records.database, no_secret, {"webhook": f"http://127.0.0.1:{silent.getsockname()[1]}/"}
        ):
            pass
        assert time.monotonic() - began < 8
    assert find_audit_backlogs(records.database, {"webhook": ""})[0].count == 1


def read_sent(server: socket.socket) -> list[str]:
    """Return the acts of all entries that a receiver has got."""
    server.settimeout(0)
    acts = []
    with suppress(BlockingIOError):
        while True:
            acts.append(server.recv(65536).decode().split("act=")[1].split()[0])
    return acts


def change(records: SqlRecords, statement: Any) -> None:
    with records.database.begin_write("change") as connection:
        connection.execute(statement)


def test_behind_a_recorded_cut_the_rest_is_sent(records: SqlRecords, server: socket.socket) -> None:
    targets = name_targets(server)
    for act in ("login", "patch", "approve", "logout"):
        append(records, act)
    once = iter((True, False)).__next__
    assert send_pending(records.database, targets, no_secret, may_continue=once)[0].count == 3
    cut_log(records.database, 3, NOW, ("anna", "os", "", ""), "old")
    assert send_pending(records.database, targets, no_secret) == (Backlog("syslog", 0),)
    assert read_sent(server) == ["login", "logout", "cut"]
    cut_log(records.database, 5, NOW, ("anna", "os", "", ""), "old")
    assert send_pending(records.database, targets, no_secret) == (Backlog("syslog", 0),)


def test_a_first_receiver_gets_a_log_that_begins_behind_a_cut(records: SqlRecords, server: socket.socket) -> None:
    for act in ("login", "patch", "approve"):
        append(records, act)
    cut_log(records.database, 2, NOW, ("anna", "os", "", ""), "old")
    assert send_pending(records.database, name_targets(server), no_secret) == (Backlog("syslog", 0),)
    assert read_sent(server) == ["approve", "cut"]


def test_entries_of_another_users_key_are_sent(
    records: SqlRecords, server: socket.socket, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    append(records, "login")
    monkeypatch.setenv("FLEETPATCH_KEYS", str(tmp_path / "other"))
    append(records, "patch")
    assert send_pending(records.database, name_targets(server), no_secret) == (Backlog("syslog", 0),)
    assert read_sent(server) == ["login", "patch"]


def test_a_gap_stops_a_receiver_until_a_cut_records_it(records: SqlRecords, server: socket.socket) -> None:
    targets = name_targets(server)
    append(records, "login")
    send_pending(records.database, targets, no_secret)
    append(records, "patch")
    change(records, delete(audit_log).where(audit_log.c.number == 2))
    append(records, "logout")
    (left,) = send_pending(records.database, targets, no_secret)
    assert (left.count, left.message) == (1, left.fault)
    assert left.fault.startswith("entry 3 does not follow entry 1, the last that was sent")
    assert find_audit_backlogs(records.database, targets)[0].fault == left.fault
    cut_log(records.database, 2, NOW, ("anna", "os", "", ""), "lost", accept_faults=True)
    assert send_pending(records.database, targets, no_secret) == (Backlog("syslog", 0),)
    assert read_sent(server) == ["login", "logout", "cut"]


def test_a_log_without_the_last_sent_entry_is_a_fault(records: SqlRecords, server: socket.socket) -> None:
    targets = name_targets(server)
    append(records, "login")
    append(records, "patch")
    send_pending(records.database, targets, no_secret)
    change(records, delete(audit_log).where(audit_log.c.number == 2))
    (left,) = find_audit_backlogs(records.database, targets)
    assert (left.count, left.fault.startswith("entry 2 is gone, and none is behind it")) == (0, True)
    change(records, update(audit_log).values(number=2))
    (left,) = send_pending(records.database, targets, no_secret)
    assert left.fault.startswith("entry 2 is not the one that was sent")


def test_receivers_are_named_by_the_environment() -> None:
    assert read_targets({}) == {}
    assert read_targets({SYSLOG_VARIABLE: " syslog+tls://siem.example.org "}) == {
        "syslog": "syslog+tls://siem.example.org"
    }
