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

What is the controller's own is never the credential of a machine: its variables, and its private files. Who writes an
inventory need not have the rights of the worker: a reference to the password of the records would send it to a machine
that the writer chose.

A text that is not a reference may be a password that was written by mistake. So no error in this module repeats it.
"""

import difflib
import os
import re
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import replace
from enum import StrEnum
from pathlib import Path
from typing import Final

import platformdirs

from inventory.data_class import dataclass
from inventory.errors import PASSWORD_FORMS, CredentialError
from inventory.files.own_keys import CREDENTIAL_PREFIX, CREDENTIALS_VARIABLE, find_key_folder

OWN_VARIABLES: Final = re.compile(
    r"(FLEETPATCH|PREFECT|VAULT|BAO|AWS|AZURE|ARM|GOOGLE)_\w+|PG[A-Z]+|(HTTPS?|ALL)_PROXY|CREDENTIALS_DIRECTORY",
    re.IGNORECASE,
)
"""Variables of fleetpatch, of Prefect, and of what both talk to: secret stores, clouds, PostgreSQL, proxies.

Those of clouds and proxies are read by libraries, and hold the rights of the controller itself.
"""
_SYSTEM_FOLDERS: Final = ("/proc", "/sys", "/dev")
"""Not files: /proc/self/environ is the worker's environment."""
_FOREIGN_HINT: Final = "It belongs to fleetpatch itself, and would be sent to a machine. Name a secret of the machine."


def _unify(kind: str, target: str) -> tuple[str, str]:
    """Return one form of a reference: a block's type before its name changes nothing, nor does a second slash."""
    return kind, target.rpartition("/")[2] if kind == "prefect" else re.sub("/+", "/", target)


def _iterate_own_references() -> Iterator[tuple[str, str]]:
    """Yield kind and target of what the controller's variables refer to."""
    for name, value in os.environ.items():
        if OWN_VARIABLES.fullmatch(name):
            kind, colon, target = value.strip().partition(":")
            if colon:
                yield kind, target


def require_foreign_file(path: Path, descriptor: int) -> None:
    """Check that an open file may be a credential of a machine. Links were followed as it was opened.

    Raises:
        CredentialError: it is one of the controller's own.
    """
    real = Path(f"/proc/self/fd/{descriptor}").readlink()
    opened = os.fstat(descriptor)
    folder = os.environ.get(CREDENTIALS_VARIABLE)
    if (
        any(real.is_relative_to(folder) for folder in _iterate_own_folders())
        or any(os.path.samestat(status, opened) for status in _iterate_own_files())
        or (folder and real.name.startswith(CREDENTIAL_PREFIX) and real.is_relative_to(os.path.realpath(folder)))
    ):
        raise CredentialError(f"the file {path} is no credential of a machine", hint=_FOREIGN_HINT)


def _iterate_own_folders() -> Iterator[str]:
    yield from _SYSTEM_FOLDERS
    yield os.path.realpath(find_key_folder())
    with suppress(RuntimeError):  # a user without a home directory has no such folders
        yield os.path.realpath(platformdirs.user_data_path("fleetpatch"))
        yield os.path.realpath(os.environ.get("PREFECT_HOME") or Path("~/.prefect").expanduser())


def _iterate_own_files() -> Iterator[os.stat_result]:
    """Yield the controller's own keys, and what its variables name: tokens, certificates' keys, the records in SQLite.

    A container may have the file of a key at a second place: Docker mounts a secret from the machine's own file.
    """
    keys = [entry for entry in _iterate_entries(find_key_folder()) if entry.is_file()]
    if folder := os.environ.get(CREDENTIALS_VARIABLE):
        keys += [entry for entry in _iterate_entries(Path(folder)) if entry.name.startswith(CREDENTIAL_PREFIX)]
    for key in keys:
        with suppress(OSError):
            yield key.stat()
    for kind, target in _iterate_own_references():
        file = Path(os.environ.get(CREDENTIALS_VARIABLE, ""), target) if kind == "systemd" else Path(target)
        with suppress(OSError, RuntimeError, ValueError):
            yield file.expanduser().stat()
    for name, value in os.environ.items():
        if OWN_VARIABLES.fullmatch(name):
            named = value.partition("://")[2].partition("?")[0] or value
            for path in {named, named.removeprefix("/")}:  # sqlite:////absolute, sqlite:///relative
                with suppress(OSError, ValueError):
                    yield os.stat(path)  # noqa: PTH116 - Path.stat has the same errors, and this takes any text
    with suppress(OSError, RuntimeError):
        yield Path("~/.pgpass").expanduser().stat()


