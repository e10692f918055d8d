"""Processes that start at once: each is forked from one that has this project's modules loaded.

A test that kills, stops or starts many processes of this project pays for their imports once. What only a new
interpreter shows (its options, what its start reads) needs a process of its own: subprocess.
"""

import atexit
import os
import runpy
import signal
import subprocess
import sys
import tempfile
import threading
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from multiprocessing import get_context
from multiprocessing.context import ForkServerProcess
from pathlib import Path
from typing import Final

PRELOADED: Final = (
    "pytest",  # what runs the tests is loaded by multiprocessing in any case
    "pandas",
    "fleetpatch.cli.app",
    "fleetpatch.cli.commands.patch",
    "fleetpatch.cli.commands.recovery",
    "flows.execution",
    "flows.local_run",
    "tasks.records.setup",
    "tasks.reports.export.tabular_formats",
    "tasks.reports.html.renderer",
    "tasks.reports.writer",
    "tasks.machines.transport.session_factory",
    "tasks.machines.transport.ssh.connection",
)
"""Modules that processes need: none that starts a thread or opens a connection when it is loaded."""

FORK_SERVER: Final = get_context("forkserver")
FORK_SERVER.set_forkserver_preload([*PRELOADED])


@dataclass(frozen=True, slots=True)
class ForkedProcess:
    """A process in a session of its own; its methods are those of ``subprocess.Popen``.

    Attributes:
        out, err: files that have what it has printed.
    """

    process: ForkServerProcess
    out: Path
    err: Path

    @property
    def pid(self) -> int:
        assert self.process.pid is not None
        return self.process.pid

    @property
    def returncode(self) -> int | None:
        return self.process.exitcode

    def poll(self) -> int | None:
        return self.process.exitcode

    def wait(self, timeout: float | None = None) -> int:
        """Wait for its end; ``subprocess.TimeoutExpired`` when it does not come in so many seconds."""
        self.process.join(timeout)
        if self.process.exitcode is None:
            raise subprocess.TimeoutExpired(self.process.name, timeout or 0)
        return self.process.exitcode

    def communicate(self, timeout: float | None = None) -> tuple[str, str]:
        """Wait for its end, and return what it printed."""
        self.wait(timeout)
        return self.out.read_text(), self.err.read_text()

    def send_signal(self, number: int) -> None:
        """Send it a signal, unless it has ended."""
        if self.poll() is None:
            os.kill(self.pid, number)

    def kill(self) -> None:
        """kill -9."""
        self.send_signal(signal.SIGKILL)


def start_forked(
    module: str, words: Sequence[str], *, place: Path, environment: Mapping[str, str], out: Path, err: Path
) -> ForkedProcess:
    """Run a module as ``python -m MODULE WORDS…`` does.

    Args:
        module: its full name.
        words: its arguments.
        place: its working directory.
        environment: all its environment variables.
        out, err: files for what it prints.
    """
    asked = (module, [*words], str(place), dict(environment), str(out), str(err))
    process = FORK_SERVER.Process(target=_run, args=asked, name=" ".join((module, *words)))
    process.start()
    forked = ForkedProcess(process, out, err)
    atexit.register(forked.kill)  # before multiprocessing waits for it: one that was stopped would never end
    return forked


def replace_environment(environment: Mapping[str, str]) -> None:
    """Give this process an environment. It has inherited that of the test that started the first of them."""
    os.environ.clear()
    os.environ.update(environment)


def _run(module: str, words: list[str], place: str, environment: dict[str, str], out: str, err: str) -> None:
    """Do so, in the new process."""
    assert "prefect" not in sys.modules, "it reads its settings when it is loaded"
    tempfile.tempdir = None
    os.setsid()
    for path, stream in ((out, 1), (err, 2)):
        opened = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o644)
        os.dup2(opened, stream)
        os.close(opened)
    os.chdir(place)
    replace_environment(environment)
    sys.argv[1:] = words
    try:
        runpy.run_module(module, run_name="__main__", alter_sys=True)
    finally:
        threading._shutdown()  # type: ignore[attr-defined]  # an interpreter's end: threads, and then what is registered
        atexit._run_exitfuncs()  # multiprocessing leaves without them
