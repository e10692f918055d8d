"""Logging in: keys (loaded once and shared), passwords, the agent; each by reference, none looked for."""

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final, TypeAlias

import paramiko

from inventory.credentials import Credential, CredentialKind
from tasks.errors import AuthenticationFailed, ConnectionLost, CredentialError

AGENT_KEYS: Final = 5
"""Keys of an agent that are tried; sshd cuts the line after six failures (MaxAuthTries)."""

Secrets: TypeAlias = Callable[[str], Credential]
"""Fetches what a reference stands for; raises CredentialError."""

_AGENT: Final = "Start one and ssh-add a key, or give the machine a credential: key:PATH."
_Version: TypeAlias = tuple[int, int]
_keys: Final[dict[Path, tuple[_Version, paramiko.PKey]]] = {}
_keys_lock: Final = threading.Lock()


def log_in(transport: paramiko.Transport, user: str, credential: Credential) -> None:
    """Authenticate, once: a refused credential is not tried again.

    Raises:
        AuthenticationFailed: the machine refused it, or wants more than one proof.
        ConnectionLost: the line was cut meanwhile.
        CredentialError: the key can't be loaded.
    """
    if credential.kind is CredentialKind.AGENT:
        _with_agent(transport, user)
        return
    with _translated(user, credential.kind):
        if credential.kind is CredentialKind.KEY:
            further = transport.auth_publickey(user, load_key(credential))
        else:
            further = transport.auth_password(user, _reveal(credential))
    _want_nothing_more(user, further)


def load_key(credential: Credential) -> paramiko.PKey:
    """Return a private key, with the user certificate that lies beside it (PATH-cert.pub), if any.

    It is loaded once for all machines, as loading an RSA key or opening one with a passphrase costs a quarter of a
    second; and again when one of the files has changed, as certificates are short-lived.

    Raises:
        CredentialError: no key, an unknown kind, or a wrong passphrase.
    """
    path = credential.path
    if path is None:
        raise CredentialError("a key credential without a file", hint="Write key:PATH.")
    with _keys_lock:
        version = (_changed(path), _changed(path.with_name(f"{path.name}-cert.pub")))
        known = _keys.get(path)
        if known is None or known[0] != version:
            known = (version, _read_key(path, credential))
            _keys[path] = known
        return known[1]


def _changed(path: Path) -> int:
    try:
        return path.stat().st_mtime_ns
    except FileNotFoundError:
        return 0


def _read_key(path: Path, credential: Credential) -> paramiko.PKey:
    passphrase = credential.secret.reveal().encode() if credential.secret else None
    try:
        # the stubs know the argument's old name and type
        return paramiko.PKey.from_path(path, passphrase)  # type: ignore[arg-type]
    except (paramiko.SSHException, ValueError, TypeError, OSError) as error:
        # the library's text may hold parts of the file: its kind alone is told
        raise CredentialError(
            f"the private key {path} can't be loaded ({type(error).__name__})",
            hint="Is it an unencrypted ed25519, ECDSA or RSA key, or is its passphrase right? Write "
            "key:PATH?passphrase=REF for an encrypted one.",
        ) from None


def _reveal(credential: Credential) -> str:
    if credential.secret is None:
        raise CredentialError("a password credential without a password")
    return credential.secret.reveal()


def _with_agent(transport: paramiko.Transport, user: str) -> None:
    try:
        agent = paramiko.Agent()
    except (paramiko.SSHException, OSError) as error:  # else it would be taken for a line that the machine dropped
        raise AuthenticationFailed(
            f"the SSH agent does not answer: {error or type(error).__name__}", hint=_AGENT
        ) from error
    try:
        keys = agent.get_keys()[:AGENT_KEYS]
        if not keys:
            raise AuthenticationFailed("the SSH agent holds no key, or there is no agent", hint=_AGENT)
        for key in keys[:-1]:
            try:
                with _translated(user, CredentialKind.AGENT):
                    _want_nothing_more(user, transport.auth_publickey(user, key))
            except AuthenticationFailed:
                continue
            return
        with _translated(user, CredentialKind.AGENT):
            further = transport.auth_publickey(user, keys[-1])
        _want_nothing_more(user, further)
    finally:
        agent.close()


def _want_nothing_more(user: str, further: list[str]) -> None:
    if further:
        raise AuthenticationFailed(
            f"the machine wants more than one proof of {user}: also {', '.join(further)}",
            hint="Give the login of fleetpatch an exception (Match User … AuthenticationMethods publickey).",
        )


@contextmanager
def _translated(user: str, kind: CredentialKind) -> Iterator[None]:
    try:
        yield
    except paramiko.BadAuthenticationType as error:
        allowed = ", ".join(error.allowed_types)
        raise AuthenticationFailed(
            f"the machine takes no {kind.value} of {user}; it takes: {allowed}",
            hint="Give the machine's entry another credential, or allow this kind in its sshd_config.",
        ) from None
    except paramiko.AuthenticationException as error:
        # paramiko calls a line that was cut, or a machine that fell silent, a failed authentication
        if "EOF" in str(error) or "timeout" in str(error):
            raise ConnectionLost("the line was cut during the login") from error
        raise AuthenticationFailed(
            f"the machine refused the {kind.value} of {user}",
            hint="Is the public key in its authorized_keys, the account not locked, and the user name right?",
        ) from None
