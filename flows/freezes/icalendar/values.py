"""Values of iCalendar (RFC 5545, section 3.3): dates, durations, offsets and rules."""

import re
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta, tzinfo
from typing import TypeAlias

from flows.freezes.icalendar.components import CalendarProperty, build_line_error, shorten_value

_DATE_PATTERN = re.compile(r"(\d{4})(\d{2})(\d{2})", re.ASCII)
_MOMENT_PATTERN = re.compile(r"(\d{4})(\d{2})(\d{2})T(\d{2})(\d{2})(\d{2})(Z?)", re.ASCII)
_DURATION_PATTERN = re.compile(
    r"([+-]?)P(?:(\d{1,6})W)?(?:(\d{1,6})D)?(?:T(?:(\d{1,8})H)?(?:(\d{1,8})M)?(?:(\d{1,8})S)?)?", re.ASCII
)
_OFFSET_PATTERN = re.compile(r"([+-])(\d{2})([0-5]\d)([0-5]\d)?", re.ASCII)


@dataclass(frozen=True, slots=True)
class CalendarMoment:
    """A day, or a time of a day.

    Attributes:
        wall_time: the wall time; midnight for a whole day.
        zone: the zone of the wall time; None: the reader's zone.
        is_whole_day: whether it is a whole day.
    """

    wall_time: datetime
    zone: tzinfo | None
    is_whole_day: bool

    def to_utc(self) -> datetime:
        """Return the instant. A moment without a zone is read as UTC."""
        return to_utc(self.wall_time, self.zone)


@dataclass(frozen=True, slots=True)
class CalendarDuration:
    """A duration: calendar days in wall time, and exact time."""

    days: int
    time: timedelta


ZoneFinder: TypeAlias = Callable[[str, CalendarProperty], tzinfo]
"""Returns the zone with a name that a property gives, or raises InventoryError."""


def to_utc(wall: datetime, zone: tzinfo | None) -> datetime:
    """Return the instant of a wall time. A wall time without a zone is read as UTC."""
    return wall.replace(tzinfo=zone or UTC).astimezone(UTC)


def parse_moment(text: str, line: CalendarProperty, find_zone: ZoneFinder) -> CalendarMoment:
    """Parse a DATE or DATE-TIME.

    Raises:
        InventoryError: the text is invalid, or its zone is unknown.
    """
    kind = line.parameters.get("VALUE", "").upper()
    day, match = _DATE_PATTERN.fullmatch(text.strip()), _MOMENT_PATTERN.fullmatch(text.strip())
    try:
        if day and kind != "DATE-TIME":
            return CalendarMoment(datetime(*map(int, day.groups())), None, is_whole_day=True)  # type: ignore[arg-type]  # noqa: DTZ001
        if match and kind != "DATE":
            wall = datetime(*map(int, match.groups()[:6]))  # type: ignore[arg-type]  # noqa: DTZ001
            name = line.parameters.get("TZID")
            zone = UTC if match[7] else find_zone(name, line) if name is not None else None
            return CalendarMoment(wall, zone, is_whole_day=False)
    except ValueError as error:
        raise build_line_error(
            line.line_number, f"{line.name} {shorten_value(text)} is not in the calendar: {error}", "Correct it."
        ) from error
    hint = "Write 20261224 (with VALUE=DATE), 20261224T180000, or 20261224T180000Z for UTC."
    raise build_line_error(line.line_number, f"{line.name} {shorten_value(text)} is no date or time", hint)


def parse_duration(text: str, line: CalendarProperty) -> CalendarDuration:
    """Parse a DURATION.

    Raises:
        InventoryError: the text is invalid.
    """
    match = _DURATION_PATTERN.fullmatch(text.strip().upper())
    if match is None or not any(match.groups()[1:]):
        raise build_line_error(
            line.line_number, f"{line.name} {shorten_value(text)} is no length of time", "Write P1D, PT12H or P1DT12H."
        )
    weeks, days, hours, minutes, seconds = (int(part or 0) for part in match.groups()[1:])
    sign = -1 if match[1] == "-" else 1
    return CalendarDuration(sign * (weeks * 7 + days), sign * timedelta(hours=hours, minutes=minutes, seconds=seconds))


def parse_utc_offset(line: CalendarProperty) -> timedelta:
    """Parse a UTC-OFFSET.

    Raises:
        InventoryError: the text is invalid.
    """
    match = _OFFSET_PATTERN.fullmatch(line.value.strip())
    if match is None or int(match[2]) > 23:
        raise build_line_error(
            line.line_number, f"{line.name} {shorten_value(line.value)} is no offset", "Write it as +0100."
        )
    offset = timedelta(hours=int(match[2]), minutes=int(match[3]), seconds=int(match[4] or 0))
    return -offset if match[1] == "-" else offset
