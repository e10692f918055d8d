"""Converts between wall time and instants, also in nights with a clock change, and formats both. Pure."""

from bisect import bisect_left
from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo

from tasks.domain.errors import RequestError


def to_wall_time(moment: datetime, zone: str) -> datetime:
    """Return the wall time of an instant in a zone, as a naive datetime."""
    return moment.astimezone(get_time_zone(zone)).replace(tzinfo=None, fold=0)


def wall_time_to_utc(wall: datetime, zone: str) -> tuple[datetime, str]:
    """Return the instant (in UTC) of a wall time, and a note about a clock change.

    A time that the clocks skip becomes the first instant after the change, so that a window is neither early nor lost.
    (RFC 5545, section 3.3.5, uses the offset from before the change. That is later than necessary.) A time that occurs
    twice becomes the first of the two, as in RFC 5545. ``wall`` is naive, ``zone`` an IANA name.

    Returns:
        The instant and the note. The note is empty when the time occurs exactly once.
    """
    time_zone = get_time_zone(zone)
    first = wall.replace(tzinfo=time_zone, fold=0).astimezone(UTC)
    second = wall.replace(tzinfo=time_zone, fold=1).astimezone(UTC)
    if first == second:
        return first, ""
    if first < second:
        return first, f"{wall:%Y-%m-%d %H:%M} happens twice in {zone}: the clocks are put back; the first one is meant"
    jump = _find_clock_change(time_zone, second, first)
    local_jump = jump.astimezone(time_zone)
    reason = f"{wall:%Y-%m-%d %H:%M} does not exist in {zone}: the clocks are put forward"
    first_minute = f"{local_jump:%H:%M}" if local_jump.date() == wall.date() else f"{local_jump:%Y-%m-%d %H:%M}"
    return jump, f"{reason}; it starts with the first minute after that, {first_minute}"


def _find_clock_change(here: ZoneInfo, before: datetime, after: datetime) -> datetime:
    """Return the first instant of the new offset. The clocks change after ``before`` and not later than ``after``."""
    old = before.astimezone(here).utcoffset()
    seconds = range(int((after - before).total_seconds()))

    def is_changed(second: int) -> bool:
        return (before + timedelta(seconds=second)).astimezone(here).utcoffset() != old

    return before + timedelta(seconds=bisect_left(seconds, x=True, key=is_changed))


def localize_time(naive: datetime, zone: str) -> datetime:
    """Return a naive time as an aware time in a zone. A time that occurs twice becomes the first of the two.

    Raises:
        RequestError: the zone is unknown, or the clocks skip that time.
        OverflowError: the time is outside the calendar.
    """
    time_zone = get_time_zone(zone)
    local = naive.replace(tzinfo=time_zone, fold=0)
    back = local.astimezone(UTC).astimezone(time_zone)
    if back.replace(tzinfo=None, fold=0) != naive.replace(fold=0):
        raise RequestError(
            f"{naive:%Y-%m-%d %H:%M} does not exist in {zone}: the clocks are put forward over it",
            hint=f"Take {back:%H:%M} that day, or a time before the jump, or give it in UTC.",
        )
    return local


def get_time_zone(name: str) -> ZoneInfo:
    """Return the time zone with an IANA name. Raise RequestError if there is no zone with that name."""
    try:
        return ZoneInfo(name)
    except (ValueError, OSError, KeyError) as error:  # bad key, key that is a directory, no such key
        raise RequestError(
            f"there is no time zone {name!r}", hint='Give an IANA name such as "Europe/Berlin" or "UTC".'
        ) from error


_DAY_SECONDS, _HOUR_SECONDS, _MINUTE_SECONDS = 86_400, 3_600, 60


def format_time_with_zone(moment: datetime, zone: str = "") -> str:
    """Return the time of day with its zone's abbreviation: "02:45 CET". Seconds only when there are any."""
    local = moment.astimezone(get_time_zone(zone)) if zone else moment
    return f"{format_time_of_day(local)} {format_zone_abbreviation(local)}"


def format_date_and_time(moment: datetime, zone: str = "") -> str:
    """Return the day and the time of day with its zone's abbreviation: "2026-11-21 02:45 CET"."""
    try:
        local = moment.astimezone(get_time_zone(zone)) if zone else moment
    except OverflowError:  # the last year, in a zone that is ahead
        local = moment
    return f"{local.date().isoformat()} {format_time_with_zone(local)}"


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
    remainder = round(seconds)
    if remainder >= _HOUR_SECONDS:  # seconds with hours, and minutes with days, are not useful
        step = _HOUR_SECONDS if remainder >= _DAY_SECONDS else _MINUTE_SECONDS
        remainder = round(remainder / step) * step
    parts: list[str] = []
    for size, unit in ((_DAY_SECONDS, "d"), (_HOUR_SECONDS, "h"), (_MINUTE_SECONDS, "min"), (1, "s")):
        count, remainder = divmod(remainder, size)
        if count:
            parts.append(f"{count} {unit}")
    return " ".join(parts[:2]) or "0 s"
