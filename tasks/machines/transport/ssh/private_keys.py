"""Loads private keys. All logins of a process share the key of a file until the file changes.

Why a key can't be loaded is told by what its text shows. It is never quoted: it may contain the key.
"""

import base64
import binascii
import io
import re
import threading
from pathlib import Path
from typing import Final, NamedTuple, TypeAlias

import paramiko
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric.ec import EllipticCurvePrivateKey
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPrivateKey
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    load_pem_private_key,
    load_ssh_private_key,
)

from inventory.credentials import Credential, Secret
from tasks.domain.errors import CredentialError

_OPENSSH_BEGIN: Final = b"-----BEGIN OPENSSH PRIVATE KEY-----"
_OPENSSH_END: Final = b"-----END OPENSSH PRIVATE KEY-----"
_MAGIC: Final = b"openssh-key-v1\0"
_NAME_PATTERN: Final = re.compile(r"[a-z0-9@.-]{3,60}")
_BLOCK_PATTERN: Final = re.compile(
    rb"^-----BEGIN ([A-Z0-9]+ |)PRIVATE KEY-----.*?(?:-----END \1PRIVATE KEY-----|\Z)", re.DOTALL | re.MULTILINE
)
_KINDS: Final = ("ssh-ed25519", "ssh-rsa", "ecdsa-sha2-nistp256", "ecdsa-sha2-nistp384", "ecdsa-sha2-nistp521")
_CURVES: Final = ("secp256r1", "secp384r1", "secp521r1")
_MIN_RSA_BITS: Final = 1024
"""OpenSSH takes no shorter key."""
_OTHER_KIND: Final = "Make an Ed25519, ECDSA or RSA key for fleetpatch: ssh-keygen -t ed25519."


class KeyFault(NamedTuple):
    """Why a key can't be loaded, as the end of a sentence, and the remedy."""

    reason: str
    hint: str


_ENCRYPTED: Final = KeyFault(
    "it is encrypted, and the credential has no passphrase", "Write key:PATH?passphrase=REF, or use a key without one."
)
_WRONG_PASSPHRASE: Final = KeyFault(
    "its passphrase is wrong, or the file is damaged", "Try it by hand: ssh-keygen -y -f PATH asks for the passphrase."
)
_DAMAGED: Final = KeyFault("it is damaged", "Is it complete, with its line ends? ssh-keygen -y -f PATH reads it, too.")


def parse_private_key(text: bytes, passphrase: bytes | None) -> paramiko.PKey | KeyFault:
    """Return the private key of a text, or why fleetpatch can't log in with it. The passphrase may be superfluous."""
    block = _BLOCK_PATTERN.search(text)
    if block is None:
        return _find_format_fault(text.strip())
    text = block[0] + b"\n"
    kind, cipher = _read_head(text)
    if (kind and kind not in _KINDS) or (cipher and not passphrase):
        return _ENCRYPTED if kind in {"", *_KINDS} else _build_kind_fault(kind)
    is_openssh = text.startswith(_OPENSSH_BEGIN)
    load = load_ssh_private_key if is_openssh else load_pem_private_key
    try:
        return _convert_key(load(text, passphrase if cipher else None))
    except UnsupportedAlgorithm:
        if cipher:
            hint = "Encrypt it anew: ssh-keygen -p -Z aes256-ctr -f PATH."
            return KeyFault(f"its encryption ({cipher}) is not supported", hint)
        return _DAMAGED if is_openssh else KeyFault("its kind is not supported", _OTHER_KIND)
    except (ValueError, TypeError):
        return _WRONG_PASSPHRASE if cipher else _DAMAGED


def is_key_encrypted(text: bytes) -> bool:
    """Return whether a private key needs a passphrase."""
    return parse_private_key(text, None) is _ENCRYPTED


def _find_format_fault(text: bytes) -> KeyFault:
    """Return what a text is that has no private key."""
    if text.startswith(b"PuTTY-User-Key-File"):
        return KeyFault("it is a key of PuTTY", "Convert it: puttygen PATH -O private-openssh -o NEW.")
    if b"-cert-v01@openssh.com " in text[:60]:
        return KeyFault("it is a certificate", "Name the private key: the path without -cert.pub.")
    if text.startswith((b"ssh-", b"ecdsa-", b"sk-", b"---- BEGIN SSH2 PUBLIC")) or b" PUBLIC KEY-----" in text[:60]:
        return KeyFault("it is a public key", "Name the private key: the path without .pub.")
    return KeyFault("it is no private key of OpenSSH or in PEM", _OTHER_KIND)


