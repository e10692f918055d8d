"""Loads private keys. All logins of a process share the key of a file until the file changes."""

import io
import threading
from contextlib import suppress
from pathlib import Path
from typing import Final, TypeAlias

import paramiko

from inventory.credentials import Credential, Secret
from tasks.domain.errors import CredentialError
from tasks.machines.transport.ssh.key_faults import KeyFault, find_format_fault, find_loading_fault

_FileVersion: TypeAlias = tuple[int, int]


_key_cache: Final[dict[Path, tuple[_FileVersion, paramiko.PKey]]] = {}


_key_cache_lock: Final = threading.Lock()


_UNKNOWN_FAULT: Final = KeyFault("it is not understood", "Make another one: ssh-keygen -t ed25519.")


def load_private_key(credential: Credential, user: str) -> paramiko.PKey:
    """Return the private key for a login. That of a file has the user certificate in PATH-cert.pub, if any.

    A file is loaded once for all machines: an RSA key or a passphrase costs a quarter of a second. It is loaded again
    if it has changed, because certificates are short-lived.

    Raises:
        CredentialError: no key, an unknown kind, or a wrong passphrase.
    """
    path = credential.path
    if credential.issuer is not None:
        signed = credential.issuer.issue(credential.signer, user)
        key = _parse_private_key(Secret(signed.private_key))
        key.load_certificate(signed.certificate)
        return key
    if credential.private_key is not None:
        return _parse_private_key(credential.private_key)
    if path is None:
        raise CredentialError("a key credential without a file", hint="Write key:PATH.")
    with _key_cache_lock:
        version = (_read_modified_time(path), _read_modified_time(path.with_name(f"{path.name}-cert.pub")))
        cached_key = _key_cache.get(path)
        if cached_key is None or cached_key[0] != version:
            cached_key = (version, _read_private_key(path, credential))
            _key_cache[path] = cached_key
        return cached_key[1]


def _parse_private_key(text: Secret) -> paramiko.PKey:
    content = text.reveal().encode()
    fault = find_format_fault(content, None)
    for kind in (paramiko.Ed25519Key, paramiko.ECDSAKey, paramiko.RSAKey) if fault is None else ():
        with suppress(Exception):  # of two libraries; its text may contain parts of the key
            return kind.from_private_key(io.StringIO(text.reveal()))
    fault = fault or find_loading_fault(content, None) or _UNKNOWN_FAULT
    raise CredentialError(
        f"the private key that the credential leads to can't be loaded: {fault.reason}", hint=fault.hint
    )


def _read_modified_time(path: Path) -> int:
    try:
        return path.stat().st_mtime_ns
    except FileNotFoundError:
        return 0


def _read_private_key(path: Path, credential: Credential) -> paramiko.PKey:
    passphrase = credential.secret.reveal().encode() if credential.secret else None
    try:
        content = path.read_bytes()
    except OSError as error:
        raise CredentialError(
            f"the private key {path} can't be read: {error.strerror}",
            hint="Correct the path, or its permissions: it is read by the user that runs fleetpatch.",
        ) from None
    fault = find_format_fault(content, passphrase)
    if fault is None:
        try:
            # the type stubs have the argument's old name and type
            return paramiko.PKey.from_path(path, passphrase)  # type: ignore[arg-type]
        except Exception:  # noqa: BLE001 - of two libraries; its text may contain parts of the file
            fault = find_loading_fault(content, passphrase)
    certificate = path.with_name(f"{path.name}-cert.pub")
    if fault is None and certificate.exists():
        raise CredentialError(
            f"the certificate {certificate} of the private key can't be loaded",
            hint="ssh-keygen -L -f shows it. Without that file, the key is used alone.",
        )
    fault = fault or _UNKNOWN_FAULT
    raise CredentialError(
        f"the private key {path} can't be loaded: {fault.reason}", hint=fault.hint.replace("PATH", str(path))
    )
