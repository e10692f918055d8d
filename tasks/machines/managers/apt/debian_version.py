"""Debian's order of versions, from Debian Policy 5.6.12: [epoch:]upstream[-revision]."""

import re
from itertools import zip_longest

from tasks.machines.managers.package_version import PackageVersion, parse_number, split_epoch

_DIGITS_PATTERN = re.compile(r"([0-9]+)")


class DebianVersion(PackageVersion):
    """A version that sorts as in ``dpkg --compare-versions``. Any text is accepted; invalid text sorts stably."""

    __slots__ = ()

    def __init__(self, text: str) -> None:
        epoch, remainder = split_epoch(text)
        upstream, dash, revision = remainder.rpartition("-")
        if not dash:
            upstream, revision = remainder, ""
        super().__init__(text, (epoch, _build_part_key(upstream), _build_part_key(revision)))


def _build_part_key(part: str) -> tuple[tuple[tuple[int, ...], int], ...]:
    """Return letters and numbers in turn. The end of a part sorts after "~" and before everything else."""
    pieces = _DIGITS_PATTERN.split(part)
    letters, numbers = pieces[0::2], pieces[1::2]
    key = [
        (_build_word_key(word), parse_number(digits or "0"))
        for word, digits in zip_longest(letters, numbers, fillvalue="")
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


_END_OF_WORD = (0,)
_END_OF_PART = (_END_OF_WORD, 0)
