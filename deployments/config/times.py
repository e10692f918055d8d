"""Times as people write them in a configuration: wall clock times, and lengths such as 01:55, 2h or 90."""

import re
from datetime import datetime, timedelta
from typing import Annotated

from pydantic import BeforeValidator, WithJsonSchema

from inventory.schema import fault

MINUTES_A_DAY = 24 * 60
LAST_MINUTE = datetime(9999, 12, 31)  # noqa: DTZ001  # wall time
"""Where calendars end. Azure writes it for "never expires"."""

_CLOCK = re.compile(r"(\d{1,3}):([0-5]\d)")
_UNITS = re.compile(
    r"(?:(\d+(?:\.\d+)?)\s*d)?\s*(?:(\d+(?:\.\d+)?)\s*h)?\s*(?:(\d+(?:\.\d+)?)\s*m(?:in)?)?", re.IGNORECASE
)
_NUMBER = re.compile(r"\d+(?:\.\d+)?")
_LOCAL = re.compile(r"\d{4}-\d{2}-\d{2}(?:[ T]\d{2}:\d{2}(?::00)?)?")
_DATE = re.compile(r"\d{4}-\d{2}-\d{2}")
_ZONE_BESIDE = "Leave the offset out; the zone stands under `zone`."
NO_ZONE = (
    "Leave the offset out: it is read by the clocks of each window. For one instant everywhere, give an iCalendar file."
)
"""What to do about the offset of a freeze, which has no zone of its own."""


def minutes_of(value: object) -> float:
    """Return a length in minutes.

    Args:
        value: "01:55" (hours and minutes), "2h", "1h 30m", "1d", or a number of minutes.

    Raises:
        PydanticCustomError: it is none of these; it carries its remedy.
    """
    if isinstance(value, (int, float)) and not isinstance(value, bool):
        return float(value)
    text = value.strip() if isinstance(value, str) else ""
    if clock := _CLOCK.fullmatch(text):
        return int(clock[1]) * 60.0 + int(clock[2])
    if _NUMBER.fullmatch(text):
        return float(text)
    if text and (units := _UNITS.fullmatch(text)):
        days, hours, minutes = (float(part or 0) for part in units.groups())
        return days * MINUTES_A_DAY + hours * 60 + minutes
    raise fault(
        f"{str(value)[:80]!r} is no length of time", 'Write "01:55" (hours and minutes), 2h, 1h 30m, or minutes.'
    )


def local_time(value: object, zoned: str = _ZONE_BESIDE) -> datetime:
    """Return a wall clock time, without a zone.

    Args:
        value: "2026-12-05 22:00", or a date alone, which is its midnight.
        zoned: what to do about an offset.

    Raises:
        PydanticCustomError: it is none, or it has an offset; it carries its remedy.
    """
    if isinstance(value, datetime) and value.tzinfo is None:
        return value
    text = value.strip() if isinstance(value, str) else ""
    if not _LOCAL.fullmatch(text):
        has_offset = re.match(_LOCAL.pattern + r".*(Z|[+-]\d{2}:?\d{2})$", text)
        remedy = zoned if has_offset else "Write it as 2026-12-05 22:00."
        raise fault(f"{str(value)[:80]!r} is no time of the calendar", remedy)
    try:
        return datetime.fromisoformat(text)
    except ValueError as error:
        raise fault(f"{text!r} is not in the calendar: {error}", "Correct the day or the time.") from error


def through_the_day(value: object, zoned: str = _ZONE_BESIDE) -> datetime:
    """Return a wall clock time at which something ends; a date alone is meant to its last moment."""
    moment = local_time(value, zoned)
    whole_day = isinstance(value, str) and _DATE.fullmatch(value.strip())
    return moment + timedelta(days=1) if whole_day and moment < LAST_MINUTE else moment


_TIME_SCHEMA = {"type": "string", "pattern": f"^{_LOCAL.pattern}$", "examples": ["2026-12-05 22:00"]}
_LENGTH_SCHEMA = {
    "anyOf": [{"type": "number", "minimum": 0}, {"type": "string"}],
    "examples": ["01:55", "2h", "1h 30m", 90],
}
FreezeTime = Annotated[
    datetime, BeforeValidator(lambda value: local_time(value, NO_ZONE)), WithJsonSchema(_TIME_SCHEMA)
]
FreezeEnd = Annotated[
    datetime, BeforeValidator(lambda value: through_the_day(value, NO_ZONE)), WithJsonSchema(_TIME_SCHEMA)
]
LocalTime = Annotated[datetime, BeforeValidator(local_time), WithJsonSchema(_TIME_SCHEMA)]
EndTime = Annotated[datetime, BeforeValidator(through_the_day), WithJsonSchema(_TIME_SCHEMA)]
Length = Annotated[float, BeforeValidator(minutes_of), WithJsonSchema(_LENGTH_SCHEMA)]
