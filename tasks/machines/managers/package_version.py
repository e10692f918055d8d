"""What the orders of versions of package managers share. Pure."""

from functools import total_ordering
from typing import Any


@total_ordering
class PackageVersion:
    """A version that sorts by a key, which the order of its package manager gives it."""

    __slots__ = ("key", "text")

    def __init__(self, text: str, key: tuple[Any, ...]) -> None:
        self.text = text
        self.key = key

    def __eq__(self, other: object) -> bool:
        return self.key == other.key if isinstance(other, type(self)) else NotImplemented

    def __lt__(self, other: object) -> bool:
        return self.key < other.key if isinstance(other, type(self)) else NotImplemented

    def __hash__(self) -> int:
        return hash(self.key)

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.text!r})"


def split_epoch(text: str) -> tuple[int, str]:
    """Return the epoch of "[epoch:]version", 0 without one, and the rest."""
    epoch, colon, remainder = text.partition(":")
    if not (colon and epoch.isascii() and epoch.isdigit()):
        return 0, text
    return parse_number(epoch), remainder


def parse_number(digits: str) -> int:
    """Return a number of any length. Python refuses to read more than 4300 digits; no real version has so many."""
    return int(digits[:4000] or "0")
