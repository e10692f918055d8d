"""Windows: when patching may happen, and whether something still fits. All arithmetic is done in UTC.

Datetimes that share a zone are subtracted and compared by the hands of the clock, which is wrong in the night that the
clocks change. So windows and cut-offs are kept in UTC and only shown in their zone.
"""

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo

from tasks.errors import RequestError
from tasks.model import Window
from tasks.states import RebootPolicy

_DAY, _HOUR, _MINUTE = 86_400, 3_600, 60
_MAX_MINUTES = 31 * 24 * 60
_EARLIEST = datetime(1970, 1, 2, tzinfo=UTC)  # every zone can show it, and so can every machine's clock
_FURTHEST = timedelta(days=366)
"""A run waits for its window: one that opens later than this is a year that was mistyped."""


@dataclass(frozen=True, slots=True)
class Fit:
    """Whether something fits into the time that is left, and the sum that shows it."""

    fits: bool
    arithmetic: str


def window(start: datetime | None, minutes: float, zone: str, now: datetime) -> Window:
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
    zone_of(zone)
    if not 0 < minutes <= _MAX_MINUTES:
        raise RequestError(
            f"a window of {minutes:g} minutes is not possible",
            hint=f"Give more than 0 and at most {_MAX_MINUTES} minutes.",
        )
    opens = now if start is None else start
    try:
        opens = (read_local(opens, zone) if opens.tzinfo is None else opens).astimezone(UTC)
        if not _EARLIEST <= opens <= now + _FURTHEST:
            raise OverflowError
        return Window(start=opens, end=opens + timedelta(minutes=minutes), zone=zone)
    except OverflowError as error:
        hint = "Correct the year of the window's start; a run waits for its window, but no longer than a year."
        raise RequestError(f"{opens:%Y-%m-%d %H:%M} is too far away", hint=hint) from error


def read_local(naive: datetime, zone: str) -> datetime:
    """Return a time without an offset as it is in a zone; one that happens twice is the first of the two.

    Raises:
        RequestError: the zone is unknown, or the clocks jump over that time.
        OverflowError: the calendar ends there.
    """
    here = zone_of(zone)
    local = naive.replace(tzinfo=here, fold=0)
    back = local.astimezone(UTC).astimezone(here)
    if back.replace(tzinfo=None, fold=0) != naive.replace(fold=0):
        raise RequestError(
            f"{naive:%Y-%m-%d %H:%M} does not exist in {zone}: the clocks are put forward over it",
            hint=f"Take {back:%H:%M} that day, or a time before the jump, or give it in UTC.",
        )
    return local


def zone_of(name: str) -> ZoneInfo:
    """Return a time zone.

    Raises:
        RequestError: there is none of that name.
    """
    try:
        return ZoneInfo(name)
    except (ValueError, OSError, KeyError) as error:  # bad key, key that is a directory, no such key
        raise RequestError(
            f"there is no time zone {name!r}", hint='Give an IANA name such as "Europe/Berlin" or "UTC".'
        ) from error


def window_seconds(window: Window) -> float:
    """Return how long a window is, in seconds of real time."""
    return (window.end.astimezone(UTC) - window.start.astimezone(UTC)).total_seconds()


def cut_off(window: Window, policy: RebootPolicy, reserve_seconds: float) -> datetime:
    """Return the moment (in UTC) by which installing must be over: the end, less what is kept for a reboot.

    Nothing is kept when the machine is never rebooted. Never before the window's start.
    """
    if policy is RebootPolicy.NEVER:
        return window.end
    return max(window.start, window.end - timedelta(seconds=max(0.0, reserve_seconds)))


