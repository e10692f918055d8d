"""Expands ranges in names as Ansible does: ``web-[01:20]``, ``db-[a:c]``, ``[1:9:2]``. Both ends are included."""

import itertools
import re
from collections.abc import Iterable

MAX_NAMES_PER_ENTRY = 10_000
"""Maximum number of machines in one entry. It protects against typing errors in a range."""

MAX_MACHINES = 100_000
"""Maximum number of machines in one inventory."""

_RANGE_PATTERN = re.compile(r"\[([0-9]{0,18}|[A-Za-z]):([0-9]{1,18}|[A-Za-z])(?::([0-9]{1,18}))?\]")


class InvalidRange(ValueError):
    """A range is invalid. The message says why."""


def has_range(text: str) -> bool:
    """Return whether a text contains a range."""
    return _RANGE_PATTERN.search(text) is not None


def expand_ranges(text: str) -> tuple[str, ...]:
    """Return all texts of a text with ranges. A text without a range returns only itself.

    Raises:
        InvalidRange: a range is reversed, mixes letters and digits, or is too long.
    """
    pieces: list[Iterable[str]] = []
    total, position = 1, 0
    for match in _RANGE_PATTERN.finditer(text):
        names = _expand_range(match)
        total *= len(names)
        if total > MAX_NAMES_PER_ENTRY:
            raise InvalidRange(f"{text!r} stands for more than {MAX_NAMES_PER_ENTRY:,} names")
        pieces += [(text[position : match.start()],), names]
        position = match.end()
    pieces.append((text[position:],))
    return tuple("".join(parts) for parts in itertools.product(*pieces))


def _expand_range(match: re.Match[str]) -> list[str]:
    first, last, step = match[1] or "0", match[2], int(match[3] or 1)
    if first.isdigit() != last.isdigit():
        raise InvalidRange(f"the range {match[0]} mixes letters and digits")
    if first.isdigit() and first.startswith("0") and len(first) > 1 and len(first) != len(last):
        raise InvalidRange(f"the ends of the range {match[0]} differ in length")
    low, high = (int(first), int(last)) if first.isdigit() else (ord(first), ord(last))
    if low > high or step == 0:
        raise InvalidRange(f"the range {match[0]} runs backwards" if step else f"the range {match[0]} has no step")
    if (high - low) // step >= MAX_NAMES_PER_ENTRY:
        raise InvalidRange(f"the range {match[0]} stands for more than {MAX_NAMES_PER_ENTRY:,} names")
    numbers = range(low, high + 1, step)
    if not first.isdigit():
        return [chr(number) for number in numbers]
    width = len(first) if first.startswith("0") else 0
    return [str(number).zfill(width) for number in numbers]
