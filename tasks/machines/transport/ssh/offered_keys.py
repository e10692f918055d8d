"""The keys that a login offers: those of the agent, or those that OpenSSH offers by default, in its order.

Every wait for the agent is bounded: one that hangs, or asks a person, must not block a run.
"""

import base64
import logging
import os
import socket
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from functools import partial
from pathlib import Path
from typing import Any, Final, TypeAlias

import paramiko
from paramiko.agent import AgentKey, AgentSSH

from inventory.credentials import resolve_credential
from inventory.data_class import dataclass
from inventory.files.paths import expand_home
from tasks.domain.errors import AuthenticationFailed, CredentialError
from tasks.domain.protocols.clock import Deadline, SystemClock
from tasks.domain.retry import retry
from tasks.machines.transport.ssh.private_keys import is_key_encrypted, load_private_key
from tasks.machines.transport.tcp_connection import describe_connection_error

logger = logging.getLogger(__name__)

AGENT_TIMEOUT_SECONDS: Final = 10.0
"""For each answer of the agent. A person may have to confirm a key."""
CONNECT_RETRY_SECONDS: Final = 0.05
_NO_AGENT_HINT: Final = "Start one and ssh-add a key, or give the machine a credential: key:PATH."


class OfferedKey(AgentKey):
    """A key of an agent. If the agent can't sign with it, its signature is empty, which the machine refuses.

    An exception would end the connection, and with it the login with the next key: paramiko signs in its own thread.
    """

    failure: str = ""  # why there is no signature, or ""

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
            self.error_message = describe_connection_error(error)
            # only this type: paramiko's thread that signs ends without an error after a timeout
            raise paramiko.SSHException(self.error_message) from error
        return answer


