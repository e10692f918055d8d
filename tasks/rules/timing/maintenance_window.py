"""Windows and cut-offs: when a run may change machines, and whether work fits in. All calculations use UTC.

Python subtracts and compares datetimes of the same zone by wall time. That is wrong in nights with a clock change. So
windows and cut-offs are in UTC, and only the display uses their zone.
"""

from datetime import UTC, datetime, timedelta

from inventory.data_class import dataclass
from tasks.domain.errors import RequestError
from tasks.domain.model import Window
from tasks.domain.states import RebootPolicy
from tasks.rules.calendar.local_time import (
    format_duration,
    format_time_of_day,
    format_time_with_zone,
    format_zone_abbreviation,
    get_time_zone,
    localize_time,
)
from tasks.rules.calendar.schedule import require_window_minutes

_EARLIEST_START = datetime(1970, 1, 2, tzinfo=UTC)  # valid in every time zone and for the clock of every machine
_MAX_TIME_AHEAD = timedelta(days=366)
"""A run waits for its window. A window that opens later than this has a typing error in its year."""


def build_window(start: datetime | None, minutes: float, zone: str, now: datetime) -> Window:
    """Return the window that opens at ``start`` and lasts ``minutes`` of elapsed time.

    Args:
        start: when the window opens. A naive time is in ``zone``; if it occurs twice, the first one counts. None means
            now.
        minutes: length of the window; more than 0, at most 31 days.
        zone: IANA name of the zone for naive times and display.
        now: the current time, aware.

    Raises:
        RequestError: the zone is unknown, the length is invalid, the start does not exist because of a clock change, or
            its year is out of range.
    """
    get_time_zone(zone)
    require_window_minutes(minutes)
    opens = now if start is None else start
    try:
        opens = (localize_time(opens, zone) if opens.tzinfo is None else opens).astimezone(UTC)
        if not _EARLIEST_START <= opens <= now + _MAX_TIME_AHEAD:
            raise OverflowError
        return Window(start=opens, end=opens + timedelta(minutes=minutes), zone=zone)
    except OverflowError as error:
        hint = "Correct the year of the window's start; a run waits for its window, but no longer than a year."
        raise RequestError(f"{opens:%Y-%m-%d %H:%M} is too far in the future", hint=hint) from error


def compute_window_seconds(window: Window) -> float:
    """Return the length of a window in seconds of elapsed time."""
    return (window.end.astimezone(UTC) - window.start.astimezone(UTC)).total_seconds()


def compute_cut_off(window: Window, policy: RebootPolicy, reserve_seconds: float) -> datetime:
    """Return the cut-off in UTC: the end of the window minus the reboot reserve.

    With the policy Never there is no reserve. The cut-off is never before the window's start.
    """
    if policy is RebootPolicy.NEVER:
        return window.end
    return max(window.start, window.end - timedelta(seconds=max(0.0, reserve_seconds)))


def describe_cut_off(window: Window, policy: RebootPolicy, reserve_seconds: float) -> str:
    """Return the source of the cut-off in words: "window ends 03:00 CET, 15 min kept for a reboot"."""
    length = compute_window_seconds(window)
    if policy is not RebootPolicy.NEVER and reserve_seconds >= length:
        reserve = format_duration(reserve_seconds)
        return f"the window is {format_duration(length)} long, and {reserve} are kept for a reboot"
    ends = f"window ends {format_time_with_zone(window.end, window.zone)}"
    if policy is RebootPolicy.NEVER:
        return f"{ends}, no time kept because it is never rebooted"
    return f"{ends}, {format_duration(reserve_seconds)} kept for a reboot" if reserve_seconds > 0 else ends


def compute_overrun_seconds(window: Window, ended_at: datetime) -> float:
    """Return by how many seconds ``ended_at`` exceeds the window's end; 0 when it does not."""
    return max(0.0, (ended_at.astimezone(UTC) - window.end.astimezone(UTC)).total_seconds())


def describe_window(window: Window) -> str:
    """Return the window in words: "2026-11-21 01:00 to 03:00 CET (2 h)"."""
    time_zone = get_time_zone(window.zone)
    start, end = window.start.astimezone(time_zone), window.end.astimezone(time_zone)
    length = compute_window_seconds(window)
    # With two dates or a clock change, each end needs its own date or zone abbreviation.
    same_offset = start.utcoffset() == end.utcoffset()
    first = (
        format_time_of_day(start) if same_offset else f"{format_time_of_day(start)} {format_zone_abbreviation(start)}"
    )
    last = format_time_of_day(end) if start.date() == end.date() else f"{end:%Y-%m-%d} {format_time_of_day(end)}"
    return f"{start:%Y-%m-%d} {first} to {last} {format_zone_abbreviation(end)} ({format_duration(length)})"


@dataclass(frozen=True, slots=True)
class TimeFit:
    """Whether work fits into the remaining time, with the calculation as a sentence."""

    fits: bool
    explanation: str


def check_time_fit(
    now: datetime, needed_seconds: float, until: datetime, what: str, until_reason: str, *, zone: str = ""
) -> TimeFit:
    """Return whether ``needed_seconds`` fit between ``now`` and ``until``, with the calculation as a sentence.

    ``what`` is the work, as a noun: "install of 3 updates". ``until_reason`` is the source of ``until`` (see
    ``describe_cut_off``), or "". Times are shown in ``zone`` (IANA name; "": the zone of ``until``).
    """
    seconds = (until.astimezone(UTC) - now.astimezone(UTC)).total_seconds()
    moment = format_time_with_zone(until, zone)
    room = (
        f"{format_duration(seconds)} {'is' if seconds < 1.5 else 'are'} left until {moment}"
        if seconds > 0
        else f"no time is left: {moment} was {format_duration(-seconds)} ago"
        if seconds < 0
        else f"no time is left: it is {moment}"
    )
    source = f" ({until_reason})" if until_reason else ""
    return TimeFit(seconds >= needed_seconds, f"{what} needs about {format_duration(needed_seconds)}; {room}{source}")


def describe_shortage(
    window: Window, now: datetime, what: str, needed_seconds: float, policy: RebootPolicy, reserve_seconds: float
) -> str:
    """Return why work can't begin in a window, with all numbers in one sentence; "" if it fits.

    Before the window opens, all of it is left. ``what`` is the work that needs the least time, as a noun: "install of
    openssl".
    """
    end = window.end.astimezone(UTC)
    left_seconds = (end - max(now, window.start).astimezone(UTC)).total_seconds()
    reserved = 0.0 if policy is RebootPolicy.NEVER else max(0.0, reserve_seconds)
    if left_seconds >= needed_seconds + reserved:
        return ""
    if left_seconds <= 0:
        ended_at = format_time_with_zone(window.end, window.zone)
        return f"the window has ended: {ended_at} was {format_duration(-left_seconds)} ago"
    sum_words = f"; together {format_duration(needed_seconds + reserved)}" if reserved else ""
    reserve = f", and {format_duration(reserved)} are kept for a reboot" if reserved else ""
    return (
        f"the window has {format_duration(left_seconds)} left, until {format_time_with_zone(window.end, window.zone)}; "
        f"{what} needs about {format_duration(needed_seconds)}{reserve}{sum_words}"
    )
