"""How fleetpatch resolves a credential reference. credential_references.py has the grammar."""

import os
import stat
from collections.abc import Callable
from enum import StrEnum
from pathlib import Path
from typing import NoReturn

from inventory.credential_references import (
    KEY_REFERENCES,
    CredentialReference,
    ReferenceKind,
    parse_reference,
    require_foreign_file,
    require_foreign_reference,
)
from inventory.data_class import dataclass
from inventory.errors import PASSWORD_FORMS, CredentialError
from inventory.files.file_trust import UntrustedFile, require_trusted
from inventory.files.own_keys import CREDENTIALS_VARIABLE
from inventory.files.paths import expand_home
from inventory.secret_store import CertificateIssuer, SecretStore

MAX_SECRET_BYTES = 64 * 1024
"""A password file longer than this is not a password file."""

PrefectBlockReader = Callable[[str], str]
"""Returns the text of a Prefect Secret block. Raises LookupError or ValueError if the block does not exist."""

CredentialResolver = Callable[[str], "Credential"]
"""Fetches the credential of a reference. Raises CredentialError."""

_KEY_BEGINNING = "-----BEGIN "


class CredentialKind(StrEnum):
    """What a resolved credential is."""

    DEFAULT = "default keys"
    AGENT = "agent"
    KEY = "key"
    CERTIFICATE = "certificate"
    PASSWORD = "password"  # noqa: S105  # a keyword, not a secret


class Secret:
    """A secret text that only ``reveal`` returns.

    Its repr, str and format hide the value. Pickling raises TypeError, so the secret can't get into a result store or a
    log. It is not a str, so that no code can join it into a text.
    """

    __slots__ = ("_value",)

    def __init__(self, value: str) -> None:
        self._value = value

    def reveal(self) -> str:
        """Return the secret. Only the transport calls this, at login."""
        return self._value

    def __repr__(self) -> str:
        return "Secret(***)"

    def __str__(self) -> str:
        return "***"

    def __format__(self, spec: str) -> str:
        return "***"

    def __eq__(self, other: object) -> bool:
        return self._value == other._value if isinstance(other, Secret) else NotImplemented

    def __hash__(self) -> int:
        return hash((Secret, self._value))

    def __copy__(self) -> "Secret":
        return self

    def __deepcopy__(self, memo: object) -> "Secret":
        return self

    def __reduce_ex__(self, protocol: object) -> NoReturn:
        raise TypeError("a secret is never pickled; pass its reference on and resolve it where it is used")


@dataclass(frozen=True, slots=True)
class Credential:
    """The resolved credential for a login.

    Attributes:
        path: the key file; None for other kinds.
        secret: the password, or the passphrase of a key; None if the key has no passphrase.
        private_key: a private key in OpenSSH's or PEM's format that is in no file; None for other kinds.
        signer: who signs a certificate for a login, as CertificateIssuer takes it; "" for other kinds.
        issuer: issues certificates; None for other kinds.
    """

    kind: CredentialKind
    path: Path | None = None
    secret: Secret | None = None
    private_key: Secret | None = None
    signer: str = ""
    issuer: CertificateIssuer | None = None


@dataclass(frozen=True, slots=True)
class SecretSources:
    """The services that keep secrets. One that is None is not at hand.

    Attributes:
        read_block: reads Prefect Secret blocks.
        open_store: gives the secret store. Raises CredentialError.
        issuer: issues certificates of the secret store.
    """

    read_block: PrefectBlockReader | None = None
    open_store: Callable[[], SecretStore] | None = None
    issuer: CertificateIssuer | None = None


_NO_SOURCES = SecretSources()


def resolve_credential(reference: str, sources: SecretSources = _NO_SOURCES) -> Credential:
    """Resolve the reference of a machine or a message. What is the controller's own is refused.

    Call it only when the connection opens, so that secrets stay in memory briefly.

    Args:
        reference: a reference. Relative paths start at the working directory; inventory
            loaders have made them absolute already.
        sources: the services that keep secrets.

    Raises:
        CredentialError: the text is not a reference, or it can't be resolved. The hint says what to do.
    """
    parsed = parse_reference(reference)
    require_foreign_reference(parsed)
    if parsed.kind is ReferenceKind.DEFAULT:
        return Credential(CredentialKind.DEFAULT)
    if parsed.kind is ReferenceKind.AGENT:
        return Credential(CredentialKind.AGENT)
    if parsed.kind is ReferenceKind.KEY:
        path = expand_home(Path(parsed.target), CredentialError)
        os.close(_open_private_file(path, "private key", is_own=False))
        passphrase = parsed.passphrase
        secret = Secret(_require_password(passphrase, _read_secret(passphrase, sources))) if passphrase else None
        return Credential(CredentialKind.KEY, path=path, secret=secret)
    if parsed.kind is ReferenceKind.VAULT_SSH:
        if sources.issuer is None:
            raise _build_no_store_error(parsed)
        return Credential(CredentialKind.CERTIFICATE, signer=parsed.target, issuer=sources.issuer)
    value = _read_secret(parsed, sources)
    if parsed.kind in {ReferenceKind.SYSTEMD, ReferenceKind.VAULT} and value.startswith(_KEY_BEGINNING):
        return Credential(CredentialKind.KEY, private_key=Secret(value))
    return Credential(CredentialKind.PASSWORD, secret=Secret(_require_password(parsed, value)))


