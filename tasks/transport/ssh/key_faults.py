"""Why a private key can't be loaded, by what its text shows. It never quotes the text, which may contain the key."""

import base64
import binascii
from typing import Final, NamedTuple

import paramiko
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.serialization import load_pem_private_key, load_ssh_private_key

_OPENSSH_BEGIN: Final = b"-----BEGIN OPENSSH PRIVATE KEY-----"
_OPENSSH_END: Final = b"-----END OPENSSH PRIVATE KEY-----"
_MAGIC: Final = b"openssh-key-v1\0"
_KINDS: Final = ("ssh-ed25519", "ssh-rsa", "ecdsa-sha2-nistp256", "ecdsa-sha2-nistp384", "ecdsa-sha2-nistp521")
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


def find_key_fault(text: bytes, passphrase: bytes | None) -> KeyFault | None:
    """Return why a private key can't be loaded; None if the key is not the reason."""
    text = text.strip()
    if text.startswith(b"PuTTY-User-Key-File"):
        return KeyFault("it is a key of PuTTY", "Convert it: puttygen PATH -O private-openssh -o NEW.")
    if text.startswith((b"ssh-", b"ecdsa-", b"sk-", b"---- BEGIN SSH2 PUBLIC", b"-----BEGIN PUBLIC")):
        return KeyFault("it is a public key", "Name the private key: the path without .pub.")
    if not text.startswith(b"-----BEGIN ") or b"PRIVATE KEY-----" not in text:
        return KeyFault("it is no private key of OpenSSH or in PEM", _OTHER_KIND)
    return (
        _find_openssh_fault(text, passphrase) if text.startswith(_OPENSSH_BEGIN) else _find_pem_fault(text, passphrase)
    )


def _find_openssh_fault(text: bytes, passphrase: bytes | None) -> KeyFault | None:
    try:
        content = base64.b64decode(text.removeprefix(_OPENSSH_BEGIN).partition(_OPENSSH_END)[0])
        head = paramiko.Message(content.removeprefix(_MAGIC))
        cipher, _function, _options = head.get_text(), head.get_binary(), head.get_binary()
        head.get_int()
        kind = paramiko.Message(head.get_binary()).get_text()
    except (binascii.Error, ValueError):
        return _DAMAGED
    if not content.startswith(_MAGIC) or not kind.isascii() or not kind.isprintable():
        return _DAMAGED
    if kind.startswith("sk-"):
        return KeyFault(
            f"it is a FIDO key ({kind}), which needs its token and a person's touch",
            "fleetpatch logs in without a person. " + _OTHER_KIND,
        )
    if kind not in _KINDS:
        return KeyFault(f"keys of the kind {kind} are not supported", _OTHER_KIND)
    return _find_loading_fault(text, cipher, passphrase)


def _find_loading_fault(text: bytes, cipher: str, passphrase: bytes | None) -> KeyFault | None:
    is_encrypted = cipher != "none"
    if is_encrypted and not passphrase:
        return _ENCRYPTED
    try:
        load_ssh_private_key(text, passphrase if is_encrypted else None)
    except UnsupportedAlgorithm:
        return KeyFault(
            f"its encryption ({cipher[:40]}) is not supported", "Encrypt it anew: ssh-keygen -p -Z aes256-ctr -f PATH."
        )
    except (ValueError, TypeError):
        return _WRONG_PASSPHRASE if is_encrypted else _DAMAGED
    return None


def _find_pem_fault(text: bytes, passphrase: bytes | None) -> KeyFault | None:
    is_encrypted = b"ENCRYPTED" in text.partition(b"\n\n")[0]
    if is_encrypted and not passphrase:
        return _ENCRYPTED
    if b"BEGIN DSA PRIVATE KEY" in text:
        return KeyFault("keys of the kind DSA are not supported", _OTHER_KIND)
    try:
        kind = type(load_pem_private_key(text, passphrase if is_encrypted else None)).__name__
    except (ValueError, TypeError):
        return _WRONG_PASSPHRASE if is_encrypted else _DAMAGED
    except UnsupportedAlgorithm:
        return KeyFault("its kind or its encryption is not supported", _OTHER_KIND)
    if not kind.startswith(("Ed25519", "RSA", "EllipticCurve", "_RSA", "_EllipticCurve", "EC")):
        return KeyFault(
            f"keys of the kind {kind.lstrip('_').removesuffix('PrivateKey')} are not supported", _OTHER_KIND
        )
    return None
