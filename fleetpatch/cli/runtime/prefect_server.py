"""Prefect in the command: without its log on the terminal, and with an ephemeral server where none is configured."""

import atexit
import gc
import os
import threading
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import Final

from fleetpatch.cli.runtime.output import configure_logging, print_to_stderr
from flows.prefect_api.connection import begin_connection, find_server_fault, stop_ephemeral_servers
from flows.prefect_api.server_settings import may_name_server
from inventory.machine import Machine
from inventory.sites import find_site
from tasks.domain.errors import CannotRun

QUIET_PREFECT_SETTINGS: Final = {
    "PREFECT_LOGGING_HANDLERS_CONSOLE_LEVEL": "CRITICAL",  # its log goes to its server, not to the terminal
    "PREFECT_SERVER_LOGGING_LEVEL": "ERROR",
}
WAIT_MESSAGE_SECONDS = 4.0


def quieten_prefect() -> None:
    """Set, before Prefect is loaded, what keeps its log off the terminal. Settings of the user's environment win."""
    for name, value in QUIET_PREFECT_SETTINGS.items():
        os.environ.setdefault(name, value)


def ensure_prefect_server() -> None:
    """Load Prefect, and make sure that its server answers. Settings of the user's environment win.

    Raises:
        CannotRun: the configured server does not answer, or refuses the password, or the ephemeral server does not
            start.
        KeyFileError: the file of the server's password can't be read, or others than its owner can read it.
    """
    atexit.register(stop_ephemeral_servers)  # before Prefect registers anything: its last messages still need a server
    quieten_prefect()
    url = _read_server_url() if may_name_server() else ""
    if url:
        _require_prefect_server(url)
    else:
        print_to_stderr("No Prefect server is configured. Starting one for this run (a few seconds) …")
    server = begin_connection()
    gc.disable()  # what is loaded stays, and to look through it for garbage takes a sixth of the time
    with print_elapsed_time("waiting for Prefect"):
        import flows.patch  # noqa: F401 - loads while the server starts

        gc.freeze()
        gc.enable()
        if server is not None:
            server.wait_until_healthy()
        else:
            _require_login(url)
    configure_logging()  # Prefect has changed the logging


def reaches_sites_by_prefect(machines: Iterable[Machine]) -> bool:
    """Return whether machines are of other sites, and a Prefect server is there that can start runs at these sites.

    A configured server that does not answer is printed: the run says then of each of these machines that it was not
    reached.

    Raises:
        CannotRun: Prefect can't read its settings.
    """
    site = find_site()
    if all(machine.site == site for machine in machines):
        return False
    url = _read_server_url()
    fault = find_server_fault(url) if url else "is not configured (PREFECT_API_URL)"
    if fault:
        server = f"the Prefect server at {_redact_url(url)}" if url else "a Prefect server"
        print_to_stderr(f"Only machines of the site {site} are read: {server} {fault}.")
    return not fault


def _read_server_url() -> str:
    """Return the URL of the configured server; "" for none.

    Raises:
        CannotRun: Prefect can't read its settings.
    """
    quieten_prefect()
    try:
        from prefect.context import get_settings_context

        return str(get_settings_context().settings.api.url or "")
    except ValueError as error:  # pydantic's error about the settings
        error_lines = [line.strip() for line in str(error).splitlines()]
        raise CannotRun(
            f"Prefect cannot read its settings: {'; '.join(error_lines[1:3])[:300]}",
            hint="Correct PREFECT_API_URL and the other settings of Prefect, in the environment and in its profile.",
        ) from error


@contextmanager
def print_elapsed_time(activity: str, interval_seconds: float = WAIT_MESSAGE_SECONDS) -> Iterator[None]:
    """Print now and then, every some seconds, for how long the block, which does an activity, has taken."""
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


def _require_prefect_server(url: str) -> None:
    fault = find_server_fault(url)
    if fault:
        raise CannotRun(
            f"the Prefect server at {_redact_url(url)} {fault}",
            hint="Start it (fleetpatch server), correct PREFECT_API_URL, or use --no-prefect to patch without Prefect.",
        )


def _require_login(url: str) -> None:
    """Check that the server accepts the password of Prefect's client, before a run begins."""
    from prefect.exceptions import PrefectHTTPStatusError

    from flows.prefect_api.api_client import NO_ANSWER_ERRORS, open_fail_fast_client
    from flows.prefect_api.server_login import LOGIN_HINT, describe_refused_login

    try:
        with open_fail_fast_client() as client:
            client.request("GET", "/admin/version")
    except PrefectHTTPStatusError as error:
        if error.response.status_code in {401, 403}:
            raise CannotRun(describe_refused_login(_redact_url(url)), hint=LOGIN_HINT) from error
    except NO_ANSWER_ERRORS:
        return  # the run waits for it, or goes on without it


def _redact_url(url: str) -> str:
    """Return a URL without its name and password."""
    scheme, separator, remainder = url.partition("://")
    return f"{scheme}{separator}{remainder.rpartition('@')[2]}"
