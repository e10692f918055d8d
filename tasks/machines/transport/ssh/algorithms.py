"""The allowed algorithms. They are listed here because paramiko's defaults still have 3des-cbc, MD5 and SHA-1."""

from typing import Final

import paramiko
from paramiko.message import Message

from tasks.machines.transport.ssh.thread_safe_transport import ThreadSafeTransport

CERTIFICATE_SUFFIX: Final = "-cert-v01@openssh.com"
HOST_KEY_ALGORITHMS: Final = (
    "ssh-ed25519",
    "ecdsa-sha2-nistp256",
    "ecdsa-sha2-nistp384",
    "ecdsa-sha2-nistp521",
    "rsa-sha2-512",
    "rsa-sha2-256",
)
HOST_CERTIFICATE_ALGORITHMS: Final = tuple(name + CERTIFICATE_SUFFIX for name in HOST_KEY_ALGORITHMS)

_CURVE25519_LIBSSH: Final = "curve25519-sha256@libssh.org"
_CURVE25519: Final = "curve25519-sha256"  # its name in RFC 8731; some hosts offer only this one
_KEX_ALGORITHMS: Final = (
    "mlkem768x25519-sha256",
    _CURVE25519,
    _CURVE25519_LIBSSH,
    "ecdh-sha2-nistp256",
    "ecdh-sha2-nistp384",
    "ecdh-sha2-nistp521",
)
_LEGACY_KEX_ALGORITHMS: Final = (
    "diffie-hellman-group16-sha512",
    "diffie-hellman-group14-sha256",
    "diffie-hellman-group-exchange-sha256",
)
# there is no public way to add a name
_KEX_CLASSES: Final[dict[str, type]] = dict(paramiko.Transport._kex_info)  # type: ignore[attr-defined]  # noqa: SLF001
_KEX_CLASSES[_CURVE25519] = _KEX_CLASSES[_CURVE25519_LIBSSH]


class RestrictedTransport(ThreadSafeTransport):
    """A Transport that uses only these algorithms, and stores the exact bytes of the host's key.

    host_key_verifier.py decides whether that key is trusted. This class checks that the host has the private key, and
    that it does not show another key at a rekey.
    """

    _kex_info = _KEX_CLASSES
    _preferred_kex = tuple(name for name in _KEX_ALGORITHMS if name in _KEX_CLASSES)
    _preferred_ciphers = ("aes128-gcm@openssh.com", "aes256-gcm@openssh.com", "aes128-ctr", "aes256-ctr")
    _preferred_macs = (
        "hmac-sha2-256-etm@openssh.com",
        "hmac-sha2-512-etm@openssh.com",
        "hmac-sha2-256",
        "hmac-sha2-512",
    )
    _preferred_keys = HOST_KEY_ALGORITHMS

    host_key_blob: bytes = b""

    def set_offered_algorithms(self, host_keys: tuple[str, ...], *, legacy: bool) -> None:
        """Set the wanted types of host key, best first, and whether old Diffie-Hellman groups are allowed.

        Raises:
            ValueError: none of the types of host key is known.
        """
        self.get_security_options().key_types = host_keys
        if legacy:
            self.get_security_options().kex = (*self._preferred_kex, *_LEGACY_KEX_ALGORITHMS)

    @property
    def preferred_keys(self) -> tuple[str, ...]:
        """The types of host key that are offered. paramiko's own property always adds certificates."""
        return tuple(self._preferred_keys)

    def _verify_key(self, host_key: bytes, sig: bytes) -> None:
        if self.host_key_blob and self.host_key_blob != host_key:
            raise paramiko.SSHException("the host showed another key when keys were exchanged again")
        plain = parse_public_key(host_key)
        # H is the hash that both sides made of the exchange. A signature over it proves that the host has the key.
        if self.H is None or not plain.verify_ssh_sig(self.H, Message(sig)):
            raise paramiko.SSHException(f"the host's signature with its {plain.get_name()} key is wrong")
        self.host_key_blob = host_key
        self.host_key = plain


def parse_public_key(blob: bytes) -> paramiko.PKey:
    """Return the public key in a key's or a certificate's blob.

    Raises:
        paramiko.SSHException: its type is not known.
    """
    message = Message(blob)
    name = message.get_text()
    if not name.endswith(CERTIFICATE_SUFFIX):
        return paramiko.PKey.from_type_string(name, blob)
    kind = name.removesuffix(CERTIFICATE_SUFFIX)
    message.get_binary()  # the nonce; then come the fields of the plain key
    fields = {"ssh-ed25519": 1, "ssh-rsa": 2}.get(kind, 2)  # ECDSA: the curve's name, and the point
    plain = Message()
    plain.add_string(kind)
    for _ in range(fields):
        plain.add_string(message.get_binary())
    return paramiko.PKey.from_type_string(kind, plain.asbytes())
