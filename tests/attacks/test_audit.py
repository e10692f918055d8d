"""Attacks on the audit log: by somebody who may write the records' database, and has no key of fleetpatch."""

import hashlib
import json
import shutil
from collections.abc import Callable, Iterator
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import pytest
from sqlalchemy import delete, insert, select, update

from flows.installation_checks import check_installation
from flows.notify.audit_forwarding import Backlog, find_audit_backlogs, send_pending
from inventory.credentials import Secret
from tasks.domain.errors import RequestError
from tasks.domain.rows import list_kinds
from tasks.domain.rows.audit import AuditEntry, AuditResult
from tasks.domain.states import FindingLevel
from tasks.records.audit.cutting import cut_log
from tasks.records.audit.log import SqlAuditLog
from tasks.records.audit.seals_and_heads import compute_seal
from tasks.records.audit.verification import AuditState, AuditVerification, verify_log
from tasks.records.page_schema import audit_log
from tasks.records.sql_records import SqlRecords
from tests.contract.records_subjects import BOTH, opened

NOW = datetime(2026, 11, 25, 12, tzinfo=UTC)
column = audit_log.c


def build(act: str) -> AuditEntry:
    return AuditEntry(
        at=NOW,
        who="anna",
        address="10.0.0.7",
        act=act,
        subject="env=prod",
        detail="plan 0123",
        result=AuditResult.DONE,
        source="token",
    )


