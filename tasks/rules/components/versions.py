"""Compares versions of components: which one is newer, and whether that is a minor upgrade. Pure.

A version is an optional epoch, dotted numbers, and more: "1.8.2", "v3.0.1-rc2", "1:2.4-1+deb12u1". The first number and
the epoch are the major version.
"""

import re
from functools import total_ordering
from typing import Final

from inventory.data_class import dataclass
from tasks.domain.components import ComponentVersion

MAX_VERSION_LENGTH: Final = 100

_VERSION_PATTERN: Final = re.compile(
    r"[vV]?(?:([0-9]{1,9}):)?([0-9]{1,18}(?:\.[0-9]{1,18}){0,15})((?:[+~_-]|\.?[A-Za-z])[A-Za-z0-9.+~_-]*)?"
)
_PRERELEASE_PATTERN: Final = re.compile(
    r"[-~._]?(?:alpha|beta|rc|pre|preview|dev|snapshot|nightly|canary|a|b)(?![A-Za-z])", re.IGNORECASE
)
_TOKEN_PATTERN: Final = re.compile(r"[0-9]+|[A-Za-z]+|~")

_Token = tuple[int, int, str]
_END: Final[_Token] = (1, 0, "")
"""What stands behind the last token: "~" is before it, all else after it: "1.0~beta" is older than "1.0"."""


@total_ordering
@dataclass(frozen=True, slots=True, eq=False)
class VersionRank:
    """The rank of a version among others. Two texts of the same version have equal ranks: "1.2" and "v1.2.0"."""

    epoch: int
    numbers: tuple[int, ...]  # without zeros at the end
    is_prerelease: bool  # whether it is before the release of its numbers
    tokens: tuple[_Token, ...]

    @property
    def major(self) -> tuple[int, int]:
        """The epoch and the first number."""
        return self.epoch, self.numbers[0] if self.numbers else 0

    @property
    def _key(self) -> tuple[int, tuple[int, ...], bool, tuple[_Token, ...]]:
        return self.epoch, self.numbers, not self.is_prerelease, (*self.tokens, _END)

    def __eq__(self, other: object) -> bool:
        """Return whether both texts mean one version."""
        return isinstance(other, VersionRank) and self._key == other._key

    def __lt__(self, other: "VersionRank") -> bool:
        """Return whether this version is older."""
        return self._key < other._key

    def __hash__(self) -> int:
        """Return the hash of what decides equality."""
        return hash(self._key)


def rank_version(text: str) -> VersionRank | None:
    """Return the rank of a version; None: the text is none."""
    match = _VERSION_PATTERN.fullmatch(text) if len(text) <= MAX_VERSION_LENGTH else None
    if match is None:
        return None
    numbers = [int(number) for number in match[2].split(".")]
    while numbers and not numbers[-1]:
        del numbers[-1]
    rest = match[3] or ""
    tokens = tuple(map(_rank_token, _TOKEN_PATTERN.findall(rest)))
    is_prerelease = _PRERELEASE_PATTERN.match(rest) is not None
    return VersionRank(int(match[1] or 0), tuple(numbers), is_prerelease, tokens)


def _rank_token(token: str) -> _Token:
    if token.startswith("~"):
        return (0, 0, "")
    return (3, int(token), "") if token.isdecimal() else (2, 0, token.lower())


def is_minor_upgrade(installed: VersionRank, offered: VersionRank) -> bool:
    """Return whether a version may come by itself: newer, in the same major version, and not before a release."""
    return offered > installed and offered.major == installed.major and not offered.is_prerelease


def find_listed_version(versions: tuple[ComponentVersion, ...], text: str) -> ComponentVersion | None:
    """Return the version of a list that a text means, or None."""
    rank = rank_version(text)
    return next((known for known in versions if rank is not None and rank_version(known.version) == rank), None)
