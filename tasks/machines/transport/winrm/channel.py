"""WinRM as a PowerShellChannel: one connection, one shell, one command at a time, every wait bounded.

A broken connection does not end a shell on the machine. So another connection is opened, and the command is followed
there. Output may have been lost with the broken one: the frame's length (output_decoder.py) shows that.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from functools import partial
from typing import Final

from inventory.machine import Machine
from tasks.domain.errors import ConnectionLost, DeadlineExceeded, FleetpatchError
from tasks.domain.protocols.clock import Clock, Deadline
from tasks.machines.transport.output_decoder import ScriptOutputDecoder
from tasks.machines.transport.winrm.login import WinrmEnvironment, open_client
from tasks.machines.transport.winrm.messages import (
    TIMED_OUT,
    MessageLost,
    NoOutputYet,
    WinrmLoginRefused,
    WsmanClient,
    WsmanFault,
    build_fault_error,
)

ClientOpener = Callable[[Deadline], tuple[WsmanClient, str]]
"""Connects, logs in and opens a shell; returns the connection and the shell."""

INPUT_CHUNK_BYTES: Final = 200_000
"""A message with more would be larger than the machine allows (MaxEnvelopeSizekb, 500)."""
MAX_RECONNECTIONS: Final = 2
"""In one exchange."""
CLEANUP_SECONDS: Final = 10.0
QUOTA_PAUSE_SECONDS: Final = 3.0
MAX_COMMANDS_IN_SHELL: Final = 200
"""The machine counts all commands of open shells, also ended ones, and allows a login 1,500 of them."""


class WinrmChannel:
    """Commands over WinRM. Used by one thread.

    ``shells_to_delete`` gets the shells in which only a reading command was left; the next connection deletes them.
    """

    def __init__(
        self,
        client: WsmanClient,
        shell_id: str,
        open_client: ClientOpener,
        clock: Clock,
        shells_to_delete: list[str] | None = None,
    ) -> None:
        self._client = client
        self._shell_id = shell_id
        self._open_client = open_client
        self._clock = clock
        self._closed = False
        self._is_busy = False  # a command may run in the shell
        self._may_be_ended = False
        self._shells_to_delete = shells_to_delete if shells_to_delete is not None else []
        self._reconnections_left = 0
        self._commands_in_shell = 0
        self._input_fault: WsmanFault | None = None  # the machine refused the command's input

    @property
    def is_open(self) -> bool:
        """Whether another exchange may be tried. It sends nothing."""
        return not self._closed

    def execute(
        self,
        command_line: str,
        stdin: bytes,
        decoder: ScriptOutputDecoder,
        *,
        deadline: Deadline,
        may_be_ended: bool = False,
    ) -> int | None:
        """Run a command line in the shell. See PowerShellChannel."""
        self._may_be_ended = may_be_ended
        self._reconnections_left = MAX_RECONNECTIONS
        self._input_fault = None
        with self._translate_errors(deadline):
            command_id = self._start_command(command_line, stdin, deadline)
            status = self._receive_output(command_id, decoder, deadline)
            self._is_busy = False
            with suppress(MessageLost, WsmanFault, WinrmLoginRefused):  # the answer is there already
                self._client.end_command(self._shell_id, command_id, self._find_cleanup_seconds(deadline))
            return status

    def close(self) -> None:
        """Delete the shell and close the connection. A shell in which a command may run is left alone."""
        if self._closed:
            return
        self._closed = True
        if not self._is_busy:
            with suppress(MessageLost, WsmanFault, WinrmLoginRefused):
                self._client.delete_shell(self._shell_id, CLEANUP_SECONDS)
        self._client.close()

    def _start_command(self, command_line: str, stdin: bytes, deadline: Deadline) -> str:
        """Start a command and give it its input.

        PowerShell runs nothing before its input has ended. So what fails before the last piece of it is begun anew.
        """
        chunks = [stdin[at : at + INPUT_CHUNK_BYTES] for at in range(0, len(stdin), INPUT_CHUNK_BYTES)] or [b""]
        while True:
            try:
                if self._commands_in_shell >= MAX_COMMANDS_IN_SHELL:
                    self._replace_shell(deadline)
                self._commands_in_shell += 1
                command_id = self._client.start_command(
                    self._shell_id, command_line, deadline.require_seconds(self._clock)
                )
                for chunk in chunks[:-1]:
                    self._send(command_id, chunk, deadline, end=False)
                    if self._input_fault:
                        return command_id
                break
            except MessageLost as lost:
                self._reconnect(lost, deadline, keep_shell=False)
            except WsmanFault as fault:
                if not (fault.is_lost_shell or fault.is_quota) or self._reconnections_left <= 0:
                    raise
                self._reconnections_left -= 1
                if fault.is_quota:
                    self._clock.sleep(deadline.require_seconds(self._clock, QUOTA_PAUSE_SECONDS))
                self._replace_shell(deadline)
        self._is_busy = True
        try:
            self._send(command_id, chunks[-1], deadline, end=True)
        except MessageLost as lost:
            self._reconnect(lost, deadline, keep_shell=True)
            # It arrived, or it did not. If it did, the input has ended, and the machine refuses or ignores this one.
            with suppress(WsmanFault, MessageLost):
                self._send(command_id, chunks[-1], deadline, end=True)
            self._input_fault = None
        return command_id

    def _send(self, command_id: str, data: bytes, deadline: Deadline, *, end: bool) -> None:
        """Send input. If the machine refuses it, the command may have ended: its output says why."""
        try:
            self._client.send_input(
                self._shell_id, command_id, data, end=end, seconds=deadline.require_seconds(self._clock)
            )
        except WsmanFault as fault:
            if fault.is_lost_shell or fault.is_quota:
                raise
            # after a timeout, all of it may have arrived: a PowerShell that starts slowly reads it later
            self._input_fault = None if end and fault.code == TIMED_OUT else fault

    def _receive_output(self, command_id: str, decoder: ScriptOutputDecoder, deadline: Deadline) -> int | None:
        is_answer_lost = False
        while True:
            try:
                stdout, stderr, exit_code = self._client.receive(
                    self._shell_id, command_id, deadline.require_seconds(self._clock)
                )
            except NoOutputYet:
                if self._input_fault:
                    raise self._input_fault from None
                continue
            except MessageLost as lost:
                is_answer_lost = True
                self._reconnect(lost, deadline, keep_shell=True)
                continue
            except WsmanFault as fault:
                # The machine tells a command's end once. One code is for a command that has ended and for a lost shell.
                if not (is_answer_lost and fault.is_lost_shell and self._delete_own_shell(deadline)):
                    raise
                raise ConnectionLost("a part of the machine's answer was lost: the command has ended") from fault
            decoder.feed_stderr(stderr)
            if decoder.feed_stdout(stdout):
                return None
            if exit_code is not None:
                return exit_code

    def _find_cleanup_seconds(self, deadline: Deadline) -> float:
        return min(CLEANUP_SECONDS, max(1.0, deadline.remaining_seconds(self._clock)))

    def _delete_own_shell(self, deadline: Deadline) -> bool:
        """Delete the shell, in which no command runs. Return whether the machine still had it."""
        self._is_busy = False
        try:
            self._client.delete_shell(self._shell_id, self._find_cleanup_seconds(deadline))
        except WsmanFault:
            return False
        return True

    def _replace_shell(self, deadline: Deadline) -> None:
        with suppress(MessageLost, WsmanFault):
            self._client.delete_shell(self._shell_id, CLEANUP_SECONDS)
        self._shell_id = self._client.open_shell(deadline.require_seconds(self._clock))
        self._commands_in_shell = 0

    def _reconnect(self, lost: MessageLost, deadline: Deadline, *, keep_shell: bool) -> None:
        """Open another connection.

        With ``keep_shell``, the command is followed in its shell; else that is left, and another shell is used.
        """
        deadline.require_seconds(self._clock)
        if self._reconnections_left <= 0:
            raise lost
        self._reconnections_left -= 1
        self._client.close()
        try:
            self._client, shell_id = self._open_client(deadline)
        except FleetpatchError as error:
            if not self._is_busy or isinstance(error, DeadlineExceeded):
                raise
            # the command may run, and its caller must not take it for refused
            raise ConnectionLost(
                f"the connection was lost ({lost}), and another one can't be opened: {error.message}", hint=error.hint
            ) from error
        unused = shell_id
        if not keep_shell:  # nothing ran in the old one, and a PowerShell may wait there for its input
            unused, self._shell_id = self._shell_id, shell_id
        with suppress(MessageLost, WsmanFault):
            self._client.delete_shell(unused, CLEANUP_SECONDS)

    @contextmanager
    def _translate_errors(self, deadline: Deadline) -> Iterator[None]:
        """Raise our errors. After any of them the channel is closed: a late answer must not be read as the next one."""
        try:
            deadline.require_seconds(self._clock)
            yield
        except WsmanFault as fault:
            self._abandon(is_busy=self._is_busy and not fault.is_lost_shell)
            raise build_fault_error(fault) from fault
        except (MessageLost, WinrmLoginRefused) as lost:
            self._abandon(is_busy=self._is_busy)
            deadline.require_seconds(self._clock)
            raise ConnectionLost(f"the connection was lost: {lost or type(lost).__name__}") from lost
        except BaseException:
            self._abandon(is_busy=self._is_busy)
            raise

    def _abandon(self, *, is_busy: bool) -> None:
        self._closed = True
        self._is_busy = is_busy
        if not is_busy or self._may_be_ended:
            self._shells_to_delete.append(self._shell_id)
        self._client.close()


def connect(
    machine: Machine,
    environment: WinrmEnvironment,
    *,
    deadline: Deadline,
    shells_to_delete: list[str] | None = None,
    is_first: bool = False,
) -> WinrmChannel:
    """Open a connection, log in and open a shell.

    ``shells_to_delete`` are those that earlier connections left: they are deleted. The connection adds its own to it.
    ``is_first``: the machine was never reached before.

    Raises:
        TransportError: see ``open_client``, and ``build_fault_error`` for a machine that opens no shell.
    """
    try:
        client, shell_id = open_client(machine, environment, deadline, is_first=is_first)
    except WsmanFault as fault:
        raise build_fault_error(fault) from fault
    shells = shells_to_delete if shells_to_delete is not None else []
    # of broken connections: a login may have 30 shells, and they would end by themselves after two hours
    with suppress(MessageLost, WinrmLoginRefused):  # the first command finds that the connection is broken
        while shells:
            with suppress(WsmanFault):  # it is gone already
                client.delete_shell(shells[-1], CLEANUP_SECONDS)
            shells.pop()
    return WinrmChannel(client, shell_id, partial(open_client, machine, environment), environment.clock, shells)
