"""Parsers for times in a configuration: wall clock times, time zones, and durations such as 01:55, 2h or 90."""

import re
from collections.abc import Mapping
from datetime import datetime, timedelta
from typing import Annotated

from pydantic import BeforeValidator, WithJsonSchema
from tzlocal.windows_tz import win_tz

from inventory.files.problems import did_you_mean
from inventory.schema.value_types import build_validation_error, load_zone_names

MINUTES_PER_DAY = 24 * 60
CALENDAR_END = datetime(9999, 12, 31)  # noqa: DTZ001  # wall time
"""The last supported date. Azure writes it for "never expires"."""

_CLOCK_PATTERN = re.compile(r"(\d{1,3}):([0-5]\d)")
_UNITS_PATTERN = re.compile(
    r"(?:(\d+(?:\.\d+)?)\s*d(?:ays?)?)?\s*(?:(\d+(?:\.\d+)?)\s*h(?:ours?)?)?"
    r"\s*(?:(\d+(?:\.\d+)?)\s*m(?:in(?:utes?)?)?)?",
    re.IGNORECASE,
)
_NUMBER_PATTERN = re.compile(r"\d+(?:\.\d+)?")
_LOCAL_TIME_PATTERN = re.compile(r"\d{4}-\d{2}-\d{2}(?:[ T]\d{2}:\d{2}(?::00)?)?")
_DATE_PATTERN = re.compile(r"\d{4}-\d{2}-\d{2}")
_WINDOW_OFFSET_HINT = "Leave the offset out; the zone stands under `zone`."
FREEZE_OFFSET_HINT = (
    "Leave the offset out: it is read by the clocks of each window. For one instant everywhere, give an iCalendar file."
)
"""The hint for a freeze with an offset. A freeze has no zone of its own."""


def parse_minutes(value: object) -> float:
    """Return a duration in minutes.

    Args:
        value: "01:55" (hours and minutes), "2h", "1h 30m", "1d", "35 days", or a number of minutes.

    Raises:
        PydanticCustomError: the value has another form. The error has a hint.
    """
    if isinstance(value, (int, float)) and not isinstance(value, bool):
        return float(value)
    text = value.strip() if isinstance(value, str) else ""
    if clock := _CLOCK_PATTERN.fullmatch(text):
        return int(clock[1]) * 60.0 + int(clock[2])
    if _NUMBER_PATTERN.fullmatch(text):
        return float(text)
    if text and (units := _UNITS_PATTERN.fullmatch(text)):
        days, hours, minutes = (float(part or 0) for part in units.groups())
        return days * MINUTES_PER_DAY + hours * 60 + minutes
    raise build_validation_error(
        f"{str(value)[:80]!r} is no length of time", 'Write "01:55" (hours and minutes), 2h, 1h 30m, or minutes.'
    )


def parse_local_time(value: object, offset_hint: str = _WINDOW_OFFSET_HINT) -> datetime:
    """Return a wall clock time without a zone.

    Args:
        value: "2026-12-05 22:00", or only a date, which means its midnight.
        offset_hint: the hint for a time with an offset.

    Raises:
        PydanticCustomError: the value is not a time, or it has an offset. The error has a hint.
    """
    if isinstance(value, datetime) and value.tzinfo is None:
        return value
    text = value.strip() if isinstance(value, str) else ""
    if not _LOCAL_TIME_PATTERN.fullmatch(text):
        has_offset = re.match(_LOCAL_TIME_PATTERN.pattern + r".*(Z|[+-]\d{2}:?\d{2})$", text)
        remedy = offset_hint if has_offset else "Write it as 2026-12-05 22:00."
        raise build_validation_error(f"{str(value)[:80]!r} is no time of the calendar", remedy)
    try:
        return datetime.fromisoformat(text)
    except ValueError as error:
        raise build_validation_error(
            f"{text!r} is not in the calendar: {error}", "Correct the day or the time."
        ) from error


def parse_end_time(value: object, offset_hint: str = _WINDOW_OFFSET_HINT) -> datetime:
    """Return a wall clock time for the end of something. A date alone means the end of that day."""
    moment = parse_local_time(value, offset_hint)
    whole_day = isinstance(value, str) and _DATE_PATTERN.fullmatch(value.strip())
    return moment + timedelta(days=1) if whole_day and moment < CALENDAR_END else moment


_TIME_SCHEMA = {"type": "string", "pattern": f"^{_LOCAL_TIME_PATTERN.pattern}$", "examples": ["2026-12-05 22:00"]}
_LENGTH_SCHEMA = {
    "anyOf": [{"type": "number", "minimum": 0}, {"type": "string"}],
    "examples": ["01:55", "2h", "1h 30m", 90],
}
FreezeTime = Annotated[
    datetime, BeforeValidator(lambda value: parse_local_time(value, FREEZE_OFFSET_HINT)), WithJsonSchema(_TIME_SCHEMA)
]
FreezeEndTime = Annotated[
    datetime, BeforeValidator(lambda value: parse_end_time(value, FREEZE_OFFSET_HINT)), WithJsonSchema(_TIME_SCHEMA)
]
LocalTime = Annotated[datetime, BeforeValidator(parse_local_time), WithJsonSchema(_TIME_SCHEMA)]
EndTime = Annotated[datetime, BeforeValidator(parse_end_time), WithJsonSchema(_TIME_SCHEMA)]
DurationMinutes = Annotated[float, BeforeValidator(parse_minutes), WithJsonSchema(_LENGTH_SCHEMA)]


MACHINE_ZONE = "machine"
"""Means each machine's own zone."""

_CURRENT_NAMES = {
    "America/Buenos_Aires": "America/Argentina/Buenos_Aires",
    "America/Godthab": "America/Nuuk",
    "America/Indianapolis": "America/Indiana/Indianapolis",
    "Asia/Calcutta": "Asia/Kolkata",
    "Asia/Katmandu": "Asia/Kathmandu",
    "Asia/Rangoon": "Asia/Yangon",
    "Etc/UTC": "UTC",
    "Europe/Kiev": "Europe/Kyiv",
}
"""CLDR keeps these old names of the tz database."""
WINDOWS_ZONES: Mapping[str, str] = {name: _CURRENT_NAMES.get(zone, zone) for name, zone in win_tz.items()}
"""IANA zones by their Windows names, which Azure uses in ``timeZone``: ``W. Europe Standard Time``.

Source: Unicode CLDR, supplemental/windowsZones.xml, the zones for territory 001 ("the world"). A Windows zone and its
IANA zone have the same offsets today, but not always in past decades.
"""
_ZONES_BY_LOWER_NAME = {name.lower(): zone for name, zone in WINDOWS_ZONES.items()}


def parse_time_zone(text: str) -> str:
    """Return the IANA name of a zone, or MACHINE_ZONE.

    Args:
        text: an IANA name, a Windows name (upper or lower case), or ``machine``.

    Raises:
        PydanticCustomError: there is no such zone. The error has a hint.
    """
    if text == MACHINE_ZONE or text in load_zone_names():
        return text
    if (zone := _ZONES_BY_LOWER_NAME.get(" ".join(text.lower().split()))) is not None:
        return zone
    near = did_you_mean(text, (*load_zone_names(), *WINDOWS_ZONES, MACHINE_ZONE))
    remedy = "Give an IANA name such as Europe/Berlin, a Windows name, UTC, or `machine` for each machine's own."
    raise build_validation_error(f"{text[:80]!r} is no time zone", f"{near}{remedy}")
