"""What fleetpatch asks a secret store, such as OpenBao or HashiCorp Vault. Each is one file in tasks/secret_stores."""

from typing import Protocol


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
