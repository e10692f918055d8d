"""Debian's order of versions, from Debian Policy 5.6.12: [epoch:]upstream[-revision]."""

import re
from functools import total_ordering
from itertools import zip_longest

_DIGITS_PATTERN = re.compile(r"([0-9]+)")


@total_ordering
class DebianVersion:
    """A version that sorts as in ``dpkg --compare-versions``. Any text is accepted; invalid text sorts stably."""

    __slots__ = ("key", "text")

    def __init__(self, text: str) -> None:
        self.text = text
        epoch, colon, rest = text.partition(":")
        if not (colon and epoch.isascii() and epoch.isdigit()):
            epoch, rest = "0", text
        upstream, dash, revision = rest.rpartition("-")
        if not dash:
            upstream, revision = rest, ""
        self.key = (_parse_number(epoch), _build_part_key(upstream), _build_part_key(revision))

    def __eq__(self, other: object) -> bool:
        return self.key == other.key if isinstance(other, DebianVersion) else NotImplemented

    def __lt__(self, other: object) -> bool:
        return self.key < other.key if isinstance(other, DebianVersion) else NotImplemented

    def __hash__(self) -> int:
        return hash(self.key)

    def __repr__(self) -> str:
        return f"DebianVersion({self.text!r})"


def _build_part_key(part: str) -> tuple[tuple[tuple[int, ...], int], ...]:
    """Return letters and numbers in turn. The end of a part sorts after "~" and before everything else."""
    pieces = _DIGITS_PATTERN.split(part)
    words, numbers = pieces[0::2], pieces[1::2]
    key = [
        (_build_word_key(word), _parse_number(digits or "0"))
        for word, digits in zip_longest(words, numbers, fillvalue="")
    ]
    while key and key[-1] == (_END_OF_WORD, 0):
        key.pop()
    return (*key, _END_OF_PART, _END_OF_PART)


def _build_word_key(word: str) -> tuple[int, ...]:
    """Return the ranks of a word's characters: tilde, then the end, then letters, then the rest."""
    return (*(_rank_character(character) for character in word), 0)


def _rank_character(character: str) -> int:
    if character == "~":
        return -1
    return ord(character) if character.isascii() and character.isalpha() else ord(character) + 256


def _parse_number(digits: str) -> int:
    """Return a number of any length. Python refuses to read more than 4300 digits; no real version has so many."""
    return int(digits[:4000] or "0")


_END_OF_WORD = (0,)
_END_OF_PART = (_END_OF_WORD, 0)