@contextmanager
def open_agent(seconds: float) -> Iterator[AgentClient]:
    """Yield the agent, for the duration of the block.

    ``seconds`` is the longest wait for each of its answers.

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
    clock = SystemClock()
    deadline = Deadline.after(clock, seconds)
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as connection:
        connection.settimeout(seconds)
        connect = partial(connection.connect, path)
        try:
            # an agent with many clients accepts some of them later
            retry(connect, BlockingIOError, clock=clock, deadline=deadline, wait=CONNECT_RETRY_SECONDS)
            agent = AgentClient(connection)
        except (FileNotFoundError, ConnectionRefusedError):
            message = f"there is no SSH agent any more at {path} (SSH_AUTH_SOCK)"
            raise AuthenticationFailed(message, hint=_NO_AGENT_HINT) from None
        except (paramiko.SSHException, OSError) as error:
            raise build_agent_error(describe_connection_error(error)) from error
        yield agent


def build_agent_error(why: str, key: OfferedKey | None = None) -> AuthenticationFailed:
    """Return the error for an agent that does not answer."""
    situation = f" when it has to sign with {key}" if key else ""
    advice = "Does it ask a person for a touch or a confirmation? ssh-add -d removes such a key. " if key else ""
    return AuthenticationFailed(f"the SSH agent does not answer{situation}: {why}", hint=advice + _NO_AGENT_HINT)


DEFAULT_KEY_FILES: Final = (
    "~/.ssh/id_rsa",
    "~/.ssh/id_ecdsa",
    "~/.ssh/id_ecdsa_sk",
    "~/.ssh/id_ed25519",
    "~/.ssh/id_ed25519_sk",
)
"""In the order of OpenSSH (`ssh -G HOST` shows it as identityfile)."""


@dataclass(frozen=True)
class FileKey:
    """A key of a file, with what a login asks of a key (see OfferedKey)."""

    path: Path
    key: paramiko.PKey
    failure: str = ""
    is_on_token: bool = False

    def __str__(self) -> str:
        return f"{self.key.get_name()} {self.fingerprint} ({self.path})"

    @property
    def fingerprint(self) -> str:
        """As ssh-keygen -l shows it."""
        return str(self.key.fingerprint)


OfferableKey: TypeAlias = OfferedKey | FileKey


@dataclass(frozen=True, slots=True)
class OfferedKeys:
    """What a login may offer."""

    source: str  # whose keys they are, for messages
    keys: tuple[OfferableKey, ...]  # in the order in which they are offered
    agent: AgentClient | None  # the agent of some of them; None if there is none
    faults: tuple[str, ...] = ()  # what can't be offered, and why; parts of a sentence
    remedies: tuple[str, ...] = ()  # one for each fault that has one


@dataclass(frozen=True, slots=True)
class _KeyFile:
    """A file that exists. It has a key, or a fault; the public key may be known in any case."""

    public_key: bytes
    key: FileKey | None = None
    fault: str = ""
    remedy: str = ""


@contextmanager
def open_agent_keys(agent_seconds: float) -> Iterator[OfferedKeys]:
    """Yield the keys of the agent, for the duration of the block.

    ``agent_seconds`` is the longest wait for each of its answers.

    Raises:
        AuthenticationFailed: there is no agent, it does not answer, or it has no key.
    """
    with open_agent(agent_seconds) as agent:
        if not agent.offered_keys:
            raise AuthenticationFailed(
                "the SSH agent has no key",
                hint="ssh-add a key, or unlock the agent (ssh-add -X), or give the machine a credential: key:PATH.",
            )
        yield OfferedKeys("the SSH agent", agent.offered_keys, agent)


@contextmanager
def open_default_keys(agent_seconds: float) -> Iterator[OfferedKeys]:
    """Yield the keys of the agent and of the default files, for the duration of the block.

    The order is OpenSSH's: the agent's keys that are in a default file too, its other keys, then the keys of files that
    the agent does not have. An agent that does not answer is no error: the files are still there. ``agent_seconds`` is
    the longest wait for each of its answers.

    Raises:
        AuthenticationFailed: there is no key at all.
    """
    files = tuple(file for name in DEFAULT_KEY_FILES if (file := _read_key_file(expand_home(Path(name)))) is not None)
    with ExitStack() as stack:
        agent: AgentClient | None = None
        agent_fault = "the SSH agent has no key"
        try:
            agent = stack.enter_context(open_agent(agent_seconds))
        except AuthenticationFailed as error:
            agent_fault = error.message
        agent_keys = agent.offered_keys if agent is not None else ()
        ranks = {file.public_key: rank for rank, file in reversed(list(enumerate(files)))}
        keys_of_agent = {key.asbytes() for key in agent_keys}
        other_files = [file for file in files if file.public_key not in keys_of_agent]
        faulty = [file for file in other_files if file.key is None]
        offered: tuple[OfferableKey, ...] = (
            *sorted(agent_keys, key=lambda key: ranks.get(key.asbytes(), len(files))),
            *(file.key for file in other_files if file.key is not None),
        )
        faults = (*(file.fault for file in faulty), *([] if agent_keys else [agent_fault]))
        remedies = tuple(file.remedy for file in faulty if file.remedy)
        if not offered and len(faults) > 1:
            raise AuthenticationFailed(f"no key can be offered: {'; '.join(faults)}", hint=" ".join(remedies))
        if not offered:
            names = ", ".join(DEFAULT_KEY_FILES)
            raise AuthenticationFailed(
                f"there is no key to log in with: {faults[0]}, and this user has none of {names}",
                hint="Make one (ssh-keygen -t ed25519), or name another: credential: key:PATH.",
            )
        yield OfferedKeys("the SSH agent and the default files", offered, agent, faults, remedies)


def _read_key_file(path: Path) -> _KeyFile | None:
    """Return what a default file has; None if it does not exist."""
    if not path.exists():
        return None
    try:
        text = path.with_name(f"{path.name}.pub").read_text()
        public_key = base64.b64decode(text.split()[1], validate=True)
    except (OSError, ValueError, IndexError):  # it is not there, or no key
        public_key = b""
    try:
        credential = resolve_credential(f"key:{path}")
        if is_key_encrypted(path.read_bytes()):
            return _KeyFile(
                public_key,
                fault=f"{path} is encrypted, and no SSH agent has its key",
                remedy=f"ssh-add {path}; without an agent, write credential: key:{path}?passphrase=REF (env:NAME, "
                "file:PATH …).",
            )
        key = load_private_key(credential, "")
    except CredentialError as error:
        return _KeyFile(public_key, fault=error.message, remedy=error.hint)
    except OSError as error:
        return _KeyFile(public_key, fault=f"{path} can't be read: {error.strerror}")
    return _KeyFile(key.asbytes(), FileKey(path, key))
