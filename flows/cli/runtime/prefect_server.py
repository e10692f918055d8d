"""Prefect within the command: quiet, and with a server of its own where no other is configured."""

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
    "PREFECT_LOGGING_HANDLERS_CONSOLE_LEVEL": "CRITICAL",  # its log goes to its server, not over our screen
    "PREFECT_SERVER_LOGGING_LEVEL": "ERROR",
    "PREFECT_SERVER_ANALYTICS_ENABLED": "false",
    "PREFECT_CLOUD_ENABLE_ORCHESTRATION_TELEMETRY": "false",
    "DO_NOT_TRACK": "1",
}
START_TIMEOUT_SECONDS = 120.0
WAIT_MESSAGE_SECONDS = 4.0
_HEALTH_TIMEOUT_SECONDS = 5.0
_STOP_TIMEOUT_SECONDS = 10.0
_MAX_HEALTH_BYTES = 10_000  # bytes of an answer that should be one word


def ensure_prefect_server() -> None:
    """Load Prefect, and see to it that its server answers. What the user's environment says stands.

    Raises:
        CannotRun: the configured server does not answer, or one of our own does not start.
    """
    for name, value in QUIET_PREFECT_SETTINGS.items():
        os.environ.setdefault(name, value)
    server = EphemeralPrefectServer()
    atexit.register(server.stop)  # before Prefect registers anything: its last messages still want a server
    _EPHEMERAL_SERVERS.append(server)
    try:
        from prefect.context import refresh_global_settings_context
        from prefect.settings import get_current_settings
    except ValueError as error:  # pydantic's, of its settings
        error_lines = [line.strip() for line in str(error).splitlines()]
        raise CannotRun(
            f"Prefect can't read its settings: {'; '.join(error_lines[1:3])[:300]}",
            hint="Correct PREFECT_API_URL, and whatever else there is of Prefect's in the environment and its profile.",
        ) from error

    url = get_current_settings().api.url
    if url:
        _require_prefect_server(str(url))
    else:
        print_to_stderr("No Prefect server is configured: starting one for this run (10 to 20 seconds) …")
        os.environ["PREFECT_API_URL"] = server.start()
        refresh_global_settings_context()
    with print_elapsed_time("waiting for Prefect"):
        import flows.patch  # noqa: F401 - takes as long as the server does, so both are waited for together

        server.wait_until_healthy()
    configure_logging()  # Prefect has set logging up to its own liking


@contextmanager
def print_elapsed_time(activity: str, interval_seconds: float = WAIT_MESSAGE_SECONDS) -> Iterator[None]:
    """Say now and then, in the block, that it goes on and for how long it has: nobody is to think that it hangs.

    Args:
        activity: what is done.
        interval_seconds: how often that is said, in seconds.
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
    """End our own server, if there is one: the process is about to go without its exit handlers."""
    for server in _EPHEMERAL_SERVERS:
        server.stop()


class EphemeralPrefectServer:
    """A Prefect server for the time of one run, with the user's Prefect database.

    Prefect would start one by itself, but in the terminal's own process group: the first Ctrl-C would end it, and
    with it the run's tasks.
    """

    def __init__(self) -> None:
        self._process: subprocess.Popen[bytes] | None = None
        self._log: Path | None = None
        self._url = ""

    def start(self) -> str:
        """Start it, without waiting for it.

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
        """End it. Safe to ask twice."""
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
        """Wait until it answers, if it was begun.

        Raises:
            CannotRun: it ended instead, or says nothing.
        """
        if self._process is None:
            return
        until = time.monotonic() + START_TIMEOUT_SECONDS
        while time.monotonic() < until and self._process.poll() is None:
            if _is_healthy(self._url):
                return
            time.sleep(0.2)
        log = self._log.read_text(errors="replace").strip().splitlines() if self._log else []
        self.stop()
        raise CannotRun(
            f"Prefect's server does not start: {log[-1] if log else 'it does not answer'}",
            hint="`fleetpatch doctor` checks the installation; --no-prefect patches without Prefect.",
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
    """Return a URL without a name and password that stand in it."""
    scheme, found, rest = url.partition("://")
    return f"{scheme}{found}{rest.rpartition('@')[2]}"


def _is_healthy(url: str) -> bool:
    return not _find_server_fault(url)


def _find_server_fault(url: str) -> str:
    """Return why a URL can't be used as that of a Prefect server, as the end of a sentence, or ""."""
    try:
        with urllib.request.urlopen(f"{url}/health", timeout=_HEALTH_TIMEOUT_SECONDS) as answer:  # noqa: S310 - the user's own setting
            kind, text = answer.headers.get_content_type(), answer.read(_MAX_HEALTH_BYTES)
    except urllib.error.HTTPError as error:
        # Somebody is there, and wants a login that Prefect's client has.
        return "" if error.code in {401, 403} else f"answers {error.code} {error.reason}: is the URL that of its API?"
    except (OSError, http.client.HTTPException):
        return "does not answer"
    except ValueError:  # a URL that can't be
        return "does not answer"
    return "" if text.strip() == HEALTHY_RESPONSE else f"is no Prefect server: asked for its health it answers {kind}"


def _find_free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port