def why_cut_off(window: Window, policy: RebootPolicy, reserve_seconds: float) -> str:
    """Return in words how ``cut_off`` came about: "window ends 03:00 CET, 15 min kept for a reboot"."""
    length = window_seconds(window)
    if policy is not RebootPolicy.NEVER and reserve_seconds >= length:
        return f"the window is {say_duration(length)} long, and {say_duration(reserve_seconds)} are kept for a reboot"
    ends = f"window ends {say_time(window.end, window.zone)}"
    if policy is RebootPolicy.NEVER:
        return f"{ends}, no time kept because it is never rebooted"
    return f"{ends}, {say_duration(reserve_seconds)} kept for a reboot" if reserve_seconds > 0 else ends


def fit(now: datetime, needed_seconds: float, until: datetime, what: str, why_until: str, *, zone: str = "") -> Fit:
    """Return whether ``needed_seconds`` fit between ``now`` and ``until``, with the arithmetic as a sentence.

    Args:
        now: when it would begin.
        needed_seconds: how long it is expected to take.
        until: when it must be over.
        what: what needs the time, as a noun: "install of 3 updates".
        why_until: where ``until`` comes from (see ``why_cut_off``); may be empty.
        zone: IANA name that times are shown in; ``until``'s own when empty.
    """
    left = (until.astimezone(UTC) - now.astimezone(UTC)).total_seconds()
    moment = say_time(until, zone)
    room = (
        f"{say_duration(left)} {'is' if left < 1.5 else 'are'} left until {moment}"
        if left > 0
        else f"no time is left: {moment} was {say_duration(-left)} ago"
        if left < 0
        else f"no time is left: it is {moment}"
    )
    source = f" ({why_until})" if why_until else ""
    return Fit(left >= needed_seconds, f"{what} needs about {say_duration(needed_seconds)}; {room}{source}")


def overrun(window: Window, ended_at: datetime) -> float:
    """Return by how many seconds ``ended_at`` passed the window's end; 0 when it did not."""
    return max(0.0, (ended_at.astimezone(UTC) - window.end.astimezone(UTC)).total_seconds())


def describe(window: Window) -> str:
    """Return the window in words: "2026-11-21 01:00 to 03:00 CET (2 h)"."""
    here = zone_of(window.zone)
    start, end = window.start.astimezone(here), window.end.astimezone(here)
    length = window_seconds(window)
    # Between two dates, or across a change of the clocks, each end needs all its parts to be understood.
    same_offset = start.utcoffset() == end.utcoffset()
    first = _clock(start) if same_offset else f"{_clock(start)} {_abbreviation(start)}"
    last = _clock(end) if start.date() == end.date() else f"{end:%Y-%m-%d} {_clock(end)}"
    return f"{start:%Y-%m-%d} {first} to {last} {_abbreviation(end)} ({say_duration(length)})"


def say_time(moment: datetime, zone: str = "") -> str:
    """Return the time of day with its zone's abbreviation: "02:45 CET". Seconds only when there are any."""
    local = moment.astimezone(zone_of(zone)) if zone else moment
    return f"{_clock(local)} {_abbreviation(local)}"


def _clock(local: datetime) -> str:
    return f"{local:%H:%M:%S}" if local.second else f"{local:%H:%M}"


def _abbreviation(local: datetime) -> str:
    name = local.tzname() or ""
    return f"UTC{name}" if name.startswith(("+", "-")) else name  # many zones have no letters, only "+03"


def say_duration(seconds: float) -> str:
    """Return seconds in words, in at most two units: "45 s", "4 min 10 s", "2 h 5 min", "1 d 3 h"."""
    if seconds < 0:
        return f"minus {say_duration(-seconds)}"
    whole = round(seconds)
    if whole >= _HOUR:  # nobody reads seconds beside hours, nor minutes beside days
        step = _HOUR if whole >= _DAY else _MINUTE
        whole = round(whole / step) * step
    parts: list[str] = []
    for size, unit in ((_DAY, "d"), (_HOUR, "h"), (_MINUTE, "min"), (1, "s")):
        count, whole = divmod(whole, size)
        if count:
            parts.append(f"{count} {unit}")
    return " ".join(parts[:2]) or "0 s"
