"""The root of all errors, and those of the inventory. The whole tree is drawn in tasks/errors.py."""

from collections.abc import Sequence
from pathlib import Path
from typing import ClassVar


class FleetpatchError(Exception):
    """Base of every error that fleetpatch raises on purpose.

    Attributes:
        machine: name of the machine that it is about, or None.
        hint: what a person can do about it, one or two sentences; empty when there is nothing to do.
        transient: whether asking again, unchanged, may succeed.
    """

    transient: ClassVar[bool] = False

    def __init__(self, message: str, *, machine: str | None = None, hint: str = "") -> None:
        super().__init__(message)
        self.message = message
        self.machine = machine
        self.hint = hint

    def __str__(self) -> str:
        return f"{self.machine}: {self.message}" if self.machine else self.message


class InventoryError(FleetpatchError):
    """An inventory, a scope or a credential reference that can't be used as it stands.

    Attributes:
        file: where it was read, or None when it came from a request.
        line: 1-based line in the file, or None when the format has no lines.
        key: dotted path of the offending key (``machines.3.port``), or None.
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
        place = ":".join(str(part) for part in (file, line) if part is not None)
        full = ": ".join(part for part in (place, key, message) if part)
        super().__init__(full, machine=machine, hint=hint)
        self.file = file
        self.line = line
        self.key = key


class InvalidInventory(InventoryError):
    """Everything that is wrong with an inventory, found in one pass; file, line and key are those of the first fault.

    Attributes:
        problems: the faults, in the order of the files; each has its own place and hint.
    """

    def __init__(self, problems: Sequence[InventoryError]) -> None:
        first = problems[0]
        super().__init__(_render_problems(problems), hint=first.hint if len(problems) == 1 else "")
        self.problems = tuple(problems)
        self.file, self.line, self.key = first.file, first.line, first.key


class EmptyScopeError(InventoryError):
    """A scope that matches no machine: a typing error would otherwise look like a success."""


class HostKeyConflict(InventoryError):
    """A key that must not be learned: another one is pinned for the machine, or this one is revoked."""


class CredentialError(FleetpatchError):
    """A credential reference that leads nowhere: no such file, variable or block."""


def _render_problems(problems: Sequence[InventoryError]) -> str:
    if len(problems) == 1:
        return problems[0].message
    lines = [f"{problem.message}\n    {problem.hint}" if problem.hint else problem.message for problem in problems]
    return "\n".join([f"{len(problems)} faults in the inventory:", *lines])
