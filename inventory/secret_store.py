"""What fleetpatch asks a secret store, such as OpenBao or HashiCorp Vault (tasks/machines/secret_stores)."""

import threading
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Protocol

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    PublicFormat,
    SSHCertificate,
    SSHCertificateType,
    load_ssh_public_identity,
)

from inventory.data_class import dataclass
from inventory.errors import CredentialError

_YEAR_9999 = 253_402_300_799
"""Its end, in seconds since 1970."""


class SecretStore(Protocol):
    """A service that keeps secrets and signs keys. The methods may be called by several threads."""

    def read_secret(self, path: str, key: str) -> str:
        """Return one value of the newest version of a secret.

        Args:
            path: the secret, with the mount point of its engine: ``MOUNT/PATH``, or ``MOUNT//PATH`` if the mount point
                has slashes itself.
            key: the name of the value.

        Raises:
            CredentialError: it does not exist, or may not be read.
            SecretStoreUnavailable: the store can't be asked now.
        """
        ...

    def sign_public_key(self, signer: str, public_key: str, user: str) -> str:
        """Return an OpenSSH user certificate.

        Args:
            signer: the mount point of the engine and the role: ``MOUNT/ROLE``.
            public_key: the key in OpenSSH's format, one line.
            user: the login that the certificate is for: its only principal.

        Raises:
            CredentialError: the role does not exist, or it does not sign this.
            SecretStoreUnavailable: the store can't be asked now.
        """
        ...


@dataclass(frozen=True, slots=True, repr=False)
class SignedKey:
    """A private key and its certificate, both in OpenSSH's format."""

    private_key: str  # the key, unencrypted. It is a secret: the repr hides it.
    certificate: str  # the certificate, one line
    renew_at: datetime  # when half of its life is over
    valid_until: datetime  # the end of the certificate


class CertificateIssuer:
    """Has keys signed, and keeps each until half of its certificate's life is over.

    sshd looks at a certificate only when a connection logs in. So a run may last longer than a certificate, and its
    next connection gets a new one. Half of a life is a reserve for clocks that differ.
    """

    def __init__(self, open_store: Callable[[], SecretStore], now: Callable[[], datetime]) -> None:
        self._open_store = open_store
        self._now = now
        self._lock = threading.Lock()
        self._keys: dict[tuple[str, str], SignedKey] = {}

    def issue(self, signer: str, user: str) -> SignedKey:
        """Return a key with a certificate that is valid now. All logins of a user share it.

        Raises:
            CredentialError: the store gives none, or one that can't be used.
        """
        with self._lock:
            cached_key = self._keys.get((signer, user))
            if cached_key is None or cached_key.renew_at <= self._now():
                cached_key = self._keys[signer, user] = _sign_new_key(self._open_store(), signer, user, self._now())
            return cached_key


def _sign_new_key(store: SecretStore, signer: str, user: str, now: datetime) -> SignedKey:
    key = Ed25519PrivateKey.generate()
    public_key = key.public_key().public_bytes(Encoding.OpenSSH, PublicFormat.OpenSSH)
    text = store.sign_public_key(signer, public_key.decode(), user).strip()
    try:
        certificate = load_ssh_public_identity(text.encode())
    except ValueError as error:
        raise CredentialError(f"what {signer} signed is no certificate of OpenSSH") from error
    if not isinstance(certificate, SSHCertificate):
        raise CredentialError(f"what {signer} signed is a key without a certificate")
    # OpenSSH writes 2**64-1 for a certificate without an end
    began, ends = (
        datetime.fromtimestamp(min(seconds, _YEAR_9999), UTC)
        for seconds in (certificate.valid_after, certificate.valid_before)
    )
    if fault := _find_fault(certificate, public_key, user, now, ends):
        raise CredentialError(
            f"the certificate that {signer} signed for {user} can't be used: {fault}",
            hint="Correct the role in the secret store; docs/how-to/secret-stores.md has one that works.",
        )
    private_key = key.private_bytes(Encoding.PEM, PrivateFormat.OpenSSH, NoEncryption()).decode()
    return SignedKey(private_key, text, max(began, now) + (ends - max(began, now)) / 2, ends)


def _find_fault(certificate: SSHCertificate, public_key: bytes, user: str, now: datetime, ends: datetime) -> str:
    if certificate.public_key().public_bytes(Encoding.OpenSSH, PublicFormat.OpenSSH) != public_key:
        return "it is of another key"
    if certificate.type is not SSHCertificateType.USER:
        return "it is not for a user"
    if user.encode() not in certificate.valid_principals:
        return f"{user} is none of its principals"
    return "" if now < ends else f"it ended at {ends:%Y-%m-%d %H:%M} UTC"
