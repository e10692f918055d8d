"""Credential references: what an inventory contains instead of a secret, and how fleetpatch resolves it.

The complete grammar::

    agent                       the keys of the SSH agent
    key:PATH                    a private key file
    key:PATH?passphrase=REF     a private key file with a passphrase: an env:, file: or prefect: reference
    env:NAME                    a password in an environment variable of the process that opens the connection
    file:PATH                   a password in a file that only its owner can read
    prefect:BLOCK               a password in a Prefect Secret block (the caller passes the function that reads it)

A text that is not a reference may be a password that was written by mistake. So no error in this module repeats it.
"""

import difflib
import os
import re
import stat
from collections.abc import Callable
from dataclasses import dataclass, replace
from enum import StrEnum
from pathlib import Path
from typing import NoReturn

from inventory.errors import CredentialError
from inventory.files.paths import expand_home

MAX_SECRET_BYTES = 64 * 1024
"""A password file longer than this is not a password file."""

PrefectBlockReader = Callable[[str], str]
"""Returns the text of a Prefect Secret block. Raises LookupError or ValueError if the block does not exist."""

_PASSPHRASE = "?passphrase="  # noqa: S105  # a keyword, not a secret
_ENV_NAME_PATTERN = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
_BLOCK_NAME_PATTERN = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*(/[A-Za-z0-9][A-Za-z0-9._-]*)?")
_REFERENCE_FORMS = "agent, key:PATH, key:PATH?passphrase=REF, env:NAME, file:PATH or prefect:BLOCK"
_LITERAL_SECRET_HINT = f"A secret never stands in an inventory: write a reference, one of {_REFERENCE_FORMS}."


class ReferenceKind(StrEnum):
    """Where a credential is stored."""

    AGENT = "agent"
    KEY = "key"
    ENV = "env"
    FILE = "file"
    PREFECT = "prefect"


class CredentialKind(StrEnum):
    """What a resolved credential is."""

    AGENT = "agent"
    KEY = "key"
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
class CredentialReference:
    """A parsed credential reference. ``str()`` returns the written form.

    Attributes:
        kind: where the credential is stored.
        target: path, variable or block; "" for the agent.
        passphrase: reference to the passphrase of a key, or None.
    """

    kind: ReferenceKind
    target: str = ""
    passphrase: "CredentialReference | None" = None

    def __str__(self) -> str:
        if self.kind is ReferenceKind.AGENT:
            return "agent"
        tail = f"{_PASSPHRASE}{self.passphrase}" if self.passphrase else ""
        return f"{self.kind}:{self.target}{tail}"

    def to_absolute(self, directory: Path) -> "CredentialReference":
        """Return the reference with its relative paths joined to ``directory``. ``~`` stays until it is resolved."""
        inner = self.passphrase.to_absolute(directory) if self.passphrase else None
        if self.kind not in {ReferenceKind.KEY, ReferenceKind.FILE} or self.target.startswith(("/", "~")):
            return replace(self, passphrase=inner)
        return replace(self, target=str(directory / self.target), passphrase=inner)


@dataclass(frozen=True, slots=True)
class Credential:
    """The resolved credential for a login.

    Attributes:
        kind: key, password or agent.
        path: the key file; None for other kinds.
        secret: the password, or the passphrase of a key; None if the key has no passphrase.
    """

    kind: CredentialKind
    path: Path | None = None
    secret: Secret | None = None


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
    if text == "agent":
        return CredentialReference(ReferenceKind.AGENT)
    scheme, colon, target = text.partition(":")
    if not colon or scheme not in {"key", "env", "file", "prefect"}:
        raise CredentialError("this is no credential reference", hint=_build_hint(text))
    return _build_reference(ReferenceKind(scheme), target)