def _iterate_entries(folder: Path) -> Iterator[Path]:
    with suppress(OSError):  # it does not exist, or this user can't list it
        yield from folder.iterdir()


_PASSPHRASE = "?passphrase="  # noqa: S105  # a keyword, not a secret
_STORE_SEGMENT = r"(?!\.{1,2}(?:/|#|$))[A-Za-z0-9._@+=-]+"
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
_TARGETS = {
    ReferenceKind.ENV: (
        r"[A-Za-z_][A-Za-z0-9_]*",
        "name of an environment variable",
        "Write env:NAME with letters, digits and _; the password itself goes into the variable.",
    ),
    ReferenceKind.SYSTEMD: (
        r"[A-Za-z0-9][A-Za-z0-9._-]{0,254}",
        "name of a credential",
        "Write systemd:NAME, and LoadCredential=NAME:PATH in the unit of the worker.",
    ),
    ReferenceKind.VAULT: (
        rf"{_STORE_SEGMENT}(/{{1,2}}{_STORE_SEGMENT})+#[A-Za-z0-9._-]+",
        "secret of a store",
        "Write vault:MOUNT/PATH#KEY, for example vault:secret/fleet/web#password.",
    ),
    ReferenceKind.VAULT_SSH: (
        rf"{_STORE_SEGMENT}(/{_STORE_SEGMENT})+",
        "role of a store",
        "Write vault-ssh:MOUNT/ROLE, for example vault-ssh:ssh-client-signer/fleet.",
    ),
    ReferenceKind.PREFECT: (
        r"[A-Za-z0-9][A-Za-z0-9._-]*(/[A-Za-z0-9][A-Za-z0-9._-]*)?",
        "block name",
        "Write prefect:NAME with the name of a Secret block: letters, digits and dashes.",
    ),
}
"""What stands after the colon: its pattern, what it is, and the hint. A path may be anything."""


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
    kind, inner = ReferenceKind(scheme), None
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
    if kind in _TARGETS:
        pattern, meaning, hint = _TARGETS[kind]
        if not re.fullmatch(pattern, target):
            raise CredentialError(f"what stands after '{kind}:' is no {meaning}", hint=hint)
    return CredentialReference(kind, target, inner)


def require_foreign_reference(reference: CredentialReference) -> None:
    """Check, as far as its text tells, that a reference does not lead to what is the controller's own.

    That is a variable of the controller or one of fleetpatch's keys, and what such a variable refers to:
    ``FLEETPATCH_VAULT_TOKEN=env:TOKEN``.

    Raises:
        CredentialError: it does.
    """
    if reference.passphrase is not None:
        require_foreign_reference(reference.passphrase)
    kind, target = reference.kind, reference.target
    subject = ""
    if kind is ReferenceKind.ENV and OWN_VARIABLES.fullmatch(target):
        subject = f"the variable {target}"
    elif kind is ReferenceKind.SYSTEMD and target.startswith(CREDENTIAL_PREFIX):
        subject = f"systemd's credential {target}"
    elif _unify(kind, target) in {_unify(*own_reference) for own_reference in _iterate_own_references()}:
        subject = f"{kind}:{target}"
    if subject:
        raise CredentialError(f"{subject} is no credential of a machine", hint=_FOREIGN_HINT)


def _build_hint(text: str) -> str:
    scheme, colon, _ = text.partition(":")
    if not colon and text.startswith(("/", "~", "./", "../")):
        remedy = "write key:PATH for a private key, or file:PATH for a password"
        return f"It looks like a path: {remedy}. {_LITERAL_SECRET_HINT}"
    near = difflib.get_close_matches(scheme.lower(), [kind.value for kind in ReferenceKind], n=1, cutoff=0.6)
    return f"Did you mean {near[0]!r}? {_LITERAL_SECRET_HINT}" if near else _LITERAL_SECRET_HINT
