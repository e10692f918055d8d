"""Access tokens, sessions and the audit log, on SQLite and PostgreSQL."""

from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest

from tasks.domain.errors import RequestError
from tasks.domain.rows.audit import AuditEntry, AuditResult
from tasks.records.access_tokens import TOKEN_SOURCE, AccessToken, SqlAccessTokens
from tasks.records.audit.log import SqlAuditLog
from tasks.records.sql_records import SqlRecords
from tasks.records.web_sessions import LoginLink, SqlWebSessions, UseTimes, WebSession

NOW = datetime(2026, 11, 20, 12, tzinfo=UTC)
LATER = NOW + timedelta(hours=12)


@pytest.fixture
def tokens(records: SqlRecords) -> SqlAccessTokens:
    found = SqlAccessTokens(records.database)
    found.add(AccessToken("anna", ("view", "run"), "root", NOW), "a" * 64)
    return found


def test_a_token_is_found_by_its_digest_and_its_use_is_stored_once_a_minute(
    tokens: SqlAccessTokens,
) -> None:
    uses = UseTimes(tokens.store_use, "tokens")
    for seconds, stored in ((0, 0), (59, 0), (60, 60), (61, 60)):
        now = NOW + timedelta(seconds=seconds)
        found = tokens.find_by_token("a" * 64, now)
        assert found is not None
        assert (found.name, found.roles) == ("anna", ("view", "run"))
        uses.note(found.name, found.used_at, now)
        uses.wait(30)
        assert tokens.list_tokens()[0].used_at == NOW + timedelta(seconds=stored)
    assert tokens.find_by_token("b" * 64, NOW) is None


def test_a_token_ends_at_its_time(tokens: SqlAccessTokens) -> None:
    tokens.add(AccessToken("guest", ("view",), "root", NOW, NOW + timedelta(hours=1)), "c" * 64)
    assert tokens.find_by_token("c" * 64, NOW + timedelta(minutes=59)) is not None
    assert tokens.find_by_token("c" * 64, NOW + timedelta(hours=1)) is None


def build_session(digest: str, name: str, source: str = TOKEN_SOURCE) -> WebSession:
    return WebSession(digest, name, ("view", "run@env=stage or env=lab"), source, "s", NOW, LATER, NOW, NOW, "t", "x")


def test_sessions_that_are_over_are_forgotten_and_others_stay_as_they_were(records: SqlRecords) -> None:
    sessions = SqlWebSessions(records.database)
    session = build_session("s" * 64, "anna")
    sessions.add(session, NOW)
    assert sessions.find("s" * 64) == session
    sessions.add(replace(session, digest="t" * 64, expires_at=LATER + timedelta(hours=12)), LATER)
    assert sessions.find("s" * 64) is None
    sessions.store_use("t" * 64, LATER)
    sessions.update(replace(session, digest="t" * 64, roles=("view",)))  # a check knows no newer use
    stored = sessions.find("t" * 64)
    assert stored is not None
    assert (stored.roles, stored.used_at) == (("view",), LATER)


def test_a_removed_token_takes_its_sessions_along_and_leaves_those_of_others(
    tokens: SqlAccessTokens, records: SqlRecords
) -> None:
    sessions = SqlWebSessions(records.database)
    for digest, name, source in (("1", "anna", TOKEN_SOURCE), ("2", "anna", "oidc"), ("3", "bert", TOKEN_SOURCE)):
        sessions.add(build_session(digest * 64, name, source), NOW)
    assert tokens.remove("anna")
    assert not tokens.remove("anna")
    assert tokens.find_by_token("a" * 64, NOW) is None
    assert [sessions.find(digit * 64) is None for digit in "123"] == [True, False, False]
    assert sessions.remove_of_name("anna") == 1
    assert sessions.remove_of_subject(TOKEN_SOURCE, "s") == 1


def test_a_link_is_taken_once_also_by_many_at_once(records: SqlRecords) -> None:
    sessions, link = SqlWebSessions(records.database), LoginLink("l" * 64, "anna", ("view", "run"), LATER, "x")
    sessions.add_link(link, NOW)
    with ThreadPoolExecutor(8) as pool:
        taken = list(pool.map(lambda _: sessions.take_link("l" * 64), range(16)))
    assert sorted(taken, key=lambda found: found is None) == [link, *[None] * 15]
    sessions.add_link(link, NOW)
    sessions.add_link(replace(link, digest="m" * 64), LATER)
    assert sessions.take_link("l" * 64) is None  # it was over, and is forgotten


def test_a_name_is_taken_once(tokens: SqlAccessTokens) -> None:
    with pytest.raises(RequestError, match="there is an access token anna already"):
        tokens.add(AccessToken("anna", ("run",), "eve", NOW), "e" * 64)
    assert tokens.list_tokens()[0].created_by == "root"


def test_the_audit_log_is_read_in_parts_and_by_login_or_act(records: SqlRecords) -> None:
    log = SqlAuditLog(records.database)
    for number in range(5):
        who = "anna" if number % 2 else "bert"
        act = "patch" if number < 3 else "cancel"
        log.append(
            AuditEntry(
                at=NOW,
                who=who,
                address="10.0.0.1",
                act=act,
                subject=f"env={number}",
                detail="",
                result=AuditResult.DONE,
            )
        )
    newest = log.read(2)
    assert [entry.subject for entry in newest] == ["env=4", "env=3"]
    assert [entry.subject for entry in log.read(9, before=newest[-1].number)] == ["env=2", "env=1", "env=0"]
    assert [entry.subject for entry in log.read(9, who="anna")] == ["env=3", "env=1"]
    assert [entry.subject for entry in log.read(9, who="anna", act="patch")] == ["env=1"]
