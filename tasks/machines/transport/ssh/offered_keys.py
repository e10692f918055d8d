"""The keys that a login offers: those of the agent, or those that OpenSSH offers by default, in its order."""

import base64
import binascii
import functools
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final, TypeAlias

import paramiko

from inventory.credentials import resolve_credential
from inventory.files.paths import expand_home
from tasks.domain.errors import AuthenticationFailed, CredentialError
from tasks.machines.transport.ssh.agent import AgentClient, OfferedKey, open_agent
from tasks.machines.transport.ssh.key_faults import is_encrypted
from tasks.machines.transport.ssh.private_keys import load_private_key

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
    """A key of a file, with what a login asks of a key.

    Attributes:
        path: its file.
        key: the key itself.
        failure: why it gave no signature.
        is_on_token: whether it needs its token.
    """

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
    """What a login may offer.

    Attributes:
        source: whose keys they are, for messages.
        keys: in the order in which they are offered.
        agent: the agent of some of them; None if there is none.
        faults: what can't be offered, and why; parts of a sentence.
        remedies: one for each fault that has one.
    """

    source: str
    keys: tuple[OfferableKey, ...]
    agent: AgentClient | None
    faults: tuple[str, ...] = ()
    remedies: tuple[str, ...] = ()


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

    Args:
        agent_seconds: the longest wait for each of its answers.

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
    the agent does not have. An agent that does not answer is no error: the files are still there.

    Args:
        agent_seconds: the longest wait for each answer of the agent.

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
        public_keys = [file.public_key for file in files]
        held = {key.asbytes() for key in agent_keys}
        left = [file for file in files if file.public_key not in held]
        faulty = [file for file in left if file.key is None]
        offered: tuple[OfferableKey, ...] = (
            *sorted(agent_keys, key=functools.partial(_rank_by_file, public_keys)),
            *(file.key for file in left if file.key is not None),
        )
        faults = (*(file.fault for file in faulty), *([] if agent_keys else [agent_fault]))
        remedies = tuple(file.remedy for file in faulty if file.remedy)
        if not offered:
            raise _build_no_key_error(faults, remedies)
        yield OfferedKeys("the SSH agent and the default files", offered, agent, faults, remedies)


def _rank_by_file(known: list[bytes], key: OfferedKey) -> int:
    return known.index(key.asbytes()) if key.asbytes() in known else len(known)


def _read_key_file(path: Path) -> _KeyFile | None:
    """Return what a default file has; None if it does not exist."""
    if not path.exists():
        return None
    public_key = _read_public_key(path)
    try:
        credential = resolve_credential(f"key:{path}")
        if is_encrypted(path.read_bytes()):
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


def _read_public_key(path: Path) -> bytes:
    """Return the public key beside a private one; b"" if it is not there."""
    try:
        return base64.b64decode(path.with_name(f"{path.name}.pub").read_text().split()[1], validate=True)
    except (OSError, ValueError, IndexError, binascii.Error):
        return b""


def _build_no_key_error(faults: tuple[str, ...], remedies: tuple[str, ...]) -> AuthenticationFailed:
    if len(faults) > 1:
        return AuthenticationFailed(f"no key can be offered: {'; '.join(faults)}", hint=" ".join(remedies))
    return AuthenticationFailed(
        f"there is no key to log in with: {faults[0]}, and this user has none of {', '.join(DEFAULT_KEY_FILES)}",
        hint="Make one (ssh-keygen -t ed25519), or name another: credential: key:PATH.",
    )
