"""Prefect's servers of the tests begin at once: each is forked from one process that has Prefect's server loaded.

To load it is most of what a server's start takes. All processes of a test run share that one process. It ends with the
test run, and each server ends with the test process that asked for it. ``python -m tests.support.prefect_forks``
"""

import atexit
import fcntl
import gc
import importlib
import json
import os
import runpy
import select
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
import traceback
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, NoReturn

from flows.prefect_api.idle_queue import calm_docket
from flows.prefect_api.known_schemas import remember_valid_schemas
from tests.ci.meter import GROUP_VARIABLE, Meter
from tests.ci.tree import TOP
from tests.support.environment import PYTHONPATH, TEST_RUN_VARIABLE, without_ours

_PATIENCE_SECONDS: Final = 300.0  # to load Prefect has taken more than a minute on cores that others use
_POLL_SECONDS: Final = 0.05
_LOST: Final = -signal.SIGKILL
"""The exit code of a server whose parent was killed."""


@dataclass(slots=True)
class ForkedServer:
    """A server; its methods are those of ``subprocess.Popen``."""

    pid: int
    connection: socket.socket
    returncode: int | None = None
    stdout: None = None
    stderr: None = None

    def poll(self) -> int | None:
        """Return its exit code; None while it runs."""
        return self._read(0.0)

    def wait(self, timeout: float | None = None) -> int:
        """Wait for its end; ``subprocess.TimeoutExpired`` when it does not come in so many seconds."""
        code = self._read(timeout)
        if code is None:
            raise subprocess.TimeoutExpired("prefect server", timeout or 0.0)
        return code

    def _read(self, timeout: float | None) -> int | None:
        if self.returncode is None:
            self.connection.settimeout(timeout)
            try:
                answer = self.connection.recv(16)
            except (TimeoutError, BlockingIOError):
                return None
            self.returncode = int(answer) if answer else _LOST
            self.connection.close()
        return self.returncode

    def send_signal(self, number: int) -> None:
        """Send it a signal, unless it has ended."""
        if self.poll() is None:
            with suppress(ProcessLookupError):
                os.kill(self.pid, number)

    def terminate(self) -> None:
        """Ask it to end."""
        self.send_signal(signal.SIGTERM)

    def kill(self) -> None:
        """kill -9."""
        self.send_signal(signal.SIGKILL)


def start_prefect(words: tuple[str, ...], *, place: Path, environment: Mapping[str, str], log: Path) -> ForkedServer:
    """Run ``python -m prefect WORDS…`` in a session of its own.

    Args:
        words: of Prefect's command.
        place: its working directory.
        environment: all its environment variables.
        log: the file to which it adds what it prints.
    """
    connection = _connect()
    request = {"words": words, "place": str(place), "environment": dict(environment), "log": str(log)}
    connection.sendall(json.dumps(request).encode() + b"\n")
    answer = connection.recv(16)
    assert answer, "the parent of Prefect's servers has ended"
    return ForkedServer(int(answer), connection)


