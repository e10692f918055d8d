"""The interface of an open connection to a POSIX shell that runs one command at a time."""

from collections.abc import Sequence
from typing import Protocol

from tasks.domain.protocols.clock import Deadline
from tasks.machines.transport.channel import Channel
from tasks.machines.transport.output_decoder import ScriptOutputDecoder


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
