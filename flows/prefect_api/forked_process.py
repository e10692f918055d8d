"""A process that begins as a copy of this one: what this one has loaded, it need not load again.

A copy of a process with threads may wait for ever for what another thread held. So only a process with one makes some.
"""

import contextvars
import gc
import logging
import os
import select
import signal
import subprocess
import sys
import traceback
from collections.abc import Callable, Collection, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Final, NoReturn, Protocol

_THREADS: Final = Path("/proc/self/task")
_DESCRIPTORS: Final = Path("/proc/self/fd")
_NAME: Final = Path("/proc/self/comm")
_ENDING: Final = frozenset({signal.SIGINT, signal.SIGTERM, signal.SIGHUP})


class Process(Protocol):
    """What ``subprocess.Popen`` and ``ForkedProcess`` have in common."""

    pid: int

    def poll(self) -> int | None:
        """Return the exit code, or None while the process lives."""

    def wait(self, timeout: float | None = None) -> int:
        """Return the exit code when the process has ended. subprocess.TimeoutExpired: not in so many seconds."""

    def kill(self) -> None:
        """End it at once."""


class ForkedProcess:
    """A process made by ``fork_process``, with the methods of ``subprocess.Popen``."""

    def __init__(self, process_id: int) -> None:
        self.pid = process_id
        self._code: int | None = None

    def poll(self) -> int | None:
        """Return the exit code, or None while the process lives."""
        if self._code is None:
            try:
                process_id, status = os.waitpid(self.pid, os.WNOHANG)
            except ChildProcessError:  # somebody else has waited for it
                process_id, status = self.pid, 0
            if process_id:
                self._code = os.waitstatus_to_exitcode(status)
        return self._code

    def wait(self, timeout: float | None = None) -> int:
        """Return the exit code when the process has ended.

        Raises:
            subprocess.TimeoutExpired: it lives after so many seconds.
        """
        if self.poll() is None:
            descriptor = os.pidfd_open(self.pid)
            try:
                ended = select.poll()
                ended.register(descriptor, select.POLLIN)
                ended.poll(None if timeout is None else timeout * 1000)
            finally:
                os.close(descriptor)
        code = self.poll()
        if code is None:
            raise subprocess.TimeoutExpired(f"process {self.pid}", timeout or 0.0)
        return code

    def kill(self) -> None:
        """End it at once."""
        if self.poll() is None:
            os.kill(self.pid, signal.SIGKILL)


def can_fork() -> bool:
    """Return whether this process has one thread only, also of those that Python does not know. Linux 5.3 or later.

    Without its standard input, output or error, a file of it may have that number. Then it makes no copies either.
    """
    try:
        os.close(os.pidfd_open(os.getpid()))
        threads, _ = [*_THREADS.iterdir()], [*_DESCRIPTORS.iterdir()]
    except (OSError, AttributeError):  # an older kernel, a filter of system calls, no /proc
        return False
    return len(threads) == 1 and None not in (sys.__stdin__, sys.__stdout__, sys.__stderr__)


def fork_process(
    name: str,
    call: Callable[[], int],
    environment: Mapping[str, str],
    standard: tuple[int, int, int],
    kept: Collection[int] = (),
) -> ForkedProcess:
    """Make a process that calls a function, and ends with its exit code.

    Everything else of this process stays behind: its session, environment, signals, open files, and the handlers of its
    exit and of its log.

    Args:
        name: what the kernel calls it.
        call: the function.
        environment: all variables of the process.
        standard: the descriptors of this process that become its input, output and error.
        kept: further descriptors that it has, under the same numbers. Under another one, an object of this process that
            has that number would meet a file that is not its own.

    Raises:
        OSError: there can be no further process.
    """
    _flush()
    before = signal.pthread_sigmask(signal.SIG_BLOCK, _ENDING)  # one that comes now ends neither halfway
    try:
        process_id = os.fork()
        if not process_id:
            _live(name, call, environment, standard, kept)
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
    return ForkedProcess(process_id)


def _live(
    name: str,
    call: Callable[[], int],
    environment: Mapping[str, str],
    standard: tuple[int, int, int],
    kept: Collection[int],
) -> NoReturn:
    """Do it in the new process. It never returns to the code of the other one."""
    code: int | str | None = 1
    try:
        gc.freeze()  # objects of the other process must not be finalised here
        os.setsid()
        with suppress(OSError):  # a /proc that is read-only
            _NAME.write_text(name, encoding="ascii")
        _drop_signals()
        signal.pthread_sigmask(signal.SIG_UNBLOCK, _ENDING)
        _drop_descriptors(standard, kept)
        os.environ.clear()
        os.environ.update(environment)
        logging.root.handlers.clear()
        code = contextvars.Context().run(call)
    except SystemExit as error:
        code = error.code
    except BaseException:  # noqa: BLE001 - whatever it is, the process ends here
        traceback.print_exc()
    finally:
        try:
            _flush()
        finally:
            os._exit(code if isinstance(code, int) else 0 if code is None else 1)


def _flush() -> None:
    for stream in (sys.stdout, sys.stderr):
        with suppress(OSError, ValueError):  # a full disk, or a reader that has gone
            stream.flush()


def _drop_signals() -> None:
    """Give up the other process's handlers. What is ignored stays so, as in any new process."""
    for number in signal.valid_signals():
        if callable(signal.getsignal(number)):
            signal.signal(number, signal.default_int_handler if number == signal.SIGINT else signal.SIG_DFL)


def _drop_descriptors(standard: tuple[int, int, int], kept: Collection[int]) -> None:
    """Put the standard descriptors in their places, and nothing in all others but the kept ones.

    These stay open: an object of the other process that still has one as its own may not meet a file of this one.
    """
    sources = [os.dup(source) for source in standard]
    nothing = os.open(os.devnull, os.O_RDWR)
    left_open = {nothing, *sources, *kept}
    for descriptor in (int(entry.name) for entry in _DESCRIPTORS.iterdir()):
        if descriptor not in left_open:
            os.dup2(nothing, descriptor, inheritable=False)
    for target, source in enumerate(sources):
        os.dup2(source, target)
        os.close(source)
    sys.stdin, sys.stdout, sys.stderr = sys.__stdin__, sys.__stdout__, sys.__stderr__
