"""The audit log between real processes, and under a database role that may only insert and select."""

import re
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

import psycopg
import pytest
from sqlalchemy import delete, update

from tasks.domain.errors import RecordsError
from tasks.domain.rows.audit import AuditEntry, AuditResult
from tasks.records.audit.log import SqlAuditLog
from tasks.records.audit.verification import AuditState, verify_log
from tasks.records.page_schema import audit_log
from tasks.records.setup import open_records
from tests.contract.records_processes import append_to_audit_log
from tests.contract.records_subjects import BOTH, new_database
from tests.support.forked_calls import begin_call, make_barrier
from tests.support.postgres import server

PROCESSES, ENTRIES = 3, 12
PAGE_SECONDS = 20.0
"""How long one entry may take on a machine that runs other tests meanwhile."""


@pytest.fixture(params=BOTH)
def url(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[str]:
    with new_database(request.param, tmp_path) as made:
        yield made


@pytest.mark.slow
def test_entries_of_processes_that_race_are_one_chain(url: str) -> None:
    together = make_barrier(PROCESSES)
    calls = [begin_call(append_to_audit_log, url, number, ENTRIES, together) for number in range(PROCESSES)]
    assert max(call.receive() for call in calls) < PAGE_SECONDS
    assert [call.end() for call in calls] == [0] * PROCESSES
    with open_records(url) as records:
        found = verify_log(SqlAuditLog(records.database))
        names = [entry.who for entry in SqlAuditLog(records.database).iterate()]
    assert (found.state, found.entries, found.faults) == (AuditState.INTACT, PROCESSES * ENTRIES, ())
    assert {name: names.count(name) for name in names} == {f"p{number}": ENTRIES for number in range(PROCESSES)}


@pytest.mark.postgres
def test_a_role_that_may_only_insert_and_select_appends(tmp_path: Path) -> None:
    entry = AuditEntry(
        at=datetime.now(UTC), who="anna", address="", act="login", subject="", detail="", result=AuditResult.DONE
    )
    with new_database("postgres", tmp_path) as url:
        role = "audit_" + re.sub(r"\W", "", url.rpartition("/")[2].partition("?")[0])
        with open_records(url) as records:
            SqlAuditLog(records.database).append(entry)
        with psycopg.connect(url, autocommit=True) as connection:
            connection.execute(f"CREATE ROLE {role} LOGIN".encode())
            connection.execute(f"GRANT SELECT ON ALL TABLES IN SCHEMA public TO {role}".encode())
            connection.execute(f"GRANT INSERT ON audit_log TO {role}".encode())
        try:
            with open_records(url.replace("postgres@", f"{role}@")) as records:
                log = SqlAuditLog(records.database)
                assert log.append(entry).number == 2
                assert verify_log(log).state is AuditState.INTACT
                for statement in (update(audit_log).values(who="eve"), delete(audit_log)):
                    with pytest.raises(RecordsError), records.database.begin_write("attack") as written:
                        written.execute(statement)
        finally:
            with psycopg.connect(url, autocommit=True) as connection:
                connection.execute(f"DROP OWNED BY {role}".encode())
            server().execute(f"DROP ROLE {role}")
