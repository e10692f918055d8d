"""Access tokens, sessions and the audit log, on SQLite and PostgreSQL."""

from datetime import UTC, datetime, timedelta

import pytest
from sqlalchemy import select

from tasks.errors import RequestError
from tasks.records.access_tokens import AccessToken, SqlAccessTokens, TokenUses
from tasks.records.audit.entry import AuditEntry, AuditResult
from tasks.records.audit.log import SqlAuditLog
from tasks.records.page_tables import web_sessions
from tasks.records.sql_records import SqlRecords

NOW = datetime(2026, 11, 20, 12, tzinfo=UTC)
LATER = NOW + timedelta(hours=12)


@pytest.fixture
def tokens(records: SqlRecords) -> SqlAccessTokens:
    found = SqlAccessTokens(records.database)
    found.add(AccessToken("anna", ("view", "run"), "root", NOW), "a" * 64)
    return found


def test_a_token_is_found_by_its_digest_and_its_use_is_stored_once_a_minute(
    tokens: SqlAccessTokens, records: SqlRecords
) -> None:
    uses = TokenUses(records.database)
    for seconds, stored in ((0, 0), (59, 0), (60, 60), (61, 60)):
        now = NOW + timedelta(seconds=seconds)
        found = tokens.find_by_token("a" * 64, now)
        assert found is not None
        assert (found.name, found.roles) == ("anna", ("view", "run"))
        uses.note(found, now)
        uses.wait(30)
        assert tokens.list_tokens()[0].used_at == NOW + timedelta(seconds=stored)
    assert tokens.find_by_token("b" * 64, NOW) is None


def test_a_token_ends_at_its_time_and_its_sessions_too(tokens: SqlAccessTokens) -> None:
    tokens.add(AccessToken("guest", ("view",), "root", NOW, NOW + timedelta(hours=1)), "c" * 64)
    tokens.open_session("s" * 64, "guest", NOW, LATER)
    before = NOW + timedelta(minutes=59)
    assert tokens.find_by_token("c" * 64, before) is not None
    assert tokens.find_by_session("s" * 64, before) is not None
    assert tokens.find_by_token("c" * 64, NOW + timedelta(hours=1)) is None
    assert tokens.find_by_session("s" * 64, NOW + timedelta(hours=1)) is None


def test_a_session_ends_at_its_time_and_is_forgotten(tokens: SqlAccessTokens, records: SqlRecords) -> None:
    tokens.open_session("s" * 64, "anna", NOW, LATER)
    assert tokens.find_by_session("s" * 64, LATER - timedelta(seconds=1)) is not None
    assert tokens.find_by_session("s" * 64, LATER) is None
    tokens.open_session("t" * 64, "anna", LATER, LATER + timedelta(hours=12))
    with records.database.begin_read("read") as connection:
        assert connection.execute(select(web_sessions.c.digest)).scalars().all() == ["t" * 64]


def test_a_removed_token_takes_its_sessions_along_and_leaves_those_of_others(tokens: SqlAccessTokens) -> None:
    tokens.add(AccessToken("bert", ("view",), "root", NOW), "b" * 64)
    for digest, name in (("1" * 64, "anna"), ("2" * 64, "anna"), ("3" * 64, "bert")):
        tokens.open_session(digest, name, NOW, LATER)
    assert tokens.remove("anna")
    assert not tokens.remove("anna")
    assert tokens.find_by_token("a" * 64, NOW) is None
    assert [tokens.find_by_session(each * 64, NOW) is None for each in "123"] == [True, True, False]
    tokens.add(AccessToken("anna", ("view",), "root", NOW), "d" * 64)  # the name is free again, without the sessions
    assert tokens.find_by_session("1" * 64, NOW) is None


def test_a_name_is_taken_once(tokens: SqlAccessTokens) -> None:
    with pytest.raises(RequestError, match="there is an access token anna already"):
        tokens.add(AccessToken("anna", ("run",), "eve", NOW), "e" * 64)
    assert tokens.list_tokens()[0].created_by == "root"


def test_the_audit_log_is_read_in_parts_and_by_login_or_act(records: SqlRecords) -> None:
    log = SqlAuditLog(records.database)
    for number in range(5):
        who = "anna" if number % 2 else "bert"
        act = "patch" if number < 3 else "cancel"
        log.append(AuditEntry(NOW, who, "10.0.0.1", act, f"env={number}", "", AuditResult.DONE))
    newest = log.read(2)
    assert [entry.subject for entry in newest] == ["env=4", "env=3"]
    assert [entry.subject for entry in log.read(9, before=newest[-1].number)] == ["env=2", "env=1", "env=0"]
    assert [entry.subject for entry in log.read(9, who="anna")] == ["env=3", "env=1"]
    assert [entry.subject for entry in log.read(9, who="anna", act="patch")] == ["env=1"]
