"""Collects the problems of an inventory, so that the loader reports all of them at once."""

import difflib
from collections.abc import Iterable

from inventory.errors import InvalidInventory, InventoryError
from inventory.files.source_location import SourceLocation

MAX_PROBLEMS = 200
"""A file with more faults than this is of another kind; nobody reads on."""


class ProblemCollector:
    """Collects what is wrong, so that one run of the loader tells it all."""

    def __init__(self) -> None:
        self._problems: list[InventoryError] = []

    def add(self, location: SourceLocation, message: str, hint: str = "") -> None:
        """Note a fault, once."""
        if len(self._problems) < MAX_PROBLEMS:
            key = _truncate(location.key, 200) or None
            error = InventoryError(
                _truncate(message, 1000), file=location.file, line=location.line, key=key, hint=_truncate(hint, 1500)
            )
            if all(error.message != known.message for known in self._problems):
                self._problems.append(error)

    def extend(self, others: "ProblemCollector") -> None:
        """Add what somebody else collected."""
        self._problems += others._problems[: MAX_PROBLEMS - len(self._problems)]  # noqa: SLF001  # its own kind

    def __bool__(self) -> bool:
        return bool(self._problems)

    def raise_if_any(self) -> None:
        """Raise everything that was found.

        Raises:
            InvalidInventory: there was something.
        """
        if self._problems:
            raise InvalidInventory(self._problems)


def _truncate(text: str, max_length: int) -> str:
    """Return a text in a length that people read: keys and values may be anything."""
    return text if len(text) <= max_length else f"{text[: max_length - 1]}…"


def did_you_mean(word: str, options: Iterable[str]) -> str:
    """Return "Did you mean 'x'? " for the option nearest to a word, or "" when none is near."""
    by_lower = {option.lower(): option for option in options}
    near = difflib.get_close_matches(word.lower(), by_lower, n=1, cutoff=0.6)
    return f"Did you mean {by_lower[near[0]]!r}? " if near else ""
