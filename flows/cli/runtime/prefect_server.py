"""Prefect in the command: without its log on the terminal, and with an ephemeral server where none is configured."""

import atexit
import http.client
import os
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from flows.cli.runtime.output import configure_logging, print_to_stderr
from flows.prefect_api.server_settings import BATCH_SETTINGS, HEALTHY_RESPONSE
from tasks.errors import CannotRun

QUIET_PREFECT_SETTINGS: Final = {
    "PREFECT_LOGGING_HANDLERS_CONSOLE_LEVEL": "CRITICAL",  # its log goes to its server, not to the terminal
    "PREFECT_SERVER_LOGGING_LEVEL": "ERROR",
    "PREFECT_SERVER_ANALYTICS_ENABLED": "false",
    "PREFECT_CLOUD_ENABLE_ORCHESTRATION_TELEMETRY": "false",
    "DO_NOT_TRACK": "1",
}
START_TIMEOUT_SECONDS = 120.0
WAIT_MESSAGE_SECONDS = 4.0
_HEALTH_TIMEOUT_SECONDS = 5.0
_STOP_TIMEOUT_SECONDS = 10.0
_MAX_HEALTH_BYTES = 10_000  # the answer should be one word


def ensure_prefect_server() -> None:
    """Load Prefect, and make sure that its server answers. Settings of the user's environment win.

    Raises:
        CannotRun: the configured server does not answer, or the ephemeral server does not start.
    """
    for name, value in QUIET_PREFECT_SETTINGS.items():
        os.environ.setdefault(name, value)
    server = EphemeralPrefectServer()
    atexit.register(server.stop)  # before Prefect registers anything: its last messages still need a server
    _EPHEMERAL_SERVERS.append(server)
    try:
        from prefect.context import refresh_global_settings_context
        from prefect.settings import get_current_settings
    except ValueError as error:  # pydantic's error about the settings
        error_lines = [line.strip() for line in str(error).splitlines()]
        raise CannotRun(
            f"Prefect cannot read its settings: {'; '.join(error_lines[1:3])[:300]}",
            hint="Correct PREFECT_API_URL and the other settings of Prefect, in the environment and in its profile.",
        ) from error

    url = get_current_settings().api.url
    if url:
        _require_prefect_server(str(url))
    else:
        print_to_stderr("No Prefect server is configured. Starting one for this run (10 to 20 seconds) …")
        os.environ["PREFECT_API_URL"] = server.start()
        refresh_global_settings_context()
    with print_elapsed_time("waiting for Prefect"):
        import flows.patch  # noqa: F401 - loads while the server starts

        server.wait_until_healthy()
    configure_logging()  # Prefect has changed the logging


@contextmanager
def print_elapsed_time(activity: str, interval_seconds: float = WAIT_MESSAGE_SECONDS) -> Iterator[None]:
    """Print now and then how long the block has taken.

    Args:
        activity: what the block does.
        interval_seconds: time between two lines.
    """
    finished, started_at = threading.Event(), time.monotonic()

    def print_until_finished() -> None:
        while not finished.wait(interval_seconds):
            print_to_stderr(f"… still {activity} ({time.monotonic() - started_at:.0f} s)")

    printer = threading.Thread(target=print_until_finished, name="still", daemon=True)
    printer.start()
    try:
        yield
    finally:
        finished.set()
        printer.join()


def stop_ephemeral_servers() -> None:
    """End the ephemeral servers. For a process that ends without its exit handlers."""
    for server in _EPHEMERAL_SERVERS:
        server.stop()


class EphemeralPrefectServer:
    """A Prefect server for the time of one run, with the user's Prefect database.

    Prefect's own ephemeral server is in the process group of the terminal: the first Ctrl-C would end it and the
    tasks of the run.
    """

    def __init__(self) -> None:
        self._process: subprocess.Popen[bytes] | None = None
        self._log: Path | None = None
        self._url = ""

    def start(self) -> str:
        """Start it, and do not wait for it.

        Returns:
            The URL of its API.
        """
        port = _find_free_port()
        descriptor, name = tempfile.mkstemp(prefix="fleetpatch-prefect-", suffix=".log")
        self._log = Path(name)
        words = ["--factory", "prefect.server.api.server:create_app", "--host", "127.0.0.1", "--port", str(port)]
        environment = {
            **{each.name: each.value for each in BATCH_SETTINGS},
            **os.environ,
            "PREFECT_UI_ENABLED": "0",
            "PREFECT__SERVER_EPHEMERAL": "1",
            "PREFECT__SERVER_FINAL": "1",
        }
        with os.fdopen(descriptor, "wb") as log:
            self._process = subprocess.Popen(
                [sys.executable, "-m", "uvicorn", *words, "--log-level", "error", "--lifespan", "on"],
                env=environment,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
                umask=0o077,  # its database holds reports and encrypted secrets, and the key to them
            )
        self._url = f"http://127.0.0.1:{port}/api"
        return self._url

    def stop(self) -> None:
        """End it. May be called twice."""
        process, self._process = self._process, None
        if process is not None:
            process.send_signal(signal.SIGTERM)
            try:
                process.wait(_STOP_TIMEOUT_SECONDS)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
        if self._log is not None:
            self._log.unlink(missing_ok=True)

    def wait_until_healthy(self) -> None:
        """Wait until it answers, if it was started.

        Raises:
            CannotRun: it ended, or it does not answer.
        """
        if self._process is None:
            return
        until = time.monotonic() + START_TIMEOUT_SECONDS
        while time.monotonic() < until and self._process.poll() is None:
            if not _find_server_fault(self._url):
                return
            time.sleep(0.2)
        log = self._log.read_text(errors="replace").strip().splitlines() if self._log else []
        self.stop()
        raise CannotRun(
            f"the Prefect server does not start: {log[-1] if log else 'it does not answer'}",
            hint="`fleetpatch doctor` checks the installation. --no-prefect patches without Prefect.",
        )


_EPHEMERAL_SERVERS: list[EphemeralPrefectServer] = []


def _require_prefect_server(url: str) -> None:
    fault = _find_server_fault(url)
    if fault:
        raise CannotRun(
            f"the Prefect server at {_redact_url(url)} {fault}",
            hint="Start it (fleetpatch server), correct PREFECT_API_URL, or use --no-prefect to patch without Prefect.",
        )


def _redact_url(url: str) -> str:
    """Return a URL without its name and password."""
    scheme, found, rest = url.partition("://")
    return f"{scheme}{found}{rest.rpartition('@')[2]}"


def _find_server_fault(url: str) -> str:
    """Return why a URL is not that of a usable Prefect server, as the end of a sentence, or ""."""
    try:
        with urllib.request.urlopen(f"{url}/health", timeout=_HEALTH_TIMEOUT_SECONDS) as answer:  # noqa: S310 - the user's own setting
            kind, text = answer.headers.get_content_type(), answer.read(_MAX_HEALTH_BYTES)
    except urllib.error.HTTPError as error:
        # It answers, and wants the login that Prefect's client has.
        return "" if error.code in {401, 403} else f"answers {error.code} {error.reason}. Is this the URL of its API?"
    except (OSError, http.client.HTTPException, ValueError):  # ValueError: not a URL
        return "does not answer"
    return "" if text.strip() == HEALTHY_RESPONSE else f"is not a Prefect server: /health answers {kind}"


def _find_free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
