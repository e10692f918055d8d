"""Formats durations, counts and moments for reports."""

from datetime import UTC, datetime
from typing import Final
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

NO_FIGURE: Final = "\N{EN DASH}"
"""Stands where there is no figure."""

NOT_KNOWN: Final = "not known"
"""Stands where no machine can tell the figure: that is not the same as none."""


def format_known_duration(seconds: float | None) -> str:
    """Return seconds as "42 s", "3 min 05 s" or "2 h 07 min"; a dash for None."""
    if seconds is None:
        return NO_FIGURE
    sign, whole = ("-" if seconds <= -0.5 else ""), round(abs(seconds))
    if whole < 60:
        return f"{sign}{whole} s"
    if whole < 3600:
        return f"{sign}{whole // 60} min {whole % 60:02d} s"
    return f"{sign}{whole // 3600} h {whole % 3600 // 60:02d} min"


def format_minutes(seconds: float) -> str:
    """Return seconds as minutes, rounded up to what a person plans with: "under 1 min", "12 min", "2 h 07 min"."""
    if seconds < 60:
        return "under 1 min"
    whole = -int(-seconds // 60)
    return f"{whole} min" if whole < 60 else f"{whole // 60} h {whole % 60:02d} min"


def format_count(number: int, singular: str, several: str | None = None) -> str:
    """Return "1 machine", "3 machines"; thousands are grouped."""
    return f"{number:,} {singular if number == 1 else several or singular + 's'}".replace(",", "\u202f")


def load_zone_or_utc(name: str) -> ZoneInfo:
    """Return that zone, or UTC when this system doesn't know it: a report is shown whatever its window says."""
    try:
        return ZoneInfo(name)
    except (ZoneInfoNotFoundError, ValueError, OSError):
        return ZoneInfo("UTC")


def format_iso_utc(at: datetime | None) -> str | None:
    """Return a moment for programs, in UTC."""
    return None if at is None else at.astimezone(UTC).isoformat().replace("+00:00", "Z")


def format_moment(at: datetime | None, zone: ZoneInfo) -> str:
    """Return a moment as "Fri 20 Nov 2026 02:00:05" in that zone; a dash for None."""
    return NO_FIGURE if at is None else f"{at.astimezone(zone):%a %d %b %Y %H:%M:%S}"


def format_time_of_day(at: datetime | None, zone: ZoneInfo, *, seconds: bool = True) -> str:
    """Return a time of day in that zone, "02:00:05"; a dash for None."""
    return NO_FIGURE if at is None else at.astimezone(zone).strftime("%H:%M:%S" if seconds else "%H:%M")
