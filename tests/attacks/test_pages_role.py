"""Attacks with the database password of the pages, on a real PostgreSQL."""

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import psycopg
import pytest

from fleetpatch.access.login_admin import create_access_token
from fleetpatch.access.token_secrets import digest_secret
from flows.approval.decisions import approve_run
from flows.installation_checks import check_installation
from flows.ports.caller import Caller
from flows.recovery.cancellation import record_stop_request
from tasks.domain.errors import RecordsError
from tasks.domain.states import FindingLevel, OperationState, WindowStatus
from tasks.records import setup
from tasks.records.access_tokens import SqlAccessTokens
from tasks.records.approvals import SqlApprovals
from tasks.records.pages_role import PAGES_ROLE, find_excess_privileges, grant_pages_role
from tasks.records.queries.history import History
from tasks.records.requested_runs import RequestedRun, SqlRequestedRuns
from tasks.records.schema import metadata
from tasks.records.setup import open_records
from tasks.records.sql_records import SqlRecords
from tasks.records.window_claims import SqlWindowClaims
from tasks.rules.runs.approval import collect_planned_updates, compute_plan_digest
from tasks.rules.timing.admission import WindowClaim
from tests.contract.next_release import make_migrations
from tests.support import builders, postgres

pytestmark = pytest.mark.postgres

NOW = datetime.now(UTC)
OWN_TABLES = {
    "web_sessions",
    "login_links",
    "audit_log",
    "requested_runs",
    "stop_requests",
    "decisions",
    "occurrences",
    "component_enrolments",
    "event_documents",
}


@pytest.fixture(scope="module")
def workers_url() -> Iterator[str]:
    """Give the URL of the workers, over records that were made while the role of the pages was there."""
    with postgres.own_server() as server:
        server.execute("CREATE ROLE records LOGIN")
        server.execute(f"CREATE ROLE {PAGES_ROLE} LOGIN")
        server.execute("ALTER DATABASE fleetpatch OWNER TO records")
        yield server.url("fleetpatch").replace("postgres@", "records@")


@pytest.fixture(scope="module")
def workers(workers_url: str) -> Iterator[SqlRecords]:
    with open_records(workers_url) as records:
        plan = builders.make_plan()
        run = builders.make_run(state=OperationState.IN_PROGRESS, ended_at=None, started_by="anna", request=REQUEST)
        records.save(builders.make_report(run=run, outcomes=(), plans=(plan,)))
        yield records


REQUEST = {"scope": "*", "approval": {"required": True}}


@pytest.fixture(scope="module")
def pages_url(workers_url: str, workers: SqlRecords) -> str:
    return workers_url.replace("records@", f"{PAGES_ROLE}@")


@pytest.mark.parametrize("table", sorted(set(metadata.tables) - OWN_TABLES))
def test_the_pages_can_not_write_what_is_not_theirs(pages_url: str, workers: SqlRecords, table: str) -> None:
    """Attacker: who has the pages' password. Way: SQL on runs, plans, tokens and all else. It must be refused."""
    with psycopg.connect(pages_url, autocommit=True) as connection:
        connection.execute(f"SELECT count(*) FROM {table}".encode())
        first = next(iter(metadata.tables[table].c)).name
        for statement in (
            f"INSERT INTO {table} DEFAULT VALUES",
            f"UPDATE {table} SET {first} = {first}",
            f"DELETE FROM {table}",
            f"TRUNCATE {table}",
            f"ALTER TABLE {table} ADD COLUMN theirs text",
        ):
            with pytest.raises(psycopg.errors.InsufficientPrivilege):
                connection.execute(statement.encode())


@pytest.mark.parametrize(
    "statement",
    [
        "UPDATE access_tokens SET expires_at = NULL",
        "UPDATE access_tokens SET roles = 'run'",
        "UPDATE approvals SET digest = 'theirs'",
        "UPDATE approvals SET expires_at = now()",
        "UPDATE audit_log SET who = 'bert'",
        "DELETE FROM audit_log",
        "UPDATE requested_runs SET who = 'bert'",
        "DELETE FROM stop_requests",
        "DELETE FROM decisions",
        "UPDATE decisions SET decision = 'approved'",
        "CREATE TABLE theirs (number int)",
        "SET ROLE records",
        "COPY runs TO PROGRAM 'id'",
    ],
)
def test_of_shared_tables_the_pages_write_only_their_columns(pages_url: str, statement: str) -> None:
    """Attacker: who has the pages' password. Way: columns that are not theirs, and other roles. It must be refused."""
    with psycopg.connect(pages_url, autocommit=True) as connection, pytest.raises(psycopg.errors.InsufficientPrivilege):
        connection.execute(statement.encode())


