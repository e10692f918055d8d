"""Formats times of day and durations for display. Pure."""

from datetime import datetime

from tasks.rules.calendar.local_time import get_time_zone

_DAY_SECONDS, _HOUR_SECONDS, _MINUTE_SECONDS = 86_400, 3_600, 60


def format_time_with_zone(moment: datetime, zone: str = "") -> str:
    """Return the time of day with its zone's abbreviation: "02:45 CET". Seconds only when there are any."""
    local = moment.astimezone(get_time_zone(zone)) if zone else moment
    return f"{format_time_of_day(local)} {format_zone_abbreviation(local)}"


def format_time_of_day(local: datetime) -> str:
    """Return the time of day: "02:45". Seconds only when there are any."""
    return f"{local:%H:%M:%S}" if local.second else f"{local:%H:%M}"


def format_zone_abbreviation(local: datetime) -> str:
    """Return the abbreviation of a time's zone: "CET", or "UTC+03" where the zone has no letters."""
    name = local.tzname() or ""
    return f"UTC{name}" if name.startswith(("+", "-")) else name  # many zones have only "+03" as a name


def format_duration(seconds: float) -> str:
    """Return seconds in words, in at most two units: "45 s", "4 min 10 s", "2 h 5 min", "1 d 3 h"."""
    if seconds < 0:
        return f"minus {format_duration(-seconds)}"
    whole = round(seconds)
    if whole >= _HOUR_SECONDS:  # seconds with hours, and minutes with days, are not useful
        step = _HOUR_SECONDS if whole >= _DAY_SECONDS else _MINUTE_SECONDS
        whole = round(whole / step) * step
    parts: list[str] = []
    for size, unit in ((_DAY_SECONDS, "d"), (_HOUR_SECONDS, "h"), (_MINUTE_SECONDS, "min"), (1, "s")):
        count, whole = divmod(whole, size)
        if count:
            parts.append(f"{count} {unit}")
    return " ".join(parts[:2]) or "0 s"
