"""A real Prefect server as a process of its own, for tests that kill it and start it again: same port, same data.

Its home, port and database belong to one test. It listens on the loopback if no
other address is asked for, and sends no telemetry.
"""

import os
import signal
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path

from prefect.client.orchestration import SyncPrefectClient, get_client
from prefect.settings import (
    PREFECT_API_AUTH_STRING,
    PREFECT_API_DATABASE_CONNECTION_URL,
    PREFECT_API_URL,
    PREFECT_CLIENT_CSRF_SUPPORT_ENABLED,
    PREFECT_HOME,
    temporary_settings,
)

from tests.support.environment import PYTHONPATH, without_ours
from tests.support.free_port import free_port
from tests.support.prefect_forks import ForkedServer, start_module, start_prefect
from tests.support.prefect_tables import TABLES_ARE_THERE, put_tables

START_SECONDS = 300.0  # on cores that others use, a start has taken more than two minutes
_ANSWER_SECONDS = 5.0


@contextmanager
def use_server(url: str, home: Path, login: str | None = None) -> Iterator[None]:
    """Let this process's clients talk to a server, whatever the settings of other tests in this process are.

    Args:
        url: of the server's API.
        home: PREFECT_HOME of the clients.
        login: ``user:password``; None: the server has no password.
    """
    settings = {
        PREFECT_API_URL: url,
        PREFECT_HOME: home,
        PREFECT_API_AUTH_STRING: login,
        PREFECT_API_DATABASE_CONNECTION_URL: None,
        PREFECT_CLIENT_CSRF_SUPPORT_ENABLED: True,
    }
    with temporary_settings(settings):
        yield


