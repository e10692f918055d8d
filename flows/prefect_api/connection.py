"""Connects Prefect's client in this process: to the configured server, with its password, or to a server of its own.

Whether a server answers is asked without Prefect's client, which loads slowly and retries.
"""

import atexit
import http.client
import os
import secrets
import socket
import subprocess
import tempfile
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Mapping
from pathlib import Path
from typing import Final

from flows.prefect_api.port_listeners import ENDS_WITH_INPUT, HOSTS_VARIABLE, build_server_command, open_listener
from flows.prefect_api.server_login import AUTH_VARIABLE, find_login
from flows.prefect_api.server_settings import (
    ALLOWED_ORIGINS_VARIABLE,
    BATCH_SETTINGS,
    GUARD_SETTINGS,
    HEALTHY_RESPONSE,
    RUN_SETTINGS,
    UI_ENABLED_VARIABLE,
    may_name_server,
    require_trusted_settings,
)
from inventory.files.paths import build_storage_error, find_storage_fault, find_temporary_folder
from tasks.domain.errors import CannotRun

_TIMEOUT_SECONDS: Final = 5.0
_MAX_BYTES: Final = 10_000  # the answer should be one word


def find_server_fault(url: str) -> str:
    """Return why a URL is not that of a usable Prefect server, as the end of a sentence, or ""."""
    try:
        with urllib.request.urlopen(f"{url}/health", timeout=_TIMEOUT_SECONDS) as answer:  # noqa: S310 - the user's own setting
            kind, text = answer.headers.get_content_type(), answer.read(_MAX_BYTES)
    except urllib.error.HTTPError as error:
        # A proxy answers, and wants the login that Prefect's client has.
        return "" if error.code in {401, 403} else f"answers {error.code} {error.reason}. Is this the URL of its API?"
    except (OSError, http.client.HTTPException, ValueError):  # ValueError: not a URL
        return "does not answer"
    return "" if text.strip() == HEALTHY_RESPONSE else f"is not a Prefect server: /health answers {kind}"


START_TIMEOUT_SECONDS = 120.0
_STOP_TIMEOUT_SECONDS = 35.0
"""The server ends itself in 30 (flows/prefect_api/application.py)."""
_HOST: Final = "127.0.0.1"