def test_the_pages_do_what_is_theirs_with_their_role(workers: SqlRecords, pages_url: str) -> None:
    """No attacker: logins, uses of tokens, acts, approvals and stop requests need no more than this role has."""
    token, secret = create_access_token(workers, "anna", ["approve"])
    report = History(workers).read_report(builders.RUN_ID)
    digest = compute_plan_digest(collect_planned_updates(report.plans), report.run.request)
    SqlApprovals(workers.database).request_approval(builders.RUN_ID, digest, 3600)
    with open_records(pages_url) as pages:
        tokens = SqlAccessTokens(pages.database)
        assert tokens.find_by_token(digest_secret(secret), NOW + timedelta(minutes=1)) is not None
        tokens.store_use(token.name, NOW)
        SqlRequestedRuns(pages.database).save(RequestedRun("fleetpatch/web/1", "patch-fleet", "d", "anna", NOW))
        assert find_excess_privileges(pages.database) == []
    approve_run(builders.RUN_ID, "bert", plan=digest, records_url=pages_url)
    approval = SqlApprovals(workers.database).find_approval(builders.RUN_ID)
    assert approval is not None
    SqlApprovals(workers.database).require_sealed(approval)
    record_stop_request(builders.RUN_ID, Caller(records_url=pages_url, name="anna"), "enough")


def test_of_windows_the_pages_record_only_that_one_was_missed(workers: SqlRecords, pages_url: str) -> None:
    """Attacker: who has the password of the pages. What must hold: no run is kept out of its window by them."""
    with open_records(pages_url) as pages:
        claims = SqlWindowClaims(pages.database)
        missed = WindowClaim("web", NOW, WindowStatus.MISSED, "20261126-220000-aaaaaa", "no worker", NOW)
        assert claims.record_window_without_run(missed) == missed
        for status in (WindowStatus.CANCELLED, WindowStatus.CLAIMED):
            other = WindowClaim("web", NOW + timedelta(days=1), status, "x", "", NOW)
            with pytest.raises(RecordsError, match="row-level security"):
                claims.record_window_without_run(other)
        with pytest.raises(RecordsError, match="permission denied"):
            claims.claim_window("web", NOW, "x", "x", NOW)
    theirs = SqlWindowClaims(workers.database).claim_window("web", NOW, "a run", "flow run", NOW)
    assert (theirs.status, theirs.run_id) == (WindowStatus.CLAIMED, "a run")  # what the pages wrote held nothing up


def test_a_role_that_may_write_more_is_reported(workers: SqlRecords, workers_url: str) -> None:
    """Attacker: an administrator's mistake. What the pages may write besides must be reported, and be taken away."""
    assert {"runs", "access_tokens", "outcomes"} <= set(find_excess_privileges(workers.database))
    assert find_excess_privileges(workers.database, PAGES_ROLE) == []
    with psycopg.connect(workers_url, autocommit=True) as connection:
        connection.execute(f"GRANT UPDATE ON runs TO {PAGES_ROLE}".encode())
        connection.execute(f"GRANT UPDATE (roles) ON access_tokens TO {PAGES_ROLE}".encode())
        connection.execute(f"GRANT DELETE ON audit_log TO {PAGES_ROLE}".encode())
    excess = find_excess_privileges(workers.database, PAGES_ROLE)
    assert excess == ["access_tokens", "audit_log", "runs"]
    finding = next(each for each in check_installation(workers_url) if each.check == "pages")
    assert finding.level is FindingLevel.WARN
    assert "access_tokens, audit_log" in finding.message

    with workers.database.begin_write("grant") as connection:
        assert grant_pages_role(connection)

    assert find_excess_privileges(workers.database, PAGES_ROLE) == []
    finding = next(each for each in check_installation(workers_url) if each.check == "pages")
    assert finding.level is FindingLevel.GOOD


def test_the_pages_do_not_migrate_and_say_who_does(
    workers: SqlRecords, pages_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """No attacker: pages of a newer version than the workers say what to start first."""
    monkeypatch.setattr(setup, "_MIGRATIONS_DIRECTORY", make_migrations(tmp_path))
    with pytest.raises(RecordsError, match="its user may make none") as refused:
        open_records(pages_url)
    assert "Start a worker" in refused.value.hint


def test_in_the_tables_of_a_fleet_the_pages_have_the_same_rights(
    workers: SqlRecords, workers_url: str, pages_url: str
) -> None:
    """Attacker: who has the pages' password. Way: a fleet's schema, or one that is not there. It must be refused."""
    with pytest.raises(RecordsError, match="has no tables yet, and its user may make none") as refused:
        open_records(pages_url, fleet="site-b")
    assert 'CREATE SCHEMA "fleet_site-b"' in refused.value.hint
    with open_records(workers_url, fleet="site-a") as made, open_records(pages_url, fleet="site-a") as pages:
        assert find_excess_privileges(pages.database) == []
        assert "runs" in find_excess_privileges(made.database)
        SqlRequestedRuns(pages.database).save(RequestedRun("fleetpatch/web/2", "patch-fleet", "d", "anna", NOW))
        with pytest.raises(RecordsError, match="permission denied"):
            pages.save(builders.make_run())
    assert find_excess_privileges(workers.database, PAGES_ROLE) == []
