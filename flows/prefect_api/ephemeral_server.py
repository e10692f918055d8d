"""A Prefect server for the time of one run."""

import os
import secrets
import signal
import subprocess
import tempfile
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Final

from flows.prefect_api.server_health import find_server_fault
from flows.prefect_api.server_process import ENDS_WITH_INPUT, HOSTS_VARIABLE, build_command, open_listener
from flows.prefect_api.server_settings import (
    ALLOWED_ORIGINS_VARIABLE,
    BATCH_SETTINGS,
    GUARD_SETTINGS,
    UI_ENABLED_VARIABLE,
)
from inventory.files.paths import build_storage_error, find_storage_fault, find_temporary_folder
from tasks.domain.errors import CannotRun

START_TIMEOUT_SECONDS = 120.0
_STOP_TIMEOUT_SECONDS = 10.0
_HOST: Final = "127.0.0.1"


class EphemeralPrefectServer:
    """A Prefect server for the time of one run, with the user's Prefect database.

    Prefect's own ephemeral server has no password: every user of the machine and every web page could read the
    credentials in that database. And it is in the process group of the terminal: the first Ctrl-C would end it and the
    tasks of the run.
    """

    def __init__(self) -> None:
        self._process: subprocess.Popen[bytes] | None = None
        self._log: Path | None = None
        self._url = ""

    def start(self) -> Mapping[str, str]:
        """Start it, and do not wait for it.

        Returns:
            The environment variables of its clients. One is its password, which only this process and those that it
            starts know.

        Raises:
            CannotRun: there is no free port.
        """
        login = f"run:{secrets.token_urlsafe(32)}"
        descriptor, name = tempfile.mkstemp(prefix="fleetpatch-prefect-", suffix=".log")
        self._log = Path(name)
        environment = {
            **{batch_setting.name: batch_setting.value for batch_setting in BATCH_SETTINGS},
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
        with os.fdopen(descriptor, "wb") as log, open_listener(_HOST, 0) as listener:
            self._process = subprocess.Popen(
                [*build_command(listener), ENDS_WITH_INPUT],
                env=environment,
                stdin=subprocess.PIPE,  # closed when this process ends, even if it is killed
                stdout=log,
                stderr=log,
                start_new_session=True,
                pass_fds=(listener.fileno(),),
            )
            self._url = f"http://{_HOST}:{listener.getsockname()[1]}/api"
        return {
            "PREFECT_API_URL": self._url,
            "PREFECT_API_AUTH_STRING": login,
            "PREFECT_CLIENT_CSRF_SUPPORT_ENABLED": "true",
        }

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
            if process.stdin is not None:
                process.stdin.close()
        if self._log is not None:
            self._log.unlink(missing_ok=True)

    def wait_until_healthy(self) -> None:
        """Wait until it answers.

        Raises:
            CannotRun: it ended, or it does not answer.
        """
        until = time.monotonic() + START_TIMEOUT_SECONDS
        while time.monotonic() < until and self._process is not None and self._process.poll() is None:
            if not find_server_fault(self._url):
                return
            time.sleep(0.2)
        log = self._log.read_text(errors="replace").strip().splitlines() if self._log else []
        self.stop()
        if fault := find_storage_fault(_find_prefect_home(), find_temporary_folder()):
            raise build_storage_error(CannotRun, "the Prefect server does not start", fault)
        raise CannotRun(
            f"the Prefect server does not start: {log[-1] if log else 'it does not answer'}",
            hint="`fleetpatch doctor` checks the installation. --no-prefect patches without Prefect.",
        )


def _find_prefect_home() -> Path:
    return Path(os.environ.get("PREFECT_HOME") or Path("~/.prefect").expanduser())
