"""What a POSIX shell is reached through: an open line that runs one command at a time."""

from collections.abc import Sequence
from typing import Protocol

from tasks.protocols.clock import Deadline
from tasks.transport.output_decoder import ScriptOutputDecoder


class ShellChannel(Protocol):
    """An open way to run commands as the login. Implementations: ssh/channel.py, local_channel.py."""

    def execute(
        self, command: Sequence[str], stdin: bytes, decoder: ScriptOutputDecoder, *, deadline: Deadline
    ) -> int | None:
        """Run a command and feed what it prints to the decoder, until the answer or the command ends.

        Args:
            command: the command. None holds a single quote, ``!`` or a backslash: login shells (csh, fish …) read them.
            stdin: all that it gets; then its stdin is closed.
            decoder: stdout is fed, stderr noted.
            deadline: of the whole exchange. A command that outlives it is left alone, never killed.

        Returns:
            The command's exit code, or None when the decoder had its whole answer first.

        Raises:
            ConnectionLost: the line was cut.
            DeadlineExceeded: time is over; the line can't be used any more.
            ProtocolViolation: from the decoder.
        """
        ...

    @property
    def is_open(self) -> bool:
        """Whether another exchange may be tried."""
        ...

    def close(self) -> None:
        """Give it up."""
        ...