def _connect() -> socket.socket:
    """Connect to the parent of servers. Start it, if no process of this test run has."""
    folder = Path(tempfile.gettempdir(), f"fleetpatch-prefect-{os.environ[TEST_RUN_VARIABLE]}")
    folder.mkdir(mode=0o700, exist_ok=True)
    assert folder.stat().st_uid == os.geteuid(), f"{folder} is another user's"
    path = folder / "socket"
    with (folder / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        connection = socket.socket(socket.AF_UNIX)
        with suppress(OSError):
            connection.connect(str(path))
            return connection
        connection.close()
        _start_parent(path)
    connection = socket.socket(socket.AF_UNIX)
    connection.connect(str(path))
    return connection


def _start_parent(path: Path) -> None:
    path.unlink(missing_ok=True)
    words = ("-m", "tests.support.prefect_forks", str(path), os.environ[TEST_RUN_VARIABLE])
    home = {"PREFECT_HOME": str(path.parent), "PYTHONPATH": PYTHONPATH, "DO_NOT_TRACK": "1"}
    with (path.parent / "log").open("ab") as log:
        process = subprocess.Popen(
            [sys.executable, *words],
            cwd=TOP,
            env={**without_ours(), **home},
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            start_new_session=True,
        )
    end = time.monotonic() + _PATIENCE_SECONDS
    while not path.exists():
        assert process.poll() is None, (path.parent / "log").read_text()
        assert time.monotonic() < end, "Prefect's server is not loaded in time"
        time.sleep(_POLL_SECONDS)
    process.returncode = 0  # nobody waits for it: it outlives this process


def serve(path: Path, owner: int) -> None:
    """Load Prefect's server, and fork one for each connection, until a process ends."""
    importlib.import_module("prefect.cli._server_utils")
    importlib.import_module("prefect.server.api.server")
    importlib.import_module("uvicorn.protocols.http.h11_impl")
    calm_docket(importlib.import_module("prefect.server.api.background_workers"))  # as fleetpatch's own servers
    remember_valid_schemas(importlib.import_module("prefect.utilities.schema_tools.validation"))
    importlib.import_module("flows.prefect_api.kept_answers").keep_answers()
    assert threading.active_count() == 1, "a fork would have no other thread"
    gc.collect()
    gc.freeze()
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)  # nobody waits for keepers
    run = os.pidfd_open(owner)
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(f"{path}.new")
        listener.listen(64)
        Path(f"{path}.new").rename(path)
        while listener in _wait_for_one(listener, run):
            connection, _ = listener.accept()
            if os.fork() == 0:
                listener.close()
                signal.signal(signal.SIGCHLD, signal.SIG_DFL)
                keep_server(connection, run)
            connection.close()
    shutil.rmtree(path.parent)


def keep_server(connection: socket.socket, run: int) -> NoReturn:
    """Start the server that is asked for, and tell of its end. End it when nobody is there any more to be told."""
    request: dict[str, Any] = json.loads(connection.makefile().readline())
    process = os.fork()
    if process == 0:
        connection.close()
        os.close(run)
        _become(request)
    connection.sendall(b"%d\n" % process)
    ended = os.pidfd_open(process)
    if ended not in _wait_for_one(ended, connection, run):
        os.kill(process, signal.SIGKILL)
    _, status = os.waitpid(process, 0)
    with suppress(OSError):
        connection.sendall(b"%d\n" % os.waitstatus_to_exitcode(status))
    os._exit(0)


def _wait_for_one(*waited: Any) -> list[Any]:
    return select.select(waited, [], [])[0]


def _become(request: Mapping[str, Any]) -> NoReturn:
    """Be ``python -m prefect WORDS…``, in this new process."""
    os.setsid()
    log = os.open(request["log"], os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)
    os.dup2(log, 1)
    os.dup2(log, 2)
    os.close(log)
    os.chdir(request["place"])
    os.environ.clear()
    os.environ.update(request["environment"])
    tempfile.tempdir = None
    further = os.environ.get("PYTHONPATH", "").split(os.pathsep)  # a new interpreter would have read it
    sys.path[1:1] = [folder for folder in further if folder and folder not in sys.path]
    if group := os.environ.get(GROUP_VARIABLE):
        Meter(group)  # its processor time counts for the test that asked for it
    sys.argv = ["prefect", *request["words"]]
    code = 0
    try:
        importlib.import_module("prefect.context").refresh_global_settings_context()
        runpy.run_module("prefect", run_name="__main__", alter_sys=True)
    except SystemExit as end:
        code = end.code if isinstance(end.code, int) else int(end.code is not None)
    except BaseException:  # noqa: BLE001 - it is printed, and the process ends
        traceback.print_exc()
        code = 1
    finally:
        threading._shutdown()  # type: ignore[attr-defined]  # an interpreter's end: threads, and then what is registered
        atexit._run_exitfuncs()
        sys.stdout.flush()
        os._exit(code)


if __name__ == "__main__":
    serve(Path(sys.argv[1]), int(sys.argv[2]))
