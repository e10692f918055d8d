"""The SSH agent, with bounded waits: an agent that hangs, or asks a person, must not block a run."""

import logging
import os
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Final

import paramiko
from paramiko.agent import AgentKey, AgentSSH

from tasks.domain.errors import AuthenticationFailed
from tasks.domain.protocols.clock import Deadline, SystemClock
from tasks.domain.retry import retry
from tasks.machines.transport.ssh.error_words import describe_error

logger = logging.getLogger(__name__)

AGENT_TIMEOUT_SECONDS: Final = 10.0
"""For each answer of the agent. A person may have to confirm a key."""
CONNECT_RETRY_SECONDS: Final = 0.05
_NO_AGENT_HINT: Final = "Start one and ssh-add a key, or give the machine a credential: key:PATH."


class OfferedKey(AgentKey):
    """A key of an agent. If the agent can't sign with it, its signature is empty, which the machine refuses.

    An exception would end the connection, and with it the login with the next key: paramiko signs in its own thread.

    Attributes:
        failure: why there is no signature, or "".
    """

    failure: str = ""

    def __str__(self) -> str:
        comment = " ".join(self.comment.split())[:80]
        return f"{self.get_name().removesuffix('@openssh.com')} {self.fingerprint}{f' ({comment})' if comment else ''}"

    @property
    def is_on_token(self) -> bool:
        """Whether it is a FIDO key: a signature takes its token, and often a person's touch."""
        return self.get_name().startswith("sk-")

    def sign_ssh_data(self, data: Any, algorithm: str | None = None) -> Any:  # noqa: ANN401 - the stubs are wrong
        """Return the signature."""
        try:
            signature = super().sign_ssh_data(data, algorithm)
        except Exception as error:
            if isinstance(self.agent, AgentClient) and self.agent.error_message:
                raise  # the agent does not answer: there is no next key
            self.failure = "the agent did not sign with it" + (", it needs its token" if self.is_on_token else "")
            logger.debug("no signature of %s: %s", self, error)
            return b""
        return signature


class AgentClient(AgentSSH):
    """The keys of the agent in SSH_AUTH_SOCK.

    Attributes:
        error_message: the agent's last error, or "".
        offered_keys: its keys.
    """

    error_message: str = ""

    def __init__(self, connection: socket.socket) -> None:
        super().__init__()
        self._connect(connection)  # type: ignore[attr-defined]  # the stubs know nothing private
        self.offered_keys = tuple(OfferedKey(self, key.blob, key.comment) for key in self.get_keys())

    def _send_message(self, message: paramiko.Message) -> tuple[int, paramiko.Message]:
        try:
            answer: tuple[int, paramiko.Message] = super()._send_message(message)  # type: ignore[misc]  # the stubs know nothing private
        except (paramiko.SSHException, OSError) as error:
            self.error_message = describe_error(error)
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
    path = os.environ.get("SSH_AUTH_SOCK", "")
    if not path:
        raise AuthenticationFailed(
            "there is no SSH agent: SSH_AUTH_SOCK is not set for this process",
            hint="A service has no agent: give the machine a credential: key:PATH. In a shell, start one: "
            "eval $(ssh-agent); ssh-add.",
        )
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as connection:
        connection.settimeout(seconds)
        try:
            _connect_socket(connection, path, seconds)
            agent = AgentClient(connection)
        except (paramiko.SSHException, OSError) as error:
            raise build_agent_error(describe_error(error)) from error
        yield agent


def build_agent_error(why: str, key: OfferedKey | None = None) -> AuthenticationFailed:
    """Return the error for an agent that does not answer."""
    asked = f" when it has to sign with {key}" if key else ""
    return AuthenticationFailed(
        f"the SSH agent does not answer{asked}: {why}",
        hint="Does it ask a person for a touch or a confirmation? ssh-add -d removes such a key. " + _NO_AGENT_HINT
        if key
        else _NO_AGENT_HINT,
    )


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
        raise AuthenticationFailed(
            f"there is no SSH agent any more at {path} (SSH_AUTH_SOCK)", hint=_NO_AGENT_HINT
        ) from None
