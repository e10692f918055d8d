"""The base class of all errors, and the errors of the inventory. The tree goes on in tasks/domain/errors.py."""

from collections.abc import Sequence
from pathlib import Path
from typing import ClassVar

PASSWORD_FORMS = "env:NAME, file:PATH, systemd:NAME, vault:MOUNT/PATH#KEY or prefect:BLOCK"  # noqa: S105  # their forms
"""The references that lead to a password, for hints."""


class FleetpatchError(Exception):
    """Base class of every error that fleetpatch raises on purpose.

    Attributes:
        machine: name of the machine with the error, or None.
        hint: what a person can do, in one or two sentences; empty if there is nothing to do.
        transient: whether the same operation may succeed later without a change.
        is_storage_fault: whether nothing could be written on a disk here: it is full or read-only.
    """

    transient: ClassVar[bool] = False
    is_storage_fault: bool = False

    def __init__(self, message: str, *, machine: str | None = None, hint: str = "") -> None:
        super().__init__(message)
        self.message = message
        self.machine = machine
        self.hint = hint

    def __str__(self) -> str:
        return f"{self.machine}: {self.message}" if self.machine else self.message


class InventoryError(FleetpatchError):
    """An inventory, a scope or a credential reference is invalid.

    Attributes:
        file: the file with the error, or None if the value is from a request.
        line: 1-based line in the file, or None if the format has no lines.
        key: dotted path of the wrong key (``machines.3.port``), or None.
    """

    def __init__(
        self,
        message: str,
        *,
        file: Path | None = None,
        line: int | None = None,
        key: str | None = None,
        machine: str | None = None,
        hint: str = "",
    ) -> None:
        position = ":".join(str(part) for part in (file, line) if part is not None)
        full = ": ".join(part for part in (position, key, message) if part)
        super().__init__(full, machine=machine, hint=hint)
        self.file = file
        self.line = line
        self.key = key


class InvalidFiles(InventoryError):
    """All problems of files that belong together, found in one pass. File, line and key are those of the first problem.

    Attributes:
        subject: what the files describe, for the message.
        problems: the problems in the order of the files; each has its place and its hint.
    """

    subject: ClassVar[str]

    def __init__(self, problems: Sequence[InventoryError]) -> None:
        first, *later_problems = problems
        lines = [f"{problem.message}\n    {problem.hint}" if problem.hint else problem.message for problem in problems]
        several = "\n".join([f"{len(problems)} faults in the {self.subject}:", *lines])
        super().__init__(several if later_problems else first.message, hint="" if later_problems else first.hint)
        self.problems = tuple(problems)
        self.file, self.line, self.key = first.file, first.line, first.key


class InvalidInventory(InvalidFiles):
    """All problems of an inventory."""

    subject = "inventory"


class EmptyScopeError(InventoryError):
    """A scope matches no machine. It is an error because a typing error would otherwise look like a success."""


class HostKeyConflict(InventoryError):
    """A host key must not be pinned: another key is pinned for the machine, or this key is revoked."""


class CredentialError(FleetpatchError):
    """A credential reference can't be resolved: the file, variable or block does not exist or can't be used."""


class SecretStoreUnavailable(CredentialError):
    """The secret store that has a credential can't be asked now."""

    transient: ClassVar[bool] = True
