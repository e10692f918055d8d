"""Open connections that run one command at a time: to a POSIX shell, and to PowerShell. Interfaces only."""

from collections.abc import Sequence
from typing import Protocol

from tasks.domain.protocols.clock import Deadline
from tasks.machines.transport.output_decoder import ScriptOutputDecoder


class Channel(Protocol):
    """An open connection to a machine."""

    @property
    def is_open(self) -> bool:
        """Whether another exchange may be tried."""

    def close(self) -> None:
        """Close the connection."""


class ShellChannel(Channel, Protocol):
    """An open connection that runs commands as the login. Implementations: ssh/channel.py, local_channel.py."""

    def execute(
        self, command: Sequence[str], stdin: bytes, decoder: ScriptOutputDecoder, *, deadline: Deadline
    ) -> int | None:
        """Run a command and give its output to the decoder, until the answer or the command ends.

        Args:
            command: the command. It has no single quote, ``!`` or backslash: login shells (csh, fish …) interpret them.
            stdin: its whole input; then its stdin is closed.
            decoder: gets stdout and stderr.
            deadline: of the whole exchange. A command that runs longer is left running, never killed.

        Returns:
            The command's exit code, or None if the decoder had its complete answer first.

        Raises:
            ConnectionLost: the connection broke.
            DeadlineExceeded: the deadline has passed; the connection can't be used any more.
            ProtocolViolation: from the decoder.
        """


class PowerShellChannel(Channel, Protocol):
    """An open connection that runs command lines as the login. Implementation: winrm/channel.py."""

    def execute(
        self,
        command_line: str,
        stdin: bytes,
        decoder: ScriptOutputDecoder,
        *,
        deadline: Deadline,
        may_be_ended: bool = False,
    ) -> int | None:
        """Run a command line and give its output to the decoder, until the answer or the command ends.

        Args:
            command_line: at most 8,191 characters; cmd.exe reads it.
            stdin: its whole input, in ASCII; then its stdin is closed.
            decoder: gets stdout and stderr.
            deadline: of the whole exchange. A command that runs longer is left running.
            may_be_ended: it only reads. If it is left running, it is ended by the next connection: a machine allows
                only so many of them.

        Returns:
            The command's exit code, or None if the decoder had its complete answer first.

        Raises:
            ConnectionLost: the connection broke.
            DeadlineExceeded: the deadline has passed; the connection can't be used any more.
            ProtocolViolation: from the decoder.
        """
