"""A throwaway PostgreSQL server for tests: a socket in a temporary folder, no network, gone with the process.

Its programs come from the system's packages. Without them tests are skipped and say so; where CI=true they
fail instead.
"""

import atexit
import contextlib
import itertools
import os
import pwd
import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import psycopg
import pytest

_START_SECONDS = 240.0
_NUMBERS = itertools.count(1)


@dataclass(slots=True)
class Server:
    """A server and its data. ``folder`` holds its socket. ``address``: where it listens too; "": nowhere."""

    folder: Path
    binaries: Path
    address: str = ""
    process: subprocess.Popen[bytes] | None = None

    def url(self, database: str) -> str:
        return f"postgresql://postgres@/{database}?host={self.folder}"

    def execute(self, statement: str) -> None:
        """Run a statement outside of any transaction."""
        conninfo = f"host={self.folder} user=postgres dbname=postgres connect_timeout=60"
        with psycopg.connect(conninfo, autocommit=True) as connection:
            connection.execute(statement.encode())

    def count_sessions(self, address: str) -> int:
        """Return how many sessions it has with programs at an address."""
        conninfo = f"host={self.folder} user=postgres dbname=postgres connect_timeout=60"
        with psycopg.connect(conninfo) as connection:
            query = "SELECT count(*) FROM pg_stat_activity WHERE client_addr = %s::inet"
            (row,) = connection.execute(query, (address,))
        return int(row[0])

    def start(self) -> None:
        """Start it, on the data that is there, and wait until it answers."""
        command: list[str | Path] = [self.binaries / "postgres", "-D", self.folder / "data", "-k", self.folder]
        command += ["-c", f"listen_addresses={self.address}", "-c", "fsync=off"]
        with (self.folder / "log").open("ab") as log:
            self.process = subprocess.Popen(
                command, stdout=log, stderr=log, user=_unprivileged(), cwd=self.folder, env=_environment()
            )
        patience = time.monotonic() + _START_SECONDS
        while not _answers(self):
            if self.process.poll() is not None or time.monotonic() > patience:
                log_text = (self.folder / "log").read_text(errors="replace")
                raise RuntimeError(f"PostgreSQL did not start: {log_text[-2000:]}")
            time.sleep(0.1)

    def stop(self) -> None:
        """Stop it, by its own pid; its connections are closed. Its data stay."""
        if self.process is not None and self.process.poll() is None:
            self.process.send_signal(signal.SIGINT)  # "fast"
            try:
                self.process.wait(30)
            except subprocess.TimeoutExpired:
                self.process.kill()
                self.process.wait()

    def remove(self) -> None:
        """Stop it and leave nothing behind."""
        self.stop()
        shutil.rmtree(self.folder, ignore_errors=True)


def programs() -> Path | None:
    """The folder of the newest PostgreSQL's programs, or None."""
    found = sorted(Path("/usr/lib/postgresql").glob("*/bin/initdb"), key=lambda path: int(path.parts[-3]))
    if found:
        return found[-1].parent
    initdb = shutil.which("initdb")
    return Path(initdb).parent if initdb else None


@cache
def server() -> Server:
    """Start the one server of this test process, or skip the test that asks for it."""
    started = _started()
    atexit.register(started.remove)
    return started


@contextlib.contextmanager
def own_server(address: str = "") -> Iterator[Server]:
    """Give a server that nobody else uses, to be stopped and started at will; it has a database "fleetpatch".

    Args:
        address: where it listens too, for everybody in the /24 of this address.
    """
    started = _started(address)
    try:
        started.execute("CREATE DATABASE fleetpatch ENCODING 'UTF8' LOCALE 'C' TEMPLATE template0")
        yield started
    finally:
        started.remove()


@contextlib.contextmanager
def fresh_database(encoding: str = "UTF8", template: str = "template0") -> Iterator[str]:
    """Give the URL of an empty database, or of a copy of another one, dropped afterwards."""
    running = server()
    name = f"fleetpatch_{os.getpid()}_{next(_NUMBERS)}"
    running.execute(f"CREATE DATABASE {name} ENCODING '{encoding}' LOCALE 'C' TEMPLATE {template}")
    try:
        yield running.url(name)
    finally:
        running.execute(f"DROP DATABASE {name} WITH (FORCE)")


def _started(address: str = "") -> Server:
    binaries = programs()
    if binaries is None:
        reason = "no PostgreSQL programs here: apt-get install postgresql"
        if os.environ.get("CI") == "true":
            pytest.fail(reason)
        pytest.skip(reason)
    folder = Path(tempfile.mkdtemp(prefix="fp-pg-"))
    user = _unprivileged()
    if user is not None:
        shutil.chown(folder, user)
    initdb: list[str | Path] = [binaries / "initdb", "-D", folder / "data", "-U", "postgres"]
    initdb += ["--auth=trust", "-E", "UTF8", "--locale=C", "-N"]
    made = Server(folder, binaries, address)
    try:
        subprocess.run(initdb, check=True, capture_output=True, user=user, cwd=folder, env=_environment())
        if address:
            with (folder / "data" / "pg_hba.conf").open("a") as rules:
                rules.write(f"host all all {address}/24 trust\n")
        made.start()
    except BaseException:
        made.remove()
        raise
    return made


def _environment() -> dict[str, str]:
    return {"PATH": os.environ.get("PATH", ""), "LC_ALL": "C"}


def _unprivileged() -> str | None:
    """Who runs the server: it refuses to be root."""
    if os.geteuid() != 0:
        return None
    names = {entry.pw_name for entry in pwd.getpwall()}
    return "postgres" if "postgres" in names else "nobody"


def _answers(started: Server) -> bool:
    try:
        started.execute("SELECT 1")
    except psycopg.OperationalError:
        return False
    return True
