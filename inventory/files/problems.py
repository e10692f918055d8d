"""Collects the problems of an inventory, so that the loader reports all of them at once."""

import difflib
from collections.abc import Iterable

from inventory.errors import InvalidInventory, InventoryError
from inventory.files.source_location import SourceLocation

MAX_PROBLEMS = 200
"""Maximum number of problems. A file with more problems is probably not an inventory."""


class ProblemCollector:
    """Collects problems, so that the loader reports all of them at once."""

    def __init__(self) -> None:
        self._problems: list[InventoryError] = []

    def add(self, location: SourceLocation, message: str, hint: str = "") -> None:
        """Add a problem, unless it is there already."""
        if len(self._problems) < MAX_PROBLEMS:
            key = _truncate(location.key, 200) or None
            error = InventoryError(
                _truncate(message, 1000), file=location.file, line=location.line, key=key, hint=_truncate(hint, 1500)
            )
            if all(error.message != known.message for known in self._problems):
                self._problems.append(error)

    def extend(self, others: "ProblemCollector") -> None:
        """Add the problems of another collector."""
        self._problems += others._problems[: MAX_PROBLEMS - len(self._problems)]  # noqa: SLF001  # the same class

    def __bool__(self) -> bool:
        return bool(self._problems)

    def raise_if_any(self) -> None:
        """Raise an error with all problems.

        Raises:
            InvalidInventory: there is at least one problem.
        """
        if self._problems:
            raise InvalidInventory(self._problems)


def _truncate(text: str, max_length: int) -> str:
    """Return a text in a readable length. Keys and values of a file can be very long."""
    return text if len(text) <= max_length else f"{text[: max_length - 1]}…"


def did_you_mean(word: str, options: Iterable[str]) -> str:
    """Return "Did you mean 'x'? " with the closest option, or "" if no option is close."""
    by_lower = {option.lower(): option for option in options}
    near = difflib.get_close_matches(word.lower(), by_lower, n=1, cutoff=0.6)
    return f"Did you mean {by_lower[near[0]]!r}? " if near else ""
