"""RPM's order of versions: [epoch:]version[-release], compared as rpmvercmp does. Pure."""

import re

from tasks.machines.managers.package_version import PackageVersion, parse_number, split_epoch

_SEGMENT_PATTERN = re.compile(r"[0-9]+|[A-Za-z]+|~|\^")

_Segment = tuple[int, int, str]
_END: _Segment = (1, 0, "")
"""Of two versions, the longer one is newer, except when the next character is "~": (0, …). "^" is next to the end."""


class RpmVersion(PackageVersion):
    """A version that sorts as rpm sorts it. Any text is accepted."""

    __slots__ = ()

    def __init__(self, text: str) -> None:
        epoch, remainder = split_epoch(text)
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
    return (4, parse_number(segment), "") if segment.isdigit() else (3, 0, segment)
