"""Prefect's servers and workers of the tests begin at once: each is forked from one process that has loaded Prefect.

To load it is most of what a start takes. All processes of a test run share that one process. It ends with the test run,
and each server and worker ends with the test process that asked for it. ``python -m tests.support.prefect_forks``

A worker of the tests starts its runs as forks too. Prefect starts a small program for each (``_RUN_PROGRAM``): it
passes signals on to the fork, and ends as the fork does. If it is killed, the fork is killed a moment later:
``ForkedServer.kill_with_runs`` kills both.
"""

import atexit
import ctypes
import fcntl
import functools
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
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Any, Final, NoReturn

from flows.prefect_api.server_settings import guard_prefect
from tests.ci.meter import GROUP_VARIABLE, Meter
from tests.ci.tree import TOP
from tests.support.environment import PYTHONPATH, TEST_RUN_VARIABLE, without_ours

PARENT: Final = "{parent}"
"""Among the words of a module: the id of the process whose child it is."""
_SERVER: Final = "prefect"
_PRELOADED: Final = (
    "prefect.cli._server_utils",
    "prefect.server.api.server",
    "uvicorn.protocols.http.h11_impl",
    "prefect.cli.worker",
    "prefect.flow_engine",
    "prefect.workers.process",
    "deployments.worker.bound_worker",
    "flows.assess",
    "flows.patch",
    "flows.reconcile",
)
"""What servers, workers and runs need: no module of the tests with which a run would have other machines."""
_RUN_PROGRAM: Final = """#!{python} -IS
import json, os, signal, socket, sys

connection = socket.socket(socket.AF_UNIX)
connection.connect({path!r})
module, *further = sys.argv[sys.argv.index("-m") + 1 :]
words = {{"module": module, "words": further, "python": sys.executable}}
message = json.dumps({{**words, "place": os.getcwd(), "environment": dict(os.environ)}}).encode() + b"\\n"
sent = socket.send_fds(connection, [message], [0, 1, 2, os.open("/proc/self/ns/net", os.O_RDONLY)])
connection.sendall(message[sent:])
process = int(connection.makefile("rb", buffering=0).readline())
note = f"{folder}/run-{{os.getpid()}}"
with open(note, "w") as noted:
    noted.write(str(process))


def pass_on(number, frame):
    try:
        os.kill(process, number)
    except ProcessLookupError:
        pass


for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
    signal.signal(number, pass_on)
code = int(connection.recv(16) or -signal.SIGKILL)
os.unlink(note)
if code < 0:
    if code != -signal.SIGKILL:
        signal.signal(-code, signal.SIG_DFL)
    os.kill(os.getpid(), -code)
os._exit(code)
"""
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

    def kill_with_runs(self) -> None:
        """Kill a worker, and the processes of its runs, as the kernel or a reboot does."""
        runs = _list_children(self.pid)
        self.kill()
        for run in runs:
            process = _find_fork(run)
            for killed in (run, process):
                with suppress(ProcessLookupError):
                    if killed:
                        os.kill(killed, signal.SIGKILL)
        self.wait()

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
    return start_module(_SERVER, words, place=place, environment=environment, log=log)


def start_module(
    module: str,
    words: tuple[str, ...],
    *,
    place: Path,
    environment: Mapping[str, str],
    log: Path,
    network: str = "",
    python: str = sys.executable,
) -> ForkedServer:
    """Run ``python -m MODULE WORDS…`` in a session of its own: a worker, for example.

    Args:
        module: its full name.
        words: its arguments.
        place, environment, log: see ``start_prefect``.
        network: the network namespace in which it is; "": that of the tests.
        python: the interpreter of its runs; "": they are forks too.
    """
    connection = _connect()
    request = {
        "module": module,
        "words": words,
        "place": str(place),
        "environment": dict(environment),
        "log": str(log),
        "network": network,
        "python": python,
    }
    connection.sendall(json.dumps(request).encode() + b"\n")
    answer = connection.recv(16)
    assert answer, "the parent of Prefect's processes has ended"
    return ForkedServer(int(answer), connection)


def _list_children(process: int) -> list[int]:
    try:
        text = Path(f"/proc/{process}/task/{process}/children").read_text(encoding="ascii")
    except FileNotFoundError:
        return []
    return [int(child) for child in text.split()]


def _find_fork(program: int) -> int:
    """Return the fork for which a program of a run stands; 0: there is none."""
    try:
        process = int((_find_folder() / f"run-{program}").read_text() or 0)
        is_fork = __name__.encode() in Path(f"/proc/{process}/cmdline").read_bytes()
    except FileNotFoundError:
        return 0
    return process if is_fork else 0


