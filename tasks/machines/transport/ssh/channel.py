"""An SSH connection as a ShellChannel: one SSH channel for each command, both streams read, every wait bounded."""

import select
import shlex
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Final

import paramiko

from tasks.domain.errors import ConnectionLost, DeadlineExceeded, Unreachable
from tasks.domain.protocols.clock import Clock, Deadline
from tasks.machines.transport.output_decoder import ScriptOutputDecoder
from tasks.machines.transport.tcp_connection import describe_connection_error

_CHUNK_BYTES: Final = 65_536
_MAX_DROPPED_BYTES: Final = 1_048_576
_POLL_SECONDS: Final = 1.0
"""The longest single wait, in seconds; the deadline is checked in between."""
START_TIMEOUT_SECONDS: Final = 60.0
"""For the server's answer to a command: that it begins. A command itself has as long as its deadline."""


class SshShellChannel:
    """Commands over one authenticated connection. ``transport`` is already logged in."""

    def __init__(self, transport: paramiko.Transport, clock: Clock) -> None:
        self._transport = transport
        self._clock = clock
        self._closed = False
        self._shells: dict[tuple[str, ...], paramiko.Channel] = {}

    @property
    def is_open(self) -> bool:
        """Whether the connection seems to be up. It sends nothing."""
        return not self._closed and self._transport.is_active()

    def execute(
        self, command: Sequence[str], stdin: bytes, decoder: ScriptOutputDecoder, *, deadline: Deadline
    ) -> int | None:
        """Run a command in its own SSH channel. See ShellChannel."""
        with self._translate_errors(deadline):
            # the login shell may be csh or fish: plain words, and words in single quotes, mean the same in all shells
            channel = self._start_command(shlex.join(command), deadline)
            try:
                return self._exchange_streams(channel, stdin, decoder, deadline)
            finally:
                channel.close()

    def execute_in_shell(
        self,
        command: Sequence[str],
        opening: bytes,
        script_input: bytes,
        decoder: ScriptOutputDecoder,
        *,
        deadline: Deadline,
    ) -> int | None:
        """Let a shell execute a script. It waits in its SSH channel for the next one. See ShellChannel.

        A channel, and the session with sudo at its other end, cost more than most scripts.
        """
        with self._translate_errors(deadline):
            key = tuple(command)
            channel = self._shells.pop(key, None)
            if channel is not None and not _is_waiting(channel):
                channel.close()
                channel = None
            if channel is None:
                channel = self._start_command(shlex.join(command), deadline)
                script_input = opening + script_input
            status: int | None = -1
            try:
                status = self._exchange_streams(channel, script_input, decoder, deadline, is_last=False)
            finally:
                if status is None:
                    self._shells[key] = channel
                else:
                    channel.close()
            return status

    def close(self) -> None:
        """Close the connection."""
        if not self._closed:
            self._closed = True
            self._transport.close()

    def _start_command(self, command: str, deadline: Deadline) -> paramiko.Channel:
        began = time.monotonic()
        try:
            channel = self._transport.open_session(timeout=deadline.require_seconds(self._clock, START_TIMEOUT_SECONDS))
            _request_command(channel, command, deadline.require_seconds(self._clock, START_TIMEOUT_SECONDS))
        except (paramiko.SSHException, OSError, EOFError) as error:
            waited = time.monotonic() - began
            if waited < START_TIMEOUT_SECONDS or deadline.has_passed(self._clock):
                raise
            self.close()
            raise Unreachable(
                f"the machine took the login, and does not begin the command within {waited:.0f} s",
                hint="It is overloaded or hangs: look at its load, its disks and its sshd's log.",
            ) from error
        return channel

    def _exchange_streams(
        self,
        channel: paramiko.Channel,
        stdin: bytes,
        decoder: ScriptOutputDecoder,
        deadline: Deadline,
        *,
        is_last: bool = True,
    ) -> int | None:
        unsent = memoryview(stdin)
        poller = select.poll()
        poller.register(channel.fileno(), select.POLLIN)
        while True:
            channel.settimeout(deadline.require_seconds(self._clock))
            quiet = True
            if unsent and channel.send_ready():
                unsent = unsent[channel.send(bytes(unsent[:_CHUNK_BYTES])) :]
                quiet = False
                if not unsent and is_last:
                    channel.shutdown_write()
            if channel.recv_stderr_ready():  # stderr first: the answer ends on stdout, and nothing is read after that
                quiet = False
                decoder.feed_stderr(channel.recv_stderr(_CHUNK_BYTES))
            if channel.recv_ready():
                quiet = False
                if decoder.feed_stdout(channel.recv(_CHUNK_BYTES)):
                    return None
            if not quiet:
                continue
            if channel.eof_received or channel.closed:
                if channel.recv_ready() or channel.recv_stderr_ready():
                    continue  # it arrived meanwhile
                return self._read_exit_status(channel, deadline)
            # while input is left, the poller does not report that the SSH window has opened
            poller.poll(1000 * deadline.require_seconds(self._clock, 0.05 if unsent else _POLL_SECONDS))

    def _read_exit_status(self, channel: paramiko.Channel, deadline: Deadline) -> int:
        while not channel.exit_status_ready():
            channel.status_event.wait(deadline.require_seconds(self._clock, _POLL_SECONDS))
            if channel.closed and not self._transport.is_active():
                break
        status = channel.exit_status
        if status < 0:  # the connection broke, or a signal ended the command
            raise ConnectionLost("the command was cut off before its end")
        return status

    @contextmanager
    def _translate_errors(self, deadline: Deadline) -> Iterator[None]:
        try:
            yield
        except (paramiko.SSHException, OSError, EOFError) as error:
            # a timeout of paramiko means that the deadline has passed or that the connection is dead
            if deadline.has_passed(self._clock):
                self.close()
                raise DeadlineExceeded("the machine did not answer in the time it was given") from error
            if isinstance(error, paramiko.ChannelException):
                raise ConnectionLost(
                    f"the machine opened no further session: {error.text}",
                    hint="MaxSessions in its sshd_config may be too low, or the login may run no commands.",
                ) from error
            self.close()
            raise ConnectionLost(f"the connection was lost: {describe_connection_error(error)}") from error
        except DeadlineExceeded:
            self.close()  # a late answer must not be read as the next answer
            raise


def _is_waiting(channel: paramiko.Channel) -> bool:
    """Return whether a shell waits for input. What it has said since its last answer is dropped: it belongs to none.

    A shell that has said much is not used again: something that an earlier script has left writes there, maybe forever.
    """
    dropped_count = 0
    while dropped_count < _MAX_DROPPED_BYTES and (channel.recv_stderr_ready() or channel.recv_ready()):
        is_stderr = channel.recv_stderr_ready()
        dropped_count += len(channel.recv_stderr(_CHUNK_BYTES) if is_stderr else channel.recv(_CHUNK_BYTES))
    is_quiet = dropped_count < _MAX_DROPPED_BYTES
    return is_quiet and not (channel.closed or channel.eof_received or channel.exit_status_ready())


def _request_command(channel: paramiko.Channel, command: str, seconds: float) -> None:
    """Request a command. paramiko waits for the answer without a limit, so a timer closes the channel."""
    guard = threading.Timer(seconds, channel.close)
    guard.daemon = True
    guard.start()
    try:
        channel.exec_command(command)
    except BaseException:
        channel.close()
        raise
    finally:
        guard.cancel()
