"""The SQL that makes the databases of the compose file, on a real PostgreSQL: who gets where, and who does not."""

import os
import subprocess
from collections.abc import Iterator

import psycopg
import pytest

from tasks.domain.errors import RecordsError
from tasks.records.setup import open_records
from tests.ci import tree
from tests.support import builders as make
from tests.support import postgres
from tests.support.postgres import Server

SQL = tree.TOP / "deployments/compose/databases.sql"
BOTH = {"prefect": "prefect", "records": "fleetpatch"}
RIGHTS = "SELECT rolsuper, rolcreatedb, rolcreaterole, rolreplication, rolbypassrls FROM pg_roles WHERE rolname = %s"

pytestmark = pytest.mark.postgres


def make_roles(server: Server, **passwords: str) -> None:
    """Run it as the image's entry point does."""
    command = ["psql", "-v", "ON_ERROR_STOP=1", "--no-password", "--no-psqlrc", "-h", str(server.folder)]
    command += ["-U", "postgres", "-d", "postgres"]
    secrets = {"PREFECT_DB_PASSWORD": "one", "RECORDS_DB_PASSWORD": "two", "PAGES_DB_PASSWORD": "three", **passwords}
    done = subprocess.run(
        command, input=SQL.read_bytes(), env={**os.environ, **secrets}, capture_output=True, check=False
    )
    assert (done.returncode, done.stderr.decode()) == (0, "")
    assert not any(word in done.stdout.decode() for word in secrets.values())


def url(server: Server, role: str, database: str) -> str:
    return server.url(database).replace("postgres@", f"{role}@")


@pytest.fixture(scope="module")
def with_roles() -> Iterator[Server]:
    """A server with the roles, and with a table in each database."""
    with postgres.own_server() as server:
        make_roles(server)
        with psycopg.connect(url(server, "prefect", "prefect"), autocommit=True) as connection:
            connection.execute("CREATE TABLE run (number serial PRIMARY KEY)")
        with open_records(url(server, "records", "fleetpatch")) as records:
            records.save(make.make_report())
        yield server


@pytest.mark.parametrize("role", BOTH)
def test_a_role_is_no_superuser_and_gets_at_its_own_database_alone(with_roles: Server, role: str) -> None:
    with psycopg.connect(url(with_roles, role, BOTH[role]), autocommit=True) as connection:
        assert connection.execute(RIGHTS, [role]).fetchone() == (False,) * 5
        connection.execute("CREATE TABLE mine (number serial PRIMARY KEY)")
        connection.execute("DROP TABLE mine")
    for database in {"postgres", "template1", *BOTH.values()} - {BOTH[role]}:
        with pytest.raises(psycopg.OperationalError, match="permission denied for database"):
            psycopg.connect(url(with_roles, role, database)).close()


def test_whoever_has_the_servers_role_can_not_become_another(with_roles: Server) -> None:
    with psycopg.connect(url(with_roles, "prefect", "prefect"), autocommit=True) as connection:
        for attempt in (
            "SET ROLE records",
            "SET ROLE postgres",
            "ALTER ROLE records PASSWORD 'mine'",
            "GRANT records TO prefect",
            "COPY run TO PROGRAM 'id'",
            "CREATE ROLE other SUPERUSER",
            "ALTER ROLE prefect SUPERUSER",
        ):
            with pytest.raises((psycopg.errors.InsufficientPrivilege, psycopg.errors.InvalidGrantOperation)):
                connection.execute(attempt)


def test_records_are_kept_by_the_workers_role_and_by_no_other(with_roles: Server) -> None:
    with open_records(url(with_roles, "records", "fleetpatch")) as records:
        records.save(make.make_report(run=make.make_run(id="20260310-020000-bbbbbb")))
        records.append_entry(make.make_journal_entry())
    with pytest.raises(RecordsError, match="permission denied"):
        open_records(url(with_roles, "prefect", "fleetpatch"))


def test_run_once_more_it_changes_the_passwords_and_nothing_else(with_roles: Server) -> None:
    def passwords() -> dict[str, str]:
        with psycopg.connect(with_roles.url("postgres")) as connection:
            found = connection.execute("SELECT rolname, rolpassword FROM pg_authid WHERE rolname = ANY(%s)", [[*BOTH]])
            return {str(name): str(secret) for name, secret in found.fetchall()}

    before = passwords()
    assert all(secret.startswith("SCRAM-SHA-256$") for secret in before.values())
    make_roles(with_roles, RECORDS_DB_PASSWORD="quo'te\\d $$")
    assert {name for name, secret in passwords().items() if secret != before[name]} >= {"records"}
    with open_records(url(with_roles, "records", "fleetpatch")) as records:
        assert records.read_entries("nothing") == ()