def _find_folder() -> Path:
    run = os.environ.setdefault(TEST_RUN_VARIABLE, str(os.getpid()))  # of a benchmark: this process is the run
    return Path(tempfile.gettempdir(), f"fleetpatch-prefect-{run}")


def _connect() -> socket.socket:
    """Connect to the parent of servers. Start it, if no process of this test run has."""
    folder = _find_folder()
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


async def _wait_for_end(worker: Any) -> None:
    if (session := worker._processing_session) is not None:
        session.cancellation_ready.set()
        await session.stopping.wait()


def _calm_docket() -> None:
    """Let Prefect's queue of background work ask itself seldom: several servers of tests wait side by side."""
    background_workers = importlib.import_module("prefect.server.api.background_workers")
    worker = background_workers.Worker
    intervals = {"minimum_check_interval": timedelta(seconds=2), "scheduling_resolution": timedelta(seconds=1)}
    worker._cancellation_listener = _wait_for_end
    setattr(background_workers, "Worker", functools.partial(worker, **intervals))  # noqa: B010 - no setting


def serve(path: Path, owner: int) -> None:
    """Load Prefect's server, and fork one for each connection, until a process ends."""
    for module in _PRELOADED:
        importlib.import_module(module)
    _calm_docket()
    assert threading.active_count() == 1, "a fork would have no other thread"
    gc.collect()
    gc.freeze()
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)  # nobody waits for keepers
    program = path.with_name("run")
    program.write_text(_RUN_PROGRAM.format(python=sys.executable, path=str(path), folder=path.parent))
    program.chmod(0o700)
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
                keep_process(connection, run, str(program))
            connection.close()
    shutil.rmtree(path.parent)


def keep_process(connection: socket.socket, run: int, program: str) -> NoReturn:
    """Start the requested process, and send its exit code. End it if the process that asked for it has ended."""
    message, streams, _, _ = socket.recv_fds(connection, 1 << 16, 4)
    while not message.endswith(b"\n"):
        message += connection.recv(1 << 16)
    request: dict[str, Any] = json.loads(message)
    process = os.fork()
    if process == 0:
        connection.close()
        os.close(run)
        python = request["python"] or program
        for name in ("deployments.worker.flow_worker", "prefect.runner._starter_engine"):  # of workers, of served flows
            setattr(importlib.import_module(name), "get_sys_executable", lambda: python)  # noqa: B010 - no setting
        _become(request, streams)
    for stream in streams:
        os.close(stream)
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


def _become(request: Mapping[str, Any], streams: Sequence[int]) -> NoReturn:
    """Be ``python -m MODULE WORDS…``, in this new process."""
    os.setsid()
    if not streams:
        log = os.open(request["log"], os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)
        network = f"/run/netns/{request['network']}" if request["network"] else "/proc/self/ns/net"
        streams = [0, log, log, os.open(network, os.O_RDONLY)]
    _enter_network(streams[3])
    _take_streams(streams[:3])
    os.chdir(request["place"])
    os.environ.clear()
    os.environ.update(request["environment"])
    tempfile.tempdir = None
    further = os.environ.get("PYTHONPATH", "").split(os.pathsep)  # a new interpreter would have read it
    sys.path[1:1] = [folder for folder in further if folder and folder not in sys.path]
    if group := os.environ.get(GROUP_VARIABLE):
        Meter(group)  # its processor time counts for the test that asked for it
    module = request["module"]
    sys.argv = [module, *(str(os.getppid()) if word == PARENT else word for word in request["words"])]
    code = 0
    try:
        importlib.import_module("prefect.context").refresh_global_settings_context()
        if module != _SERVER:  # as a new process that loads the flows, and then Prefect
            guard_prefect()
            importlib.import_module("prefect.logging.configuration").setup_logging()
        runpy.run_module(module, run_name="__main__", alter_sys=True)
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


def _enter_network(network: int) -> None:
    if os.fstat(network).st_ino != Path("/proc/self/ns/net").stat().st_ino:
        assert ctypes.CDLL(None).setns(network, 0) == 0
    os.close(network)


def _take_streams(streams: Sequence[int]) -> None:
    """Let these be the input, the output and the errors of this process."""
    for number, stream in enumerate(streams):
        os.dup2(stream, number)
    for stream in {*streams} - {0, 1, 2}:
        os.close(stream)


if __name__ == "__main__":
    serve(Path(sys.argv[1]), int(sys.argv[2]))
