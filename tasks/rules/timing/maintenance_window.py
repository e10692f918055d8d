"""Windows and their cut-offs: when patching may happen. All arithmetic is done in UTC.

Datetimes that share a zone are subtracted and compared by the hands of the clock, which is wrong in the night that the
clocks change. So windows and cut-offs are kept in UTC and only shown in their zone.
"""

from datetime import UTC, datetime, timedelta

from tasks.errors import RequestError
from tasks.model import Window
from tasks.rules.calendar.local_time import get_time_zone, localize_time
from tasks.rules.calendar.time_format import (
    format_duration,
    format_time_of_day,
    format_time_with_zone,
    format_zone_abbreviation,
)
from tasks.states import RebootPolicy

_MAX_WINDOW_MINUTES = 31 * 24 * 60
_EARLIEST_START = datetime(1970, 1, 2, tzinfo=UTC)  # every zone can show it, and so can every machine's clock
_MAX_TIME_AHEAD = timedelta(days=366)
"""A run waits for its window: one that opens later than this is a year that was mistyped."""


def build_window(start: datetime | None, minutes: float, zone: str, now: datetime) -> Window:
    """Return the window that opens at ``start`` and lasts so many minutes of real time.

    Args:
        start: when it opens. A naive one is read in ``zone``; a time that happens twice is the first of the two.
            None means now.
        minutes: how long it lasts; more than 0, at most 31 days.
        zone: IANA name of the zone that the window is read and shown in.
        now: the present moment, aware.

    Raises:
        RequestError: the zone is unknown, the length makes no sense, the clocks jump over the start, or it lies in a
            year that can't be meant.
    """
    get_time_zone(zone)
    if not 0 < minutes <= _MAX_WINDOW_MINUTES:
        raise RequestError(
            f"a window of {minutes:g} minutes is not possible",
            hint=f"Give more than 0 and at most {_MAX_WINDOW_MINUTES} minutes.",
        )
    opens = now if start is None else start
    try:
        opens = (localize_time(opens, zone) if opens.tzinfo is None else opens).astimezone(UTC)
        if not _EARLIEST_START <= opens <= now + _MAX_TIME_AHEAD:
            raise OverflowError
        return Window(start=opens, end=opens + timedelta(minutes=minutes), zone=zone)
    except OverflowError as error:
        hint = "Correct the year of the window's start; a run waits for its window, but no longer than a year."
        raise RequestError(f"{opens:%Y-%m-%d %H:%M} is too far away", hint=hint) from error


def compute_window_seconds(window: Window) -> float:
    """Return how long a window is, in seconds of real time."""
    return (window.end.astimezone(UTC) - window.start.astimezone(UTC)).total_seconds()


def compute_cut_off(window: Window, policy: RebootPolicy, reserve_seconds: float) -> datetime:
    """Return the moment (in UTC) by which installing must be over: the end, less what is kept for a reboot.

    Nothing is kept when the machine is never rebooted. Never before the window's start.
    """
    if policy is RebootPolicy.NEVER:
        return window.end
    return max(window.start, window.end - timedelta(seconds=max(0.0, reserve_seconds)))


def describe_cut_off(window: Window, policy: RebootPolicy, reserve_seconds: float) -> str:
    """Return in words how ``compute_cut_off`` came about: "window ends 03:00 CET, 15 min kept for a reboot"."""
    length = compute_window_seconds(window)
    if policy is not RebootPolicy.NEVER and reserve_seconds >= length:
        reserve = format_duration(reserve_seconds)
        return f"the window is {format_duration(length)} long, and {reserve} are kept for a reboot"
    ends = f"window ends {format_time_with_zone(window.end, window.zone)}"
    if policy is RebootPolicy.NEVER:
        return f"{ends}, no time kept because it is never rebooted"
    return f"{ends}, {format_duration(reserve_seconds)} kept for a reboot" if reserve_seconds > 0 else ends


def compute_overrun_seconds(window: Window, ended_at: datetime) -> float:
    """Return by how many seconds ``ended_at`` passed the window's end; 0 when it did not."""
    return max(0.0, (ended_at.astimezone(UTC) - window.end.astimezone(UTC)).total_seconds())


def describe_window(window: Window) -> str:
    """Return the window in words: "2026-11-21 01:00 to 03:00 CET (2 h)"."""
    here = get_time_zone(window.zone)
    start, end = window.start.astimezone(here), window.end.astimezone(here)
    length = compute_window_seconds(window)
    # Between two dates, or across a change of the clocks, each end needs all its parts to be understood.
    same_offset = start.utcoffset() == end.utcoffset()
    first = (
        format_time_of_day(start) if same_offset else f"{format_time_of_day(start)} {format_zone_abbreviation(start)}"
    )
    last = format_time_of_day(end) if start.date() == end.date() else f"{end:%Y-%m-%d} {format_time_of_day(end)}"
    return f"{start:%Y-%m-%d} {first} to {last} {format_zone_abbreviation(end)} ({format_duration(length)})"
