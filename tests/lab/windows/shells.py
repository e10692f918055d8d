"""Remote shells of a host and the commands in them. They outlive connections, and end with the machine's power."""

import re
import threading
import time
import uuid
from collections import deque
from dataclasses import dataclass, field
from typing import Protocol

from tests.lab.windows import wsman_faults
from tests.lab.windows.accounts import Account
from tests.lab.windows.executor import KILLED, Cancelled, Executor, Stdin, Stream
from tests.lab.windows.noise import Noise

CMD_LIMIT = 8_191
PROCESS_LIMIT = 32_767
_LOOK_SECONDS = 0.2
"""How often a Receive that waits looks whether its client is still there."""


class ClientGone(Exception):
    """Nobody waits for the answer any more: what it would have taken stays where it is."""


class Caller(Protocol):
    """Who sent a message.

    Attributes:
        ended: set when its connection was ended by this side.
    """

    ended: threading.Event

    def gone(self) -> bool:
        """Whether it does not wait for its answer any more."""
        ...


@dataclass
class Quotas:
    """The limits of a host, as Server 2016 and newer have them by default.

    Attributes:
        operations: how many commands a user's open shells may have run; ended ones count until their shell is closed.
        processes: how many commands may run in a shell at once.
    """

    shells: int = 30
    operations: int = 1500
    processes: int = 25
    idle_seconds: float = 7200.0
    idle_limit_seconds: float = 2147483.647


@dataclass(frozen=True)
class Received:
    """What a Receive takes: pieces of output, and the exit code once the command has ended and all was taken."""

    pieces: tuple[tuple[Stream, bytes], ...]
    exit_code: int | None


class Command:
    """A program that runs in a shell."""

    def __init__(self, line: str, *, skip_cmd: bool, executor: Executor, noise: Noise) -> None:
        self.id = str(uuid.uuid4()).upper()
        self.line = line
        self.stdin = Stdin()
        self.logon = "network"
        self.reported = False
        self._skip_cmd = skip_cmd
        self._executor = executor
        self._noise = noise
        self._changed = threading.Condition()
        self._output: deque[tuple[Stream, bytes]] = deque()
        self._exit_code: int | None = None
        self._aborted = False
        self._receiver: Caller | None = None
        threading.Thread(target=self._run, daemon=True).start()

    @property
    def running(self) -> bool:
        return self._exit_code is None

    def _run(self) -> None:
        code = KILLED
        try:
            code = self._execute()
        except Cancelled:
            pass
        finally:
            with self._changed:
                self._exit_code = code
                self._changed.notify_all()

    def _execute(self) -> int:
        if len(self.line) > (PROCESS_LIMIT if self._skip_cmd else CMD_LIMIT):
            self._emit("stderr", b"The command line is too long.\r\n")
            return 1
        arguments = split(self.line)
        if not arguments:
            return 0
        for piece in self._noise.before(arguments):
            self._emit("stderr", piece)
        return self._executor.run(arguments, self.stdin, self.logon, self._emit_noisily)

    def _emit_noisily(self, stream: Stream, data: bytes) -> None:
        for piece in self._noise.pieces(data):
            self._emit(stream, piece)

    def _emit(self, stream: Stream, data: bytes) -> None:
        with self._changed:
            self._output.append((stream, data))
            self._changed.notify_all()

    def end(self) -> None:
        """End the program; a Receive that waits is told so."""
        with self._changed:
            self._aborted = True
            self._changed.notify_all()
        self.stdin.cancel()

    def interrupt(self) -> None:
        """Tell the program to end, as Ctrl+C does; its output and its exit code can still be read."""
        self.stdin.cancel()

    def receive(self, size: int, wait_seconds: float, caller: Caller) -> Received:
        """Take output that there is, or wait for some.

        Raises:
            WSManFault: there was none in time, the command was ended, or another Receive waits already.
            ClientGone: the client hung up.
        """
        until = time.monotonic() + wait_seconds
        with self._changed:
            if self._receiver is not None and not self._receiver.gone():
                raise wsman_faults.receive_in_progress()
            self._receiver = caller
            try:
                self._wait(until, caller)
                return self._take(size)
            finally:
                if self._receiver is caller:
                    self._receiver = None
                self._changed.notify_all()

    def _wait(self, until: float, caller: Caller) -> None:
        while not (self._output or self._exit_code is not None or self._aborted):
            left = until - time.monotonic()
            if left <= 0:
                raise wsman_faults.timed_out()
            self._changed.wait(min(left, _LOOK_SECONDS))
            if caller.gone() or self._receiver is not caller:
                raise ClientGone
        if self._aborted:
            raise wsman_faults.aborted()
        if self.reported:
            raise wsman_faults.command_not_found()

    def _take(self, size: int) -> Received:
        taken: list[tuple[Stream, bytes]] = []
        while self._output and size > 0:
            stream, data = self._output.popleft()
            if len(data) > size:
                self._output.appendleft((stream, data[size:]))
                data = data[:size]
            size -= len(data) + 200  # what is written around it takes room as well
            taken.append((stream, data))
        self.reported = self._exit_code is not None and not self._output
        return Received(tuple(taken), self._exit_code if self.reported else None)