def resolve_credential(reference: str, *, read_block: PrefectBlockReader | None = None) -> Credential:
    """Resolve a credential reference. Call it only when the connection opens, so that secrets stay in memory briefly.

    Args:
        reference: a reference in the grammar of this module. Relative paths start at the working directory; inventory
            loaders have made them absolute already.
        read_block: reads Prefect Secret blocks; None without Prefect.

    Raises:
        CredentialError: the text is not a reference, or it can't be resolved. The hint says what to do.
    """
    parsed = parse_reference(reference)
    if parsed.kind is ReferenceKind.AGENT:
        return Credential(CredentialKind.AGENT)
    if parsed.kind is ReferenceKind.KEY:
        path = expand_home(Path(parsed.target), CredentialError)
        os.close(_open_private_file(path, "private key"))
        passphrase = Secret(_read_password(parsed.passphrase, read_block)) if parsed.passphrase else None
        return Credential(CredentialKind.KEY, path=path, secret=passphrase)
    return Credential(CredentialKind.PASSWORD, secret=Secret(_read_password(parsed, read_block)))


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
        target, _, rest = target.partition(_PASSPHRASE)
        inner = parse_reference(rest)
        if inner.kind not in {ReferenceKind.ENV, ReferenceKind.FILE, ReferenceKind.PREFECT}:
            raise CredentialError(
                f"the passphrase of a key can't be a reference of kind {inner.kind.value!r}",
                hint="Give the passphrase as env:NAME, file:PATH or prefect:BLOCK.",
            )
    # No message repeats the text after env: or prefect:. "env:hunter2!" contains a password.
    if not target or any(ord(character) < 32 for character in target):
        raise CredentialError(f"there is nothing usable after '{kind}:'", hint=f"Write one of {_REFERENCE_FORMS}.")
    if kind is ReferenceKind.ENV and not _ENV_NAME_PATTERN.fullmatch(target):
        raise CredentialError(
            "what stands after 'env:' is no name of an environment variable",
            hint="Write env:NAME with letters, digits and _; the password itself goes into the variable.",
        )
    if kind is ReferenceKind.PREFECT and not _BLOCK_NAME_PATTERN.fullmatch(target):
        raise CredentialError(
            "what stands after 'prefect:' is no block name",
            hint="Write prefect:NAME with the name of a Secret block: letters, digits and dashes.",
        )
    return CredentialReference(kind, target, inner)


def _read_password(reference: CredentialReference, read_block: PrefectBlockReader | None) -> str:
    if reference.kind is ReferenceKind.ENV:
        value = os.environ.get(reference.target, "")
        remedy = f"Set {reference.target} where fleetpatch (the worker, in a deployment) is started."
    elif reference.kind is ReferenceKind.FILE:
        value = _read_private_file(expand_home(Path(reference.target), CredentialError))
        remedy = "Write the password into the file."
    else:
        value = _read_prefect_block(reference.target, read_block)
        remedy = "Set the block's value in the Prefect UI."
    if not value:
        raise CredentialError(f"{reference} is not set, or empty", hint=remedy)
    if value.startswith("-----BEGIN "):
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


def _open_private_file(path: Path, what: str) -> int:
    """Open a file for reading. Check on the open file that no other user can read it."""
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
    status = os.fstat(handle)
    if not stat.S_ISREG(status.st_mode):
        os.close(handle)
        raise CredentialError(f"{path} is no regular file", hint=f"Point the reference at the {what} file itself.")
    if status.st_mode & 0o077:
        os.close(handle)
        raise CredentialError(
            f"the {what} file {path} is open to others (mode {stat.S_IMODE(status.st_mode):04o})",
            hint=f"Run: chmod 600 {path}",
        )
    return handle


def _read_private_file(path: Path) -> str:
    handle = _open_private_file(path, "password")
    with os.fdopen(handle, "rb") as stream:
        raw = stream.read(MAX_SECRET_BYTES + 1)
    if len(raw) > MAX_SECRET_BYTES:
        raise CredentialError(f"{path} is too long for a password", hint="Put the password, and nothing else, in it.")
    try:
        text = raw.decode("utf-8")
    except UnicodeDecodeError:
        raise CredentialError(f"{path} is no UTF-8 text", hint="Save the password file as UTF-8.") from None
    return text.removesuffix("\n").removesuffix("\r")  # editors add a newline at the end of a file
