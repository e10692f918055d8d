"""What runs the programs that a shell starts, and a simple one for tests that run none."""

import threading
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal, Protocol

Stream = Literal["stdout", "stderr"]
OnOutput = Callable[[Stream, bytes], None]
KILLED = 0xC000013A
"""The exit code of a process that was ended by Ctrl+C or with its shell."""


class Cancelled(Exception):
    """The command was ended from outside: its shell was deleted, it was told to end, the host lost its power."""


class Stdin:
    """What a command is sent."""

    def __init__(self) -> None:
        self._changed = threading.Condition()
        self._data = bytearray()
        self._ended = False
        self._cancelled = False
        self._callbacks: list[Callable[[], None]] = []

    def write(self, data: bytes, *, end: bool) -> bool:
        """Add to it; False: it has ended before."""
        with self._changed:
            if self._ended:
                return False
            self._data += data
            self._ended = end
            self._changed.notify_all()
            return True

    def read(self) -> bytes:
        """All of it, once it has ended.

        Raises:
            Cancelled: the command was ended first.
        """
        with self._changed:
            self._changed.wait_for(lambda: self._ended or self._cancelled)
            if self._cancelled:
                raise Cancelled
            return bytes(self._data)

    @property
    def cancelled(self) -> bool:
        return self._cancelled

    def wait_cancelled(self, seconds: float | None = None) -> bool:
        """Wait until the command is ended from outside."""
        with self._changed:
            return self._changed.wait_for(lambda: self._cancelled, seconds)

    def on_cancel(self, call: Callable[[], None]) -> None:
        """Have something called when the command is ended from outside: at once, if it is already."""
        with self._changed:
            if not self._cancelled:
                self._callbacks.append(call)
                return
        call()

    def cancel(self) -> None:
        with self._changed:
            self._cancelled = True
            calls, self._callbacks = self._callbacks, []
            self._changed.notify_all()
        for call in calls:
            call()


class Executor(Protocol):
    """Runs a program for a shell."""

    def run(self, arguments: Sequence[str], stdin: Stdin, logon: str, on_output: OnOutput) -> int:
        """Run `arguments`, and return the exit code.

        Args:
            arguments: the program's name, and its arguments.
            stdin: what the program is sent; it also says when the program is to end.
            logon: as whom: "network", which may not do all with Windows Update, or "system".
            on_output: is told of output, as it comes.

        Raises:
            Cancelled: it was ended from outside.
        """
        ...


@dataclass(frozen=True)
class Script:
    """What a program does in a test.

    Attributes:
        stdout: its output, in the pieces in which it comes.
        reads: whether it reads its input to the end first; "{stdin}" in its output is that.
        hangs: whether it goes on until it is ended.
        release: what it waits for after its output and before it ends.
    """

    stdout: tuple[bytes, ...] = ()
    stderr: tuple[bytes, ...] = ()
    exit_code: int = 0
    reads: bool = False
    hangs: bool = False
    release: threading.Event | None = None


@dataclass
class ScriptedExecutor:
    """Runs nothing: answers by the program's name, or by a piece of its command line.

    Attributes:
        scripts: what to do, by a piece of the command line; the first that fits counts.
        calls: every call: its arguments, its input (if read), and as whom.
    """

    scripts: Mapping[str, Script] = field(default_factory=dict)
    calls: list[tuple[tuple[str, ...], bytes, str]] = field(default_factory=list)

    def run(self, arguments: Sequence[str], stdin: Stdin, logon: str, on_output: OnOutput) -> int:
        line = " ".join(arguments)
        script = next((script for piece, script in self.scripts.items() if piece in line), None)
        if script is None:
            on_output("stderr", f"'{arguments[0]}' is not recognized as an internal or external command".encode())
            return 9009
        sent = stdin.read() if script.reads else b""
        self.calls.append((tuple(arguments), sent, logon))
        for name, pieces in (("stdout", script.stdout), ("stderr", script.stderr)):
            for piece in pieces:
                on_output("stdout" if name == "stdout" else "stderr", piece.replace(b"{stdin}", sent))
        if script.hangs:
            stdin.wait_cancelled()
        while script.release is not None and not script.release.wait(0.02):
            if stdin.cancelled:
                break
        if stdin.cancelled:
            raise Cancelled
        return script.exit_code
