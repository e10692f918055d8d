"""A secret store in memory, with an authority of its own."""

from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    PublicFormat,
    SSHCertificateBuilder,
    SSHCertificateType,
    load_ssh_public_key,
)

from inventory.errors import CredentialError


@dataclass
class FakeSecretStore:
    """A SecretStore.

    Attributes:
        secrets: values by ``MOUNT/PATH`` and key.
        roles: who may be a principal, by ``MOUNT/ROLE``.
        now: the time at which certificates begin.
        life: how long they are valid.
        kind: what they are for.
        signed: how many were signed.
    """

    secrets: dict[str, dict[str, str]] = field(default_factory=dict)
    roles: dict[str, set[str]] = field(default_factory=dict)
    now: datetime = field(default_factory=lambda: datetime.now(UTC))
    life: timedelta = timedelta(minutes=10)
    kind: SSHCertificateType = SSHCertificateType.USER
    signed: int = 0

    def __post_init__(self) -> None:
        self._authority = Ed25519PrivateKey.generate()

    def read_secret(self, path: str, key: str) -> str:
        """See SecretStore."""
        value = self.secrets.get(path.replace("//", "/"), {}).get(key)
        if not value:
            raise CredentialError(f"the store has no vault:{path} with {key!r}")
        return value

    def sign_public_key(self, signer: str, public_key: str, user: str) -> str:
        """See SecretStore."""
        if user not in self.roles.get(signer, set()):
            raise CredentialError(f"vault-ssh:{signer} signs nothing for {user}")
        self.signed += 1
        builder = (
            SSHCertificateBuilder()
            .public_key(load_ssh_public_key(public_key.encode()))  # type: ignore[arg-type]  # an Ed25519 key
            .type(self.kind)
            .key_id(b"of a test")
            .valid_principals([user.encode()])
            .valid_after(int(self.now.timestamp()))
            .valid_before(int((self.now + self.life).timestamp()))
            .serial(self.signed)
        )
        return builder.sign(self._authority).public_bytes().decode()

    def read_authority(self) -> str:
        """Return the public key of the authority."""
        return self._authority.public_key().public_bytes(Encoding.OpenSSH, PublicFormat.OpenSSH).decode()