@dataclass(slots=True)
class PrefectServer:
    """A server process over a home folder.

    Attributes:
        home: PREFECT_HOME of the server and of whoever talks to it.
        port: of the server; the same at every start.
        host: the address at which it listens.
        database: connection URL (``postgresql+asyncpg://…``) of a database with tables; "": an SQLite file in ``home``.
        ui: whether it has its pages for people.
        settings: further environment variables of the server.
        process: the server, while it runs.
    """

    home: Path
    port: int
    database: str = ""
    ui: bool = False
    settings: Mapping[str, str] = field(default_factory=dict)
    host: str = "127.0.0.1"
    process: ForkedServer | None = None
    others: "list[subprocess.Popen[bytes] | ForkedServer]" = field(default_factory=list)
    _logs: dict[int, Path] = field(default_factory=dict)

    @property
    def url(self) -> str:
        """What PREFECT_API_URL has to be."""
        return f"http://{self.host}:{self.port}/api"

    @property
    def log(self) -> Path:
        """What the server printed, over all its starts."""
        return self.home / "server.log"

    def environment(self, **more: str) -> dict[str, str]:
        """Return surroundings for a process that talks to this server: nothing of this process' own Prefect in it."""
        kept = without_ours()
        return {
            **kept,
            "PYTHONPATH": PYTHONPATH,
            "PREFECT_HOME": str(self.home),
            "PREFECT_API_URL": self.url,
            "PREFECT_SERVER_ANALYTICS_ENABLED": "false",
            "DO_NOT_TRACK": "1",
            **more,
        }

    def start(self, *, wait: bool = True) -> None:
        """Start it, over the data that are there, and wait until it answers.

        Raises:
            RuntimeError: it came to its end, or did not answer in time; with the end of its log.
        """
        assert self.process is None, "it runs already"
        if not self.database:
            put_tables(self.home)
        self.home.mkdir(parents=True, exist_ok=True)
        no_ui = () if self.ui else ("--no-ui",)
        more = {"PREFECT_API_DATABASE_CONNECTION_URL": self.database} if self.database else {}
        self.process = start_prefect(
            ("server", "start", "--host", self.host, "--port", str(self.port), *no_ui),
            place=self.home,
            environment=self.environment(**{**TABLES_ARE_THERE, **more, **self.settings}),
            log=self.log,
        )
        if wait:
            self.wait_until_up()

    def wait_until_up(self, seconds: float = START_SECONDS) -> None:
        """Wait until it answers.

        Raises:
            RuntimeError: see ``start``.
        """
        patience = time.monotonic() + seconds
        while not self.up():
            ended = self.process is None or self.process.poll() is not None
            if ended or time.monotonic() > patience:
                raise RuntimeError(f"no Prefect server on port {self.port}: {self.log.read_text()[-2000:]}")
            time.sleep(0.2)

    def up(self) -> bool:
        """Whether it answers now."""
        try:
            with urllib.request.urlopen(f"{self.url}/health", timeout=_ANSWER_SECONDS):
                return True
        except (urllib.error.URLError, OSError):
            return False

    def kill(self) -> None:
        """kill -9: nothing is closed or written any more. Its data stay."""
        if self.process is not None:
            self.process.kill()
            self.process.wait()
            self.process = None

    def run(self, *words: str, log: Path, network: str = "", **more: str) -> "subprocess.Popen[bytes]":
        """Start ``python WORDS…`` against this server, in a session of its own; ``remove`` ends it if need be.

        Args:
            words: the interpreter's arguments: ``"-m", "prefect", "worker", "start", "--pool", "p"``.
            log: where its output goes.
            network: the network namespace in which it is; "": that of this process.
            more: environment variables.
        """
        started = self._begun(words, log, more, ("nsenter", f"--net=/run/netns/{network}") if network else ())
        self.others.append(started)
        return started

    def fork(
        self, module: str, *words: str, log: Path, network: str = "", python: str = "", **more: str
    ) -> ForkedServer:
        """Be as ``run`` with ``-P -m MODULE WORDS…``, at once: neither the process nor its runs load Prefect.

        Args:
            module: of a worker, or of flows that are served.
            words: its arguments; ``prefect_forks.PARENT`` is the process whose child it is.
            log, network, more: see ``run``.
            python: the interpreter of its runs; "": they are forks too, which read no ``sitecustomize``.
        """
        log.touch()
        started = start_module(
            module,
            words,
            place=self.home,
            environment=self.environment(**more),
            log=log,
            network=network,
            python=python,
        )
        self.others.append(started)
        return started

    def run_as(self, user: int, *words: str, home: Path, log: Path, **more: str) -> None:
        """Start ``python -m WORDS…`` as another user, who reads all files, as this checkout, and writes their own.

        The process ignores SIGINT when it starts, like the background processes of a shell.
        """
        ids = (f"--reuid={user}", f"--regid={user}", "--clear-groups", "--no-new-privs")
        rights = ("--inh-caps=+dac_read_search", "--ambient-caps=+dac_read_search")
        own = {"HOME": str(home), "PREFECT_HOME": str(home / "prefect"), **more}
        with log.open("ab") as out:
            started = subprocess.Popen(
                [
                    "setpriv",
                    *ids,
                    *rights,
                    "env",
                    "--ignore-signal=INT",
                    sys.executable,
                    "-X",
                    "faulthandler",
                    "-P",
                    "-m",
                    *words,
                ],
                cwd=home,
                env=self.environment(**own),
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=out,
                start_new_session=True,
            )
        self.others.append(started)
        self._logs[started.pid] = log

    def stop_others(self) -> None:
        """Stop what ``run``, ``fork`` and ``run_as`` have started, as a service manager does, and wait.

        Raises:
            RuntimeError: one does not end. What ``run_as`` has started tells what each of its threads does then.
        """
        for process in self.others:
            process.terminate()
        for process in self.others:
            try:
                process.wait(START_SECONDS)
            except subprocess.TimeoutExpired as error:
                if (log := self._logs.get(process.pid)) is None:
                    raise
                process.send_signal(signal.SIGABRT)
                process.wait(START_SECONDS)
                raise RuntimeError(f"the process did not end after SIGTERM: {log.read_text()[-8000:]}") from error

    @contextmanager
    def client(self) -> Iterator[SyncPrefectClient]:
        """Give a client of this server, whatever this process' own settings are."""
        with use_server(self.url, self.home), get_client(sync_client=True) as client:
            yield client

    def remove(self) -> None:
        """End it and what it has started, each with the processes of its own group: a worker is one's child."""
        for process in reversed(self.others):
            with suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            process.wait()
        self.others.clear()
        self.kill()

    def _begun(
        self, words: tuple[str, ...], log: Path, more: dict[str, str], around: tuple[str, ...] = ()
    ) -> "subprocess.Popen[bytes]":
        with log.open("ab") as out:
            return subprocess.Popen(
                [*around, sys.executable, *words],
                cwd=self.home,
                env=self.environment(**more),
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=out,
                start_new_session=True,
            )


@contextmanager
def prefect_server(home: Path, database: str = "", *, ui: bool = False) -> Iterator[PrefectServer]:
    """Give a server that runs and answers; afterwards nothing of it is left running."""
    server = PrefectServer(home, free_port(), database, ui)
    try:
        server.start()
        yield server
    finally:
        server.remove()