def _build_kind_fault(kind: str) -> KeyFault:
    if kind.startswith("sk-"):
        return KeyFault(
            f"it is a FIDO key ({kind}), which needs its token and a person's touch",
            "fleetpatch logs in without a person. " + _OTHER_KIND,
        )
    return KeyFault(f"keys of the kind {kind} are not supported", _OTHER_KIND)


def _convert_key(key: object) -> paramiko.PKey | KeyFault:
    """Return a key in the form of paramiko, whose own readers know fewer formats, and take keys that SSH has not."""
    match key:
        case RSAPrivateKey() if key.key_size >= _MIN_RSA_BITS:
            return paramiko.RSAKey(key=key)
        case RSAPrivateKey():
            return KeyFault(f"an RSA key of {key.key_size} bits is too short for SSH", _OTHER_KIND)
        case EllipticCurvePrivateKey() if key.curve.name in _CURVES:
            return paramiko.ECDSAKey(vals=(key, key.public_key()))
        case EllipticCurvePrivateKey():
            return KeyFault(f"SSH has no keys of its curve ({key.curve.name})", _OTHER_KIND)
        case Ed25519PrivateKey():
            openssh = key.private_bytes(Encoding.PEM, PrivateFormat.OpenSSH, NoEncryption()).decode()
            return paramiko.Ed25519Key.from_private_key(io.StringIO(openssh))
    return _build_kind_fault(type(key).__name__.removesuffix("PrivateKey"))


def _read_head(text: bytes) -> tuple[str, str]:
    """Return the kind and the encryption of a key, "" for what is not known, and for none."""
    if not text.startswith(_OPENSSH_BEGIN):
        is_encrypted = b"ENCRYPTED" in b"".join(text.splitlines()[:3])
        return "DSA" if text.startswith(b"-----BEGIN DSA") else "", "of PEM" if is_encrypted else ""
    try:
        content = base64.b64decode(text.removeprefix(_OPENSSH_BEGIN).partition(_OPENSSH_END)[0])
        head = paramiko.Message(content.removeprefix(_MAGIC))
        cipher, _function, _options = head.get_text(), head.get_binary(), head.get_binary()
        head.get_int()
        kind = paramiko.Message(head.get_binary()).get_text()
    except (binascii.Error, ValueError):
        return "", ""
    is_read = (
        content.startswith(_MAGIC) and bool(_NAME_PATTERN.fullmatch(kind)) and bool(_NAME_PATTERN.fullmatch(cipher))
    )
    return (kind, cipher if cipher != "none" else "") if is_read else ("", "")


_FileVersion: TypeAlias = tuple[int, int]
_key_cache: Final[dict[Path, tuple[_FileVersion, paramiko.PKey]]] = {}
_key_cache_lock: Final = threading.Lock()


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
        key = _parse_stored_key(Secret(signed.private_key))
        key.load_certificate(signed.certificate)
        return key
    if credential.private_key is not None:
        return _parse_stored_key(credential.private_key)
    if path is None:
        raise CredentialError("a key credential without a file", hint="Write key:PATH.")
    with _key_cache_lock:
        version = (_read_modified_time(path), _read_modified_time(path.with_name(f"{path.name}-cert.pub")))
        cached_key = _key_cache.get(path)
        if cached_key is None or cached_key[0] != version:
            cached_key = (version, _read_private_key(path, credential))
            _key_cache[path] = cached_key
        return cached_key[1]


def _parse_stored_key(text: Secret) -> paramiko.PKey:
    key = parse_private_key(text.reveal().encode(), None)
    if isinstance(key, KeyFault):
        hint = "Store it without its passphrase." if key is _ENCRYPTED else key.hint
        raise CredentialError(f"the private key that the credential leads to can't be loaded: {key.reason}", hint=hint)
    return key


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
    key = parse_private_key(content, passphrase)
    if isinstance(key, KeyFault):
        raise CredentialError(
            f"the private key {path} can't be loaded: {key.reason}", hint=key.hint.replace("PATH", str(path))
        )
    certificate = path.with_name(f"{path.name}-cert.pub")
    if certificate.exists():
        try:
            key.load_certificate(str(certificate))
        except Exception:  # noqa: BLE001 - of paramiko; its text may contain parts of the file
            raise CredentialError(
                f"the certificate {certificate} of the private key can't be loaded",
                hint="ssh-keygen -L -f shows it. Without that file, the key is used alone.",
            ) from None
    return key
