"""The SSH agent, with bounded waits: an agent that hangs, or asks a person, must not block a run."""

import os
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

import paramiko
from paramiko.agent import AgentSSH

from tasks.errors import AuthenticationFailed
from tasks.protocols.clock import Deadline, SystemClock
from tasks.retry import retry

AGENT_TIMEOUT_SECONDS: Final = 10.0
"""For each answer of the agent. A person may have to confirm a key."""
CONNECT_RETRY_SECONDS: Final = 0.05
NO_AGENT_KEY_HINT: Final = "Start one and ssh-add a key, or give the machine a credential: key:PATH."


class AgentClient(AgentSSH):
    """The keys of the agent in SSH_AUTH_SOCK.

    Attributes:
        error_message: the agent's last error, or "".
    """

    error_message: str = ""

    def __init__(self, connection: socket.socket) -> None:
        super().__init__()
        self._connect(connection)  # type: ignore[attr-defined]  # the stubs know nothing private

    def _send_message(self, message: paramiko.Message) -> tuple[int, paramiko.Message]:
        try:
            answer: tuple[int, paramiko.Message] = super()._send_message(message)  # type: ignore[misc]  # the stubs know nothing private
        except (paramiko.SSHException, OSError) as error:
            self.error_message = str(error) or type(error).__name__
            # only this type: paramiko's thread that signs ends without an error after a timeout
            raise paramiko.SSHException(self.error_message) from error
        return answer


@contextmanager
def open_agent(seconds: float) -> Iterator[AgentClient]:
    """Yield the agent, for the duration of the block.

    Args:
        seconds: the longest wait for each of its answers.

    Raises:
        AuthenticationFailed: there is none, or it does not answer.
    """
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as connection:
        connection.settimeout(seconds)
        try:
            _connect_socket(connection, os.environ.get("SSH_AUTH_SOCK", ""), seconds)
            agent = AgentClient(connection)
        except (paramiko.SSHException, OSError) as error:
            raise build_agent_error(str(error) or type(error).__name__) from error
        yield agent


def build_agent_error(why: str) -> AuthenticationFailed:
    """Return the error for an agent that does not answer."""
    return AuthenticationFailed(f"the SSH agent does not answer: {why}", hint=NO_AGENT_KEY_HINT)


def _connect_socket(connection: socket.socket, path: str, seconds: float) -> None:
    """Connect, and retry: an agent with many clients accepts some of them later."""
    clock = SystemClock()
    try:
        retry(
            lambda: connection.connect(path),
            BlockingIOError,
            clock=clock,
            deadline=Deadline.after(clock, seconds),
            wait=CONNECT_RETRY_SECONDS,
        )
    except (FileNotFoundError, ConnectionRefusedError):
        raise AuthenticationFailed("there is no SSH agent", hint=NO_AGENT_KEY_HINT) from None
