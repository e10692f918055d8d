"""The orders of versions [epoch:]version[-release]: Debian's (Debian Policy 5.6.12) and RPM's (rpmvercmp). Pure."""

import re
from functools import total_ordering
from itertools import zip_longest
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


def _split_epoch(text: str) -> tuple[int, str]:
    """Return the epoch of "[epoch:]version", 0 without one, and the rest."""
    epoch, colon, remainder = text.partition(":")
    if not (colon and epoch.isascii() and epoch.isdigit()):
        return 0, text
    return _parse_number(epoch), remainder


def _parse_number(digits: str) -> int:
    """Return a number of any length. Python refuses to read more than 4300 digits; no real version has so many."""
    return int(digits[:4000] or "0")


_DIGITS_PATTERN = re.compile(r"([0-9]+)")


class DebianVersion(PackageVersion):
    """A version that sorts as in ``dpkg --compare-versions``. Any text is accepted; invalid text sorts stably."""

    __slots__ = ()

    def __init__(self, text: str) -> None:
        epoch, remainder = _split_epoch(text)
        upstream, dash, revision = remainder.rpartition("-")
        if not dash:
            upstream, revision = remainder, ""
        super().__init__(text, (epoch, _build_part_key(upstream), _build_part_key(revision)))


def _build_part_key(part: str) -> tuple[tuple[tuple[int, ...], int], ...]:
    """Return letters and numbers in turn. The end of a part sorts after "~" and before everything else.

    The characters of a word rank so: tilde, then the end, then letters, then the rest.
    """
    pieces = _DIGITS_PATTERN.split(part)
    letters, numbers = pieces[0::2], pieces[1::2]
    key = [
        ((*map(_rank_character, word), 0), _parse_number(digits or "0"))
        for word, digits in zip_longest(letters, numbers, fillvalue="")
    ]
    while key and key[-1] == (_END_OF_WORD, 0):
        key.pop()
    return (*key, _END_OF_PART, _END_OF_PART)


def _rank_character(character: str) -> int:
    if character == "~":
        return -1
    return ord(character) if character.isascii() and character.isalpha() else ord(character) + 256


_END_OF_WORD = (0,)
_END_OF_PART = (_END_OF_WORD, 0)


_SEGMENT_PATTERN = re.compile(r"[0-9]+|[A-Za-z]+|~|\^")

_Segment = tuple[int, int, str]
_END: _Segment = (1, 0, "")
"""Of two versions, the longer one is newer, except when the next character is "~": (0, …). "^" is next to the end."""


class RpmVersion(PackageVersion):
    """A version that sorts as rpm sorts it. Any text is accepted."""

    __slots__ = ()

    def __init__(self, text: str) -> None:
        epoch, remainder = _split_epoch(text)
        version, _, release = remainder.partition("-")
        super().__init__(text, (epoch, _build_key(version), _build_key(release)))


def _build_key(part: str) -> tuple[_Segment, ...]:
    return (*(_build_segment(segment) for segment in _SEGMENT_PATTERN.findall(part)), _END)


def _build_segment(segment: str) -> _Segment:
    """Return a segment's rank: "~", the end, "^", letters, numbers."""
    if segment == "~":
        return (0, 0, "")
    if segment == "^":
        return (2, 0, "")
    return (4, _parse_number(segment), "") if segment.isdigit() else (3, 0, segment)


def find_epoch_prefix(version: str) -> str:
    """Return a version's epoch with the colon; "" for none."""
    return version.partition(":")[0] + ":" if ":" in version else ""
