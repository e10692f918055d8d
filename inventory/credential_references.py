"""Credential references: what an inventory contains instead of a secret.

The complete grammar::

    default                     as OpenSSH: the keys of the SSH agent, and ~/.ssh/id_rsa, id_ecdsa, id_ed25519 …
    agent                       the keys of the SSH agent, and no others
    key:PATH                    a private key file
    key:PATH?passphrase=REF     a private key file with a passphrase: a reference to a password
    env:NAME                    a password in an environment variable of the process that opens the connection
    file:PATH                   a password in a file that only its owner can read
    systemd:NAME                a password or a private key that systemd gives the service (LoadCredential=NAME:PATH)
    prefect:BLOCK               a password in a Prefect Secret block (the caller passes the function that reads it)
    vault:MOUNT/PATH#KEY        a password or a private key in OpenBao or HashiCorp Vault, engine KV version 2
    vault-ssh:MOUNT/ROLE        a new key with a certificate for the login, signed by the SSH engine of that store

A text that is not a reference may be a password that was written by mistake. So no error in this module repeats it.
"""

import difflib
import re
from dataclasses import dataclass, replace
from enum import StrEnum
from pathlib import Path

from inventory.errors import CredentialError
from inventory.worker_secrets import (
    require_foreign_systemd_credential,
    require_foreign_target,
    require_foreign_variable,
)

_PASSPHRASE = "?passphrase="  # noqa: S105  # a keyword, not a secret
_ENV_NAME_PATTERN = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
_BLOCK_NAME_PATTERN = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*(/[A-Za-z0-9][A-Za-z0-9._-]*)?")
_SYSTEMD_NAME_PATTERN = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,254}")
_STORE_SEGMENT = r"(?!\.{1,2}(?:/|#|$))[A-Za-z0-9._@+=-]+"
_VAULT_PATTERN = re.compile(rf"{_STORE_SEGMENT}(/{{1,2}}{_STORE_SEGMENT})+#[A-Za-z0-9._-]+")
_VAULT_SSH_PATTERN = re.compile(rf"{_STORE_SEGMENT}(/{_STORE_SEGMENT})+")
PASSWORD_FORMS = "env:NAME, file:PATH, systemd:NAME, vault:MOUNT/PATH#KEY or prefect:BLOCK"  # noqa: S105  # their forms
"""The references that lead to a password, for hints."""
_REFERENCE_FORMS = f"default, agent, key:PATH, key:PATH?passphrase=REF, vault-ssh:MOUNT/ROLE, {PASSWORD_FORMS}"
_LITERAL_SECRET_HINT = f"A secret never stands in an inventory: write a reference, one of {_REFERENCE_FORMS}."


class ReferenceKind(StrEnum):
    """Where a credential is stored."""

    DEFAULT = "default"
    AGENT = "agent"
    KEY = "key"
    ENV = "env"
    FILE = "file"
    SYSTEMD = "systemd"
    PREFECT = "prefect"
    VAULT = "vault"
    VAULT_SSH = "vault-ssh"


_BARE_REFERENCES = frozenset({ReferenceKind.DEFAULT, ReferenceKind.AGENT})
"""They are one word."""
KEY_REFERENCES = frozenset({*_BARE_REFERENCES, ReferenceKind.KEY, ReferenceKind.VAULT_SSH})
"""They never lead to a password."""


@dataclass(frozen=True, slots=True)
class CredentialReference:
    """A parsed credential reference. ``str()`` returns the written form.

    Attributes:
        kind: where the credential is stored.
        target: path, variable or block; "" for the default keys and the agent.
        passphrase: reference to the passphrase of a key, or None.
    """

    kind: ReferenceKind
    target: str = ""
    passphrase: "CredentialReference | None" = None

    def __str__(self) -> str:
        if self.kind in _BARE_REFERENCES:
            return self.kind.value
        tail = f"{_PASSPHRASE}{self.passphrase}" if self.passphrase else ""
        return f"{self.kind}:{self.target}{tail}"

    def to_absolute(self, directory: Path) -> "CredentialReference":
        """Return the reference with its relative paths joined to ``directory``. ``~`` stays until it is resolved."""
        inner = self.passphrase.to_absolute(directory) if self.passphrase else None
        if self.kind not in {ReferenceKind.KEY, ReferenceKind.FILE} or self.target.startswith(("/", "~")):
            return replace(self, passphrase=inner)
        return replace(self, target=str(directory / self.target), passphrase=inner)


