"""Loads private keys from files. All logins of a process share a loaded key until its file changes."""

import threading
from pathlib import Path
from typing import Final, TypeAlias

import paramiko

from inventory.credentials import Credential
from tasks.errors import CredentialError

_FileVersion: TypeAlias = tuple[int, int]


_key_cache: Final[dict[Path, tuple[_FileVersion, paramiko.PKey]]] = {}


_key_cache_lock: Final = threading.Lock()


def load_private_key(credential: Credential) -> paramiko.PKey:
    """Return a private key, with the user certificate in PATH-cert.pub, if any.

    It is loaded once for all machines: an RSA key or a passphrase costs a quarter of a second. It is loaded again if a
    file has changed, because certificates are short-lived.

    Raises:
        CredentialError: no key, an unknown kind, or a wrong passphrase.
    """
    path = credential.path
    if path is None:
        raise CredentialError("a key credential without a file", hint="Write key:PATH.")
    with _key_cache_lock:
        version = (_read_modified_time(path), _read_modified_time(path.with_name(f"{path.name}-cert.pub")))
        known = _key_cache.get(path)
        if known is None or known[0] != version:
            known = (version, _read_private_key(path, credential))
            _key_cache[path] = known
        return known[1]


def _read_modified_time(path: Path) -> int:
    try:
        return path.stat().st_mtime_ns
    except FileNotFoundError:
        return 0


def _read_private_key(path: Path, credential: Credential) -> paramiko.PKey:
    passphrase = credential.secret.reveal().encode() if credential.secret else None
    try:
        # the type stubs have the argument's old name and type
        return paramiko.PKey.from_path(path, passphrase)  # type: ignore[arg-type]
    except (paramiko.SSHException, ValueError, TypeError, OSError) as error:
        # the library's text may contain parts of the file, so only its type is reported
        raise CredentialError(
            f"the private key {path} can't be loaded ({type(error).__name__})",
            hint="Is it an unencrypted ed25519, ECDSA or RSA key, or is its passphrase right? Write "
            "key:PATH?passphrase=REF for an encrypted one.",
        ) from None