@dataclass
class Shell:
    """A remote shell: what a user's commands run in."""

    owner: Account
    options: dict[str, str]
    environment: dict[str, str]
    idle_seconds: float
    used: float
    id: str = field(default_factory=lambda: str(uuid.uuid4()).upper())
    commands: dict[str, Command] = field(default_factory=dict)
    operations: int = 0

    @property
    def busy(self) -> bool:
        return any(command.running for command in self.commands.values())

    def end(self) -> None:
        for command in self.commands.values():
            command.end()


class Shells:
    """All shells of a host.

    Attributes:
        clock: what idle times are measured with.
    """

    def __init__(self, quotas: Quotas, executor: Executor, noise: Noise) -> None:
        self.quotas = quotas
        self.executor = executor
        self.noise = noise
        self.clock = time.monotonic
        self._lock = threading.Lock()
        self._shells: dict[str, Shell] = {}

    @property
    def open(self) -> list[Shell]:
        with self._lock:
            return list(self._shells.values())

    def create(
        self, owner: Account, options: dict[str, str], environment: dict[str, str], idle: float | None, caller: Caller
    ) -> Shell:
        """Open a shell.

        Raises:
            WSManFault: the user has too many, or the idle time is not allowed.
            ClientGone: the machine lost its power before.
        """
        if idle is not None and not 0 < idle <= self.quotas.idle_limit_seconds:
            raise wsman_faults.idle_timeout_out_of_bounds()
        with self._lock:
            _require_connected(caller)
            self._expire()
            if sum(shell.owner == owner for shell in self._shells.values()) >= self.quotas.shells:
                raise wsman_faults.quota_shells(self.quotas.shells)
            idle = idle if idle is not None else self.quotas.idle_seconds
            shell = Shell(owner, options, environment, idle, self.clock())
            self._shells[shell.id] = shell
        return shell

    def find(self, shell_id: str, owner: Account) -> Shell:
        """The shell of an id.

        Raises:
            WSManFault: there is none, or it is somebody else's.
        """
        with self._lock:
            self._expire()
            shell = self._shells.get(shell_id.upper())
            if shell is None:
                raise wsman_faults.shell_not_found(shell_id)
            if shell.owner != owner:
                raise wsman_faults.access_denied()
            shell.used = self.clock()
            return shell

    def start(self, shell: Shell, line: str, caller: Caller, *, skip_cmd: bool) -> Command:
        """Run a command line in a shell.

        Raises:
            WSManFault: the user or the shell has too many.
            ClientGone: the machine lost its power before.
        """
        with self._lock:
            _require_connected(caller)
            if shell.id not in self._shells:
                raise wsman_faults.shell_not_found(shell.id)
            mine = [each for each in self._shells.values() if each.owner == shell.owner]
            if sum(each.operations for each in mine) >= self.quotas.operations:
                raise wsman_faults.quota_operations(self.quotas.operations)
            if sum(command.running for command in shell.commands.values()) >= self.quotas.processes:
                raise wsman_faults.quota_commands(self.quotas.processes)
            shell.operations += 1
            command = Command(line, skip_cmd=skip_cmd, executor=self.executor, noise=self.noise)
            shell.commands[command.id] = command
        return command

    def delete(self, shell: Shell) -> None:
        with self._lock:
            self._shells.pop(shell.id, None)
        shell.end()

    def lose_all(self) -> None:
        """Power is off: nothing of them is left."""
        with self._lock:
            lost, self._shells = list(self._shells.values()), {}
        for shell in lost:
            shell.end()

    def lose(self, shell_id: str) -> None:
        """One shell is gone, as when somebody ended its process."""
        with self._lock:
            lost = self._shells.pop(shell_id.upper(), None)
        if lost is not None:
            lost.end()

    def _expire(self) -> None:
        now = self.clock()
        for shell in [each for each in self._shells.values() if not each.busy and now - each.used > each.idle_seconds]:
            del self._shells[shell.id]


def _require_connected(caller: Caller) -> None:
    """Connections end before shells are lost: a message that is late starts nothing in the machine's next boot."""
    if caller.ended.is_set():
        raise ClientGone


_ARGUMENT = re.compile(r'(?:[^\s"]|"[^"]*"?)+')


def split(line: str) -> list[str]:
    """A command line as the program's name and its arguments; quotes hold blanks together."""
    return [part.replace('"', "") for part in _ARGUMENT.findall(line)]