def parse_reference(text: str) -> CredentialReference:
    """Parse a credential reference.

    Args:
        text: the text from an inventory or a request.

    Returns:
        The reference, with its paths as written.

    Raises:
        CredentialError: the text is not a reference. The message does not repeat the text.
    """
    text = text.strip()
    if text in set(_BARE_REFERENCES):
        return CredentialReference(ReferenceKind(text))
    scheme, colon, target = text.partition(":")
    if not colon or scheme not in set(ReferenceKind) - _BARE_REFERENCES:
        raise CredentialError("this is no credential reference", hint=_build_hint(text))
    return _build_reference(ReferenceKind(scheme), target)


def require_foreign_reference(reference: CredentialReference) -> None:
    """Check, as far as its text tells, that a reference does not lead to what is the controller's own.

    Raises:
        CredentialError: it does.
    """
    if reference.passphrase is not None:
        require_foreign_reference(reference.passphrase)
    elif reference.kind is ReferenceKind.ENV:
        require_foreign_variable(reference.target)
    elif reference.kind is ReferenceKind.SYSTEMD:
        require_foreign_systemd_credential(reference.target)
    require_foreign_target(reference.kind, reference.target)


def _build_hint(text: str) -> str:
    scheme, colon, _ = text.partition(":")
    if not colon and text.startswith(("/", "~", "./", "../")):
        remedy = "write key:PATH for a private key, or file:PATH for a password"
        return f"It looks like a path: {remedy}. {_LITERAL_SECRET_HINT}"
    near = difflib.get_close_matches(scheme.lower(), [kind.value for kind in ReferenceKind], n=1, cutoff=0.6)
    return f"Did you mean {near[0]!r}? {_LITERAL_SECRET_HINT}" if near else _LITERAL_SECRET_HINT


def _build_reference(kind: ReferenceKind, target: str) -> CredentialReference:
    inner: CredentialReference | None = None
    if kind is ReferenceKind.KEY and _PASSPHRASE in target:
        target, _, passphrase = target.partition(_PASSPHRASE)
        inner = parse_reference(passphrase)
        if inner.kind in KEY_REFERENCES:
            raise CredentialError(
                f"the passphrase of a key can't be a reference of kind {inner.kind.value!r}",
                hint=f"Give the passphrase as {PASSWORD_FORMS}.",
            )
    # No message repeats the text after env: or prefect:. "env:hunter2!" contains a password.
    if not target or any(ord(character) < 32 for character in target):
        raise CredentialError(f"there is nothing usable after '{kind}:'", hint=f"Write one of {_REFERENCE_FORMS}.")
    if kind is ReferenceKind.ENV and not _ENV_NAME_PATTERN.fullmatch(target):
        raise CredentialError(
            "what stands after 'env:' is no name of an environment variable",
            hint="Write env:NAME with letters, digits and _; the password itself goes into the variable.",
        )
    if kind is ReferenceKind.SYSTEMD and not _SYSTEMD_NAME_PATTERN.fullmatch(target):
        raise CredentialError(
            "what stands after 'systemd:' is no name of a credential",
            hint="Write systemd:NAME, and LoadCredential=NAME:PATH in the unit of the worker.",
        )
    if kind is ReferenceKind.VAULT and not _VAULT_PATTERN.fullmatch(target):
        raise CredentialError(
            "what stands after 'vault:' is no secret of a store",
            hint="Write vault:MOUNT/PATH#KEY, for example vault:secret/fleet/web#password.",
        )
    if kind is ReferenceKind.VAULT_SSH and not _VAULT_SSH_PATTERN.fullmatch(target):
        raise CredentialError(
            "what stands after 'vault-ssh:' is no role of a store",
            hint="Write vault-ssh:MOUNT/ROLE, for example vault-ssh:ssh-client-signer/fleet.",
        )
    if kind is ReferenceKind.PREFECT and not _BLOCK_NAME_PATTERN.fullmatch(target):
        raise CredentialError(
            "what stands after 'prefect:' is no block name",
            hint="Write prefect:NAME with the name of a Secret block: letters, digits and dashes.",
        )
    return CredentialReference(kind, target, inner)