class EphemeralPrefectServer:
    """A Prefect server for the time of one run, with the user's Prefect database.

    Prefect's own ephemeral server has no password: every user of the machine and every web page could read the
    credentials in that database. And it is in the process group of the terminal: the first Ctrl-C would end it and the
    tasks of the run.
    """

    def __init__(self) -> None:
        self._process: subprocess.Popen[bytes] | None = None
        self._environment: dict[str, str] = {}
        self._input: int | None = None
        self._log: Path | None = None
        self._listener: socket.socket
        self._url = ""

    @property
    def process_id(self) -> int | None:
        """The id of its process; None if it has none."""
        return self._process.pid if self._process is not None else None

    def open(self) -> Mapping[str, str]:
        """Let it have an address, where requests wait until it is there (``start``).

        Returns:
            The environment variables of its clients. One is its password, which only this process and those that it
            starts know.

        Raises:
            CannotRun: there is no free port.
        """
        login = f"run:{secrets.token_urlsafe(32)}"
        self._environment = {
            **{setting.name: setting.value for setting in (*BATCH_SETTINGS, *RUN_SETTINGS)},
            "PREFECT_SERVER_LOGGING_LEVEL": "ERROR",
            "PREFECT_SERVER_ANALYTICS_ENABLED": "false",
            **os.environ,
            **{guard_setting.name: guard_setting.value for guard_setting in GUARD_SETTINGS},
            HOSTS_VARIABLE: _HOST,
            "PREFECT_SERVER_API_AUTH_STRING": login,
            ALLOWED_ORIGINS_VARIABLE: "",
            UI_ENABLED_VARIABLE: "0",
            "PREFECT__SERVER_EPHEMERAL": "1",
        }
        self._listener = open_listener(_HOST, 0)
        self._url = f"http://{_HOST}:{self._listener.getsockname()[1]}/api"
        return {
            "PREFECT_API_URL": self._url,
            "PREFECT_API_AUTH_STRING": login,
            "PREFECT_CLIENT_CSRF_SUPPORT_ENABLED": "true",
        }

    def start(self) -> None:
        """Start it. Do not wait for it. Its input ends with this process, even if that is killed."""
        log, name = tempfile.mkstemp(prefix="fleetpatch-prefect-", suffix=".log")
        self._log = Path(name)
        end, self._input = os.pipe()
        try:
            with self._listener:
                self._process = subprocess.Popen(
                    [*build_server_command(self._listener), ENDS_WITH_INPUT],
                    env=self._environment,
                    stdin=end,
                    stdout=log,
                    stderr=log,
                    start_new_session=True,
                    pass_fds=(self._listener.fileno(),),
                )
        finally:
            os.close(log)
            os.close(end)

    def stop(self) -> None:
        """End it. May be called twice."""
        process, self._process = self._process, None
        if self._input is not None:
            os.close(self._input)
            self._input = None
        if process is not None:
            try:
                process.wait(_STOP_TIMEOUT_SECONDS)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
        if self._log is not None:
            self._log.unlink(missing_ok=True)

    def wait_until_healthy(self) -> None:
        """Wait until it answers. Raise CannotRun if it ended, or it does not answer."""
        until = time.monotonic() + START_TIMEOUT_SECONDS
        while time.monotonic() < until and self._process is not None and self._process.poll() is None:
            if not find_server_fault(self._url):
                return
            time.sleep(0.05)
        log = self._log.read_text(errors="replace").strip().splitlines() if self._log else []
        self.stop()
        prefect_home = Path(os.environ.get("PREFECT_HOME") or Path("~/.prefect").expanduser())
        if fault := find_storage_fault(prefect_home, find_temporary_folder()):
            raise build_storage_error(CannotRun, "the Prefect server does not start", fault)
        raise CannotRun(
            f"the Prefect server does not start: {log[-1] if log else 'it does not answer'}",
            hint="`fleetpatch doctor` checks the installation. --no-prefect patches without Prefect.",
        )


_SERVERS: Final[list[EphemeralPrefectServer]] = []
_LOCK: Final = threading.Lock()


def connect_prefect() -> None:
    """Make sure that Prefect's client has a server and its password. Without a server, start one and wait for it.

    Raises:
        CannotRun: the ephemeral server does not start.
        KeyFileError: the file of the password can't be read, or others than its owner can read it.
    """
    with _LOCK:
        server = begin_connection()
        if server is not None:
            atexit.register(stop_ephemeral_servers)
            server.wait_until_healthy()


def begin_connection() -> EphemeralPrefectServer | None:
    """Do the same without waiting. Return the server that was started, or None if one is configured.

    The caller ends the server (``stop_ephemeral_servers``). The settings are changed in the environment: processes that
    this one starts talk to the same server.

    Raises:
        CannotRun: no server can be started.
        KeyFileError: the file of the password can't be read, or others than its owner can read it.
    """
    has_asked_prefect = may_name_server()
    if not has_asked_prefect:
        require_trusted_settings()
    elif supply_login():
        return None
    server = EphemeralPrefectServer()
    _SERVERS.append(server)
    os.environ.update(server.open())
    server.start()
    if has_asked_prefect:
        from prefect.context import refresh_global_settings_context  # noqa: PLC0415 - it has been loaded above

        refresh_global_settings_context()
    return server


def supply_login() -> str:
    """Give Prefect's client the password of the configured server, if it has none and the password is ours.

    Return the URL of the server's API; "" if none is configured.

    Raises:
        KeyFileError: the file of the password can't be read, or others than its owner can read it.
    """
    from prefect.context import refresh_global_settings_context  # noqa: PLC0415 - the command sets it up first
    from prefect.settings import get_current_settings  # noqa: PLC0415 - the same

    client = get_current_settings().api
    if client.url and client.auth_string is None and client.key is None:
        login = find_login(client.url)
        if login is not None:
            os.environ[AUTH_VARIABLE] = login
            refresh_global_settings_context()
    return client.url or ""


def stop_ephemeral_servers() -> None:
    """End the servers that this process has started. For a process that ends without its exit handlers."""
    for server in _SERVERS:
        server.stop()
