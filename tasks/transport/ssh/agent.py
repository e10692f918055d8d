"""The SSH agent, waited for no longer than was allowed: one that hangs, or asks a person, must not hold a run."""

import os
import socket
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

import paramiko
from paramiko.agent import AgentSSH

from tasks.errors import AuthenticationFailed

AGENT_TIMEOUT_SECONDS: Final = 10.0
"""For each answer of the agent; a person who has to confirm a key may take so long."""
CONNECT_RETRY_SECONDS: Final = 0.05
NO_AGENT_KEY_HINT: Final = "Start one and ssh-add a key, or give the machine a credential: key:PATH."


class AgentClient(AgentSSH):
    """The keys of the agent that SSH_AUTH_SOCK names.

    Attributes:
        error_message: what the agent did instead of answering, or "".
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
            # of no other kind: the library's thread, which signs, dies of a timeout without a word
            raise paramiko.SSHException(self.error_message) from error
        return answer


@contextmanager
def open_agent(seconds: float) -> Iterator[AgentClient]:
    """Give the agent, for as long as the block lasts.

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
    """Return the error about an agent that does not answer."""
    return AuthenticationFailed(f"the SSH agent does not answer: {why}", hint=NO_AGENT_KEY_HINT)


def _connect_socket(connection: socket.socket, path: str, seconds: float) -> None:
    """Connect. An agent that is asked by many at once takes some of them later."""
    until = time.monotonic() + seconds
    while True:
        try:
            connection.connect(path)
        except BlockingIOError:
            if time.monotonic() >= until:
                raise
            time.sleep(CONNECT_RETRY_SECONDS)
        except (FileNotFoundError, ConnectionRefusedError):
            raise AuthenticationFailed("there is no SSH agent", hint=NO_AGENT_KEY_HINT) from None
        else:
            return