def resolve_own_secret(reference: str, sources: SecretSources = _NO_SOURCES) -> Secret:
    """Resolve a reference that an option or a variable of fleetpatch itself contains. It may be the controller's own.

    Never call it with a text of an inventory, a configuration or a request.

    Raises:
        CredentialError: the text is no reference to a password, or it can't be resolved.
    """
    parsed = parse_reference(reference)
    if parsed.kind in KEY_REFERENCES:
        raise CredentialError("a password is wanted here, no key", hint=f"Write {PASSWORD_FORMS}.")
    return Secret(_require_password(parsed, _read_secret(parsed, sources, is_own=True)))


def _read_secret(reference: CredentialReference, sources: SecretSources, *, is_own: bool = False) -> str:
    if reference.kind is ReferenceKind.ENV:
        value = os.environ.get(reference.target, "")
        remedy = f"Set {reference.target} where fleetpatch (the worker, in a deployment) is started."
    elif reference.kind is ReferenceKind.FILE:
        value = _read_private_file(expand_home(Path(reference.target), CredentialError), is_own=is_own)
        remedy = "Write the password into the file."
    elif reference.kind is ReferenceKind.SYSTEMD:
        folder, name = os.environ.get(CREDENTIALS_VARIABLE), reference.target
        if not folder:
            raise CredentialError(
                f"systemd:{name} can't be read here: systemd gave this process no credentials",
                hint=f"Write LoadCredential={name}:PATH into the [Service] section of its unit, or use file:PATH.",
            )
        value = _read_private_file(Path(folder, name), mask=0o007, is_own=True)
        remedy = "Write the password into the file that LoadCredential names."
    elif reference.kind is ReferenceKind.VAULT:
        if sources.open_store is None:
            raise _build_no_store_error(reference)
        value = sources.open_store().read_secret(*reference.target.split("#"))
        remedy = "Write the password into the secret store."
    else:
        value = _read_prefect_block(reference.target, sources.read_block)
        remedy = "Set the block's value in the Prefect UI."
    if not value:
        raise CredentialError(f"{reference} is not set, or empty", hint=remedy)
    return value


def _require_password(reference: CredentialReference, value: str) -> str:
    if value.startswith(_KEY_BEGINNING):
        raise CredentialError(
            f"{reference} holds a private key, and a password is wanted here",
            hint="Keep the key in a file of mode 0600 and write key:PATH.",
        )
    return value


def _read_prefect_block(name: str, read_block: PrefectBlockReader | None) -> str:
    if read_block is None:
        raise CredentialError(
            f"prefect:{name} can't be read here: no Prefect server is at hand",
            hint="Run it through Prefect, or use env:NAME or file:PATH.",
        )
    try:
        value: object = read_block(name)
    except (LookupError, ValueError) as error:
        raise CredentialError(
            f"there is no Prefect block {name!r} that can be read",
            hint=f"Create a Secret block named {name!r} in the Prefect UI, or correct the reference.",
        ) from error
    if not isinstance(value, str):
        raise CredentialError(
            f"the Prefect block {name!r} holds no text", hint="Use a Secret block whose value is a plain string."
        )
    return value


def _build_no_store_error(reference: CredentialReference) -> CredentialError:
    return CredentialError(
        f"{reference} can't be read here: no secret store is at hand", hint="Use env:NAME, file:PATH or systemd:NAME."
    )


def _open_private_file(path: Path, what: str, *, mask: int = 0o077, is_own: bool) -> int:
    """Open a file for reading. Check on the open file that no other user can read it.

    Args:
        path: the file.
        what: what is in it, for messages.
        mask: the bits of its mode that must not be set.
        is_own: whether it may be the controller's own.
    """
    try:
        # O_NONBLOCK: a named pipe at this path must not block the run.
        handle = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    except FileNotFoundError as error:
        raise CredentialError(f"there is no {what} file {path}", hint="Correct the path, or create it.") from error
    except OSError as error:
        raise CredentialError(
            f"the {what} file {path} can't be opened: {error.strerror}",
            hint="It must be readable for the user that runs fleetpatch.",
        ) from error
    try:
        mode = os.fstat(handle).st_mode
        if not stat.S_ISREG(mode):
            raise CredentialError(f"{path} is no regular file", hint=f"Point the reference at the {what} file itself.")
        if mode & mask:
            message = f"the {what} file {path} is open to others (mode {stat.S_IMODE(mode):04o})"
            raise CredentialError(message, hint=f"Run: chmod 600 {path}")
        require_trusted(path, handle)
        if not is_own:
            require_foreign_file(path, handle)
    except BaseException as error:
        os.close(handle)
        if isinstance(error, UntrustedFile):
            message = f"the {what} file {path} is not trusted: {error.message}"
            raise CredentialError(message, hint=error.hint) from error
        raise
    return handle


def _read_private_file(path: Path, *, mask: int = 0o077, is_own: bool) -> str:
    handle = _open_private_file(path, "password", mask=mask, is_own=is_own)
    with os.fdopen(handle, "rb") as stream:
        raw = stream.read(MAX_SECRET_BYTES + 1)
    if len(raw) > MAX_SECRET_BYTES:
        raise CredentialError(f"{path} is too long for a password", hint="Put the password, and nothing else, in it.")
    try:
        text = raw.decode("utf-8")
    except UnicodeDecodeError:
        raise CredentialError(f"{path} is no UTF-8 text", hint="Save the password file as UTF-8.") from None
    return text.removesuffix("\n").removesuffix("\r")  # editors add a newline at the end of a file
