"""Runs pg_dump and pg_restore for the schema of one fleet. They must not be older than the server."""

import os
import shlex
import shutil
import subprocess
from collections.abc import Sequence
from pathlib import Path
from typing import Final

from sqlalchemy import Connection, text
from sqlalchemy.engine import URL

from tasks.domain.errors import RecordsError
from tasks.records.storage.database import Database
from tasks.records.storage.url import redact_url

_NOT_RESTORED: Final = (" SCHEMA - ", " POLICY ", " ROW SECURITY ")
"""Kinds of entries: the schema is there, and others may own it ("public"). What the role of the pages may do is granted
afterwards: the server may have no such role."""


def dump_schema(database: Database, schema: str, snapshot: str, target: Path) -> None:
    """Write a dump of a schema, as it was in an exported snapshot.

    Raises:
        RecordsError: the program is missing or failed. The error has the command to run by hand.
    """
    arguments = ["--format=custom", f'--schema="{schema}"', "--no-password"]
    by_hand = ["pg_dump", *arguments, "--file=records.dump", redact_url(database.url)]
    _run("pg_dump", [*arguments, f"--snapshot={snapshot}", f"--file={target}"], database.url, by_hand)


def restore_schema(database: Database, schema: str, dump: Path, work: Path) -> None:
    """Write the tables of a dump into a schema that is there and has none of them: all of them, or nothing.

    Args:
        database: where to.
        schema: the schema's name.
        dump: what ``dump_schema`` has written.
        work: a private folder.

    Raises:
        RecordsError: the program is missing or failed. The error has the command to run by hand.
    """
    listed = _run("pg_restore", ["--list", str(dump)], None, ["pg_restore", "--list", "records.dump"])
    entries = work / "entries"
    lines = [line for line in listed.splitlines() if not any(kind in line for kind in _NOT_RESTORED)]
    entries.write_text("".join(f"{line}\n" for line in lines))
    arguments = ["--exit-on-error", "--single-transaction", "--no-owner", "--no-privileges", "--no-password"]
    by_hand = ["pg_restore", *arguments, f'--schema="{schema}"', f"--dbname={redact_url(database.url)}", "records.dump"]
    _run("pg_restore", [*arguments, f"--use-list={entries}", str(dump)], database.url, by_hand)


def require_restoring_tool(url: URL, backup: Path) -> None:
    """Require that records can be restored from here.

    Raises:
        RecordsError: pg_restore is not here. The error has the command to run elsewhere.
    """
    dumped = f"tar -xOf {shlex.quote(str(backup))} records"
    _find_tool("pg_restore", f"{dumped} | pg_restore --no-owner --dbname={redact_url(url)}, into an empty database")


def _find_tool(name: str, by_hand: str) -> str:
    path = shutil.which(name)
    if path is None:
        hint = "Install PostgreSQL's client (postgresql-client or postgresql), not older than the server."
        raise RecordsError(f"{name} is not on the PATH of this computer", hint=f"{hint} Or run it elsewhere: {by_hand}")
    return path


def _run(name: str, arguments: Sequence[str], url: URL | None, by_hand: Sequence[str]) -> str:
    environment = dict(os.environ)
    connection: list[str] = []
    command = shlex.join(by_hand)
    program = _find_tool(name, command)
    if url is not None:
        # the environment of a process can be read by its user alone, and its arguments by everybody
        passwords = (url.password, url.query.get("password"))
        if password := next((str(given_password) for given_password in passwords if given_password), ""):
            environment["PGPASSWORD"] = password
        bare = url.set(drivername="postgresql", password=None).difference_update_query(["password"])
        address = bare.render_as_string(hide_password=False)
        connection = [f"--dbname={address}"]
    done = subprocess.run(
        [program, *arguments, *connection],
        env=environment, stdin=subprocess.DEVNULL, capture_output=True, text=True, errors="replace", check=False,
    )  # fmt: skip
    if done.returncode != 0:
        lines = done.stderr.strip().splitlines()
        raise RecordsError(
            f"{name} failed ({done.returncode}): {' '.join(lines[:3])[:500]}",
            hint=f"Mend what it says. To see all of it: {command}",
        )
    return done.stdout


def read_schema_name(connection: Connection) -> str:
    """Return the schema of a connection to PostgreSQL."""
    return str(connection.execute(text("SELECT current_schema()")).scalar_one())