@pytest.fixture(params=BOTH)
def records(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[SqlRecords]:
    """Records with six entries in the audit log."""
    monkeypatch.setenv("FLEETPATCH_KEYS", str(tmp_path / "keys"))
    with opened(request.param, tmp_path) as made:
        for act in ("login", "approve", "patch", "cancel", "add token", "logout"):
            SqlAuditLog(made.database).append(build(act))
        yield made


def attack(records: SqlRecords, *statements: object) -> AuditVerification:
    assert verify(records).state is AuditState.INTACT
    with records.database.begin_write("attack") as connection:
        for statement in statements:
            connection.execute(statement)  # type: ignore[call-overload]
    return verify(records)


def verify(records: SqlRecords) -> AuditVerification:
    return verify_log(SqlAuditLog(records.database))


def read_row(records: SqlRecords, number: int) -> dict[str, object]:
    with records.database.begin_read("read") as connection:
        return dict(connection.execute(select(audit_log).where(column.number == number)).mappings().one())


@pytest.mark.parametrize("name", [each.name for each in audit_log.columns if each.name != "number"])
def test_a_changed_field_is_named(records: SqlRecords, name: str) -> None:
    """Attacker: SQL. Way: UPDATE one field of one entry. Must hold: the check names the entry."""
    value: object = NOW.replace(hour=13) if name == "at" else "eve"
    found = attack(records, update(audit_log).where(column.number == 3).values({name: value}))
    assert found.state is AuditState.BROKEN
    assert 3 in {fault.number for fault in found.faults}


def test_a_removed_entry_is_named(records: SqlRecords) -> None:
    """Attacker: SQL. Way: DELETE in the middle. Must hold: the check says which entry is gone."""
    found = attack(records, delete(audit_log).where(column.number == 3))
    assert (found.state, [(each.number, each.text) for each in found.faults]) == (
        AuditState.BROKEN,
        [(4, "is the next after 2: entry 3 is gone")],
    )


def test_entries_removed_and_numbered_anew_are_named(records: SqlRecords) -> None:
    """Attacker: SQL. Way: DELETE, then UPDATE the numbers so that none is left out. Must hold: each one is named."""
    renumber = [update(audit_log).where(column.number == each).values(number=each - 1) for each in (4, 5, 6)]
    found = attack(records, delete(audit_log).where(column.number == 3), *renumber)
    assert found.state is AuditState.BROKEN
    assert {3, 4, 5} <= {fault.number for fault in found.faults}


def test_an_added_entry_in_the_middle_is_named(records: SqlRecords) -> None:
    """Attacker: SQL. Way: shift the newer entries and INSERT one. Must hold: it and the shifted ones are named."""
    shift = [update(audit_log).where(column.number == each).values(number=each + 1) for each in (6, 5, 4)]
    forged = read_row(records, 3) | {"number": 4, "who": "bert", "act": "approve"}
    found = attack(records, *shift, insert(audit_log).values(forged))
    assert found.state is AuditState.BROKEN
    assert {4, 5, 6, 7} <= {fault.number for fault in found.faults}


def test_an_added_entry_at_the_end_or_the_beginning_is_named(records: SqlRecords) -> None:
    """Attacker: SQL. Way: INSERT behind the last and before the first entry. Must hold: both are named."""
    behind = read_row(records, 6) | {"number": 7, "previous": read_row(records, 6)["seal"], "who": "bert"}
    before = read_row(records, 1) | {"number": 0}
    found = attack(records, insert(audit_log).values(behind), insert(audit_log).values(before))
    assert found.state is AuditState.BROKEN
    assert {0, 7} <= {fault.number for fault in found.faults}


def test_a_cut_off_end_is_seen(records: SqlRecords) -> None:
    """Attacker: SQL. Way: DELETE the newest entries, which breaks no link. Must hold: the check says which are gone."""
    found = attack(records, delete(audit_log).where(column.number >= 5))
    assert (found.state, found.message) == (AuditState.CUT_SHORT, "entries 5 to 6 are gone from the end")


def test_a_cut_off_end_stays_visible_when_the_log_goes_on(records: SqlRecords) -> None:
    """Attacker: SQL. Way: DELETE the newest entries and wait for others. Must hold: the gap never closes."""
    attack(records, delete(audit_log).where(column.number >= 5))
    for act in ("assess", "patch"):
        SqlAuditLog(records.database).append(build(act))
    found = verify(records)
    assert (found.state, [(each.number, each.text) for each in found.faults]) == (
        AuditState.BROKEN,
        [(7, "is the next after 4: entries 5 to 6 are gone")],
    )


def test_an_emptied_log_is_not_an_empty_log(records: SqlRecords) -> None:
    """Attacker: SQL. Way: DELETE all. Must hold: cut short, and not empty; also after the next entry."""
    assert attack(records, delete(audit_log)).state is AuditState.CUT_SHORT
    SqlAuditLog(records.database).append(build("assess"))
    found = verify(records)
    assert found.state is AuditState.BROKEN
    assert found.faults[0].text == "is the first: entries 1 to 6 are gone, and no cut is recorded"


def recompute(records: SqlRecords, seal: Callable[[AuditEntry], str]) -> list[object]:
    """Return statements that change entry 3, and give it and all later ones new seals and links."""
    statements: list[object] = []
    previous = read_row(records, 2)["seal"]
    for number in range(3, 7):
        row = read_row(records, number) | {"previous": previous}
        entry = AuditEntry(**(row | ({"who": "bert"} if number == 3 else {})))  # type: ignore[arg-type]
        previous = seal(entry)
        values = {"who": entry.who, "previous": entry.previous, "seal": previous}
        statements.append(update(audit_log).where(column.number == number).values(values))
    return statements


def test_seals_that_are_computed_without_the_key_do_not_fit(records: SqlRecords) -> None:
    """Attacker: SQL. Way: change an entry and compute all later seals anew, with another key. Must hold: all named."""
    found = attack(records, *recompute(records, lambda entry: compute_seal(entry, b"eve's own key")))
    assert (found.state, {fault.number for fault in found.faults}) == (AuditState.BROKEN, {3, 4, 5, 6})


def test_plain_hashes_do_not_fit(records: SqlRecords) -> None:
    """Attacker: SQL. Way: the same with SHA-256 and no key. Must hold: all are named."""

    def hash_entry(entry: AuditEntry) -> str:
        return hashlib.sha256(json.dumps([entry.number, entry.previous, entry.who]).encode()).hexdigest()

    found = attack(records, *recompute(records, hash_entry))
    assert (found.state, {fault.number for fault in found.faults}) == (AuditState.BROKEN, {3, 4, 5, 6})


def test_a_cut_can_not_be_forged(records: SqlRecords) -> None:
    """Attacker: SQL. Way: DELETE the oldest, and INSERT the record of a cut. Must hold: it does not count."""
    seal = read_row(records, 4)["previous"]
    forged = replace(
        build("cut audit log"), detail=json.dumps({"through": 3, "seal": seal}), number=7, seal="0" * 64, key_id="0" * 8
    )
    row = {name: getattr(forged, name) for name in list_kinds(AuditEntry)}
    found = attack(records, delete(audit_log).where(column.number <= 3), insert(audit_log).values(row))
    assert found.state is AuditState.BROKEN
    assert [fault.number for fault in found.faults] == [7, 7, 4]


def test_an_older_state_of_the_log_is_seen(records: SqlRecords) -> None:
    """Attacker: SQL. Way: put back rows as they once were, of another log too. Must hold: the last entry is missed."""
    for act in ("a", "b"):
        SqlAuditLog(records.database).append(build(act))
    former = read_row(records, 8)
    attack(records, delete(audit_log).where(column.number >= 7))
    SqlAuditLog(records.database).append(build("c"))
    with records.database.begin_write("attack") as connection:
        connection.execute(delete(audit_log).where(column.number >= 7))
        connection.execute(insert(audit_log).values(former))
    assert verify(records).state is not AuditState.INTACT


def build_forged_row(number: int, previous: object) -> dict[str, object]:
    forged = replace(build("approve"), who="eve", number=number, previous=str(previous), key_id="0" * 8, seal="0" * 64)
    return {name: getattr(forged, name) for name in list_kinds(AuditEntry)}


def read_secret(reference: str) -> Secret:
    raise AssertionError(reference)


def test_a_forged_entry_does_not_count_as_sent(records: SqlRecords, monkeypatch: pytest.MonkeyPatch) -> None:
    """Attacker: SQL. Way: INSERT an entry with a high number, wait until it is sent, DELETE it. Then all real entries
    are older than the last that was sent, and never leave. Must hold: it is not sent, doctor blocks, the real leave.
    """
    sent: list[str] = []
    monkeypatch.setattr("flows.notify.audit_forwarding.send_syslog", lambda _to, event: sent.append(event.title))
    targets = {"syslog": "syslog+tls://siem.example.org"}
    monkeypatch.setenv("FLEETPATCH_AUDIT_SYSLOG", targets["syslog"])
    for row in (
        build_forged_row(1_000_000, "0" * 64),
        read_row(records, 6) | {"number": 1_000_000},
        read_row(records, 6) | {"number": 7, "previous": read_row(records, 6)["seal"]},
    ):
        attack(records, insert(audit_log).values(row))
        for _ in range(2):
            (left,) = send_pending(records.database, targets, read_secret)
        assert (left.count, len(sent)) == (1, 6)
        assert f"entry {row['number']} " in left.fault
        found = check_installation(records.database.url.render_as_string(hide_password=False))
        assert [each.level for each in found if "gets no more entries" in each.message] == [FindingLevel.BLOCK]
        with records.database.begin_write("attack") as connection:
            connection.execute(delete(audit_log).where(column.number > 6))
    SqlAuditLog(records.database).append(build("patch"))
    assert send_pending(records.database, targets, read_secret) == (Backlog("syslog", 0),)
    assert len(sent) == 7


def test_an_entry_of_an_unknown_key_that_is_sent_and_removed_is_missed(
    records: SqlRecords, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Attacker: SQL. Way: INSERT the next entry, as if another user's key had sealed it, wait until it is sent, DELETE
    it. Must hold: the backlog has a fault, also once a real entry has its number. It is never "all is sent".
    """
    monkeypatch.setattr("flows.notify.audit_forwarding.send_syslog", lambda _to, _event: None)
    targets = {"syslog": "syslog+tls://siem.example.org"}
    attack(records, insert(audit_log).values(build_forged_row(7, read_row(records, 6)["seal"])))
    assert send_pending(records.database, targets, read_secret) == (Backlog("syslog", 0),)
    with records.database.begin_write("attack") as connection:
        connection.execute(delete(audit_log).where(column.number == 7))
    assert find_audit_backlogs(records.database, targets)[0].fault.startswith("entry 7 is gone")
    SqlAuditLog(records.database).append(build("patch"))
    assert find_audit_backlogs(records.database, targets)[0].fault.startswith("entry 7 is not the one that was sent")


def test_numbers_that_are_used_again_do_not_hide_what_was_removed(
    records: SqlRecords, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Attacker: SQL. Way: two users share the key; DELETE the entries that only one of them has seen, and wait until
    the other has used their numbers again. Must hold: the next entry of the first one says what it misses, sealed; both
    users' checks are broken, until a cut accepts it.
    """

    def act_as(user: str, *acts: str) -> AuditVerification:
        monkeypatch.setenv("FLEETPATCH_KEYS", str(tmp_path / user))
        for act in acts:
            SqlAuditLog(records.database).append(build(act))
        return verify(records)

    (tmp_path / "pages").mkdir(mode=0o700)
    shutil.copy2(tmp_path / "keys/audit", tmp_path / "pages/audit")
    assert act_as("pages", "login", "approve", "logout").state is AuditState.INTACT
    missed = read_row(records, 9)["seal"]
    with records.database.begin_write("attack") as connection:
        connection.execute(delete(audit_log).where(column.number >= 7))
    assert act_as("keys", "patch", "patch", "patch", "patch").state is AuditState.INTACT
    found = act_as("pages", "login")
    assert (found.state, found.last and found.last.number) == (AuditState.BROKEN, 12)
    noted = read_row(records, 11)
    assert (noted["act"], noted["subject"], noted["who"]) == ("miss audit entry", "entry 9", "")
    assert json.loads(str(noted["detail"])) == {"number": 9, "seal": missed}
    assert (9, "is not the one that was seen when it was stored: entry 11 says so") in {
        (fault.number, fault.text) for fault in found.faults
    }
    assert act_as("keys", "patch").state is AuditState.BROKEN
    assert act_as("pages", "logout", "login").entries == 15  # it is said once
    cut_log(records.database, 10, NOW, ("olga", "os", "", ""), "eve was here", accept_faults=True)
    assert [act_as(user).state for user in ("pages", "keys")] == [AuditState.INTACT] * 2


def test_a_recorded_cut_is_no_removal(records: SqlRecords, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """No attack: another user cuts the log beyond what this one has seen. Must hold: nothing is missed."""
    (tmp_path / "root").mkdir(mode=0o700)
    shutil.copy2(tmp_path / "keys/audit", tmp_path / "root/audit")
    monkeypatch.setenv("FLEETPATCH_KEYS", str(tmp_path / "root"))
    SqlAuditLog(records.database).append(build("approve"))
    cut_log(records.database, 7, NOW, ("olga", "os", "", ""), "old")
    monkeypatch.setenv("FLEETPATCH_KEYS", str(tmp_path / "keys"))
    SqlAuditLog(records.database).append(build("patch"))
    assert [entry.act for entry in SqlAuditLog(records.database).iterate()] == ["cut audit log", "patch"]
    assert verify(records).state is AuditState.INTACT


@pytest.mark.parametrize("number", [2**63 - 1, 2**53 - 1, 2**53 - 2])
def test_a_number_that_is_too_large_stops_no_entry(records: SqlRecords, number: int) -> None:
    """Attacker: SQL. Way: INSERT an entry with the largest number, behind which there is none. Must hold: entries are
    stored, the check names the forged one, and a cut that accepts faults removes it.
    """
    found = attack(records, insert(audit_log).values(read_row(records, 6) | {"number": number}))
    assert (found.state, number in {fault.number for fault in found.faults}) == (AuditState.BROKEN, True)
    stored = [SqlAuditLog(records.database).append(build("patch")).number for _ in range(4)]
    assert stored[-2:] == [stored[-1] - 1, stored[-1]]
    assert stored[-1] in {9, 10}
    assert number in {fault.number for fault in verify(records).faults}
    entry, _ = cut_log(records.database, stored[-1], NOW, ("olga", "os", "", ""), "eve was here", accept_faults=True)
    assert [each.number for each in SqlAuditLog(records.database).iterate()] == [entry.number]
    if number != 2**53 - 2:  # behind that one the first entry was stored, and so this user misses it
        assert verify(records).state is AuditState.INTACT
    with pytest.raises(RequestError):
        cut_log(records.database, 2**63 - 1, NOW, ("olga", "os", "", ""), "all", accept_faults=True)
