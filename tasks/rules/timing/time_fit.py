"""Checks whether work fits into the remaining time, and explains the calculation. Pure."""

from dataclasses import dataclass
from datetime import UTC, datetime

from tasks.domain.model import Window
from tasks.domain.states import RebootPolicy
from tasks.rules.calendar.time_format import format_duration, format_time_with_zone


@dataclass(frozen=True, slots=True)
class TimeFit:
    """Whether work fits into the remaining time, with the calculation as a sentence."""

    fits: bool
    explanation: str


def check_time_fit(
    now: datetime, needed_seconds: float, until: datetime, what: str, until_reason: str, *, zone: str = ""
) -> TimeFit:
    """Return whether ``needed_seconds`` fit between ``now`` and ``until``, with the calculation as a sentence.

    Args:
        now: when the work would begin.
        needed_seconds: predicted duration of the work.
        until: when the work must end.
        what: the work, as a noun: "install of 3 updates".
        until_reason: source of ``until`` (see ``describe_cut_off``); may be empty.
        zone: IANA name of the zone for display; the zone of ``until`` when empty.
    """
    left = (until.astimezone(UTC) - now.astimezone(UTC)).total_seconds()
    moment = format_time_with_zone(until, zone)
    room = (
        f"{format_duration(left)} {'is' if left < 1.5 else 'are'} left until {moment}"
        if left > 0
        else f"no time is left: {moment} was {format_duration(-left)} ago"
        if left < 0
        else f"no time is left: it is {moment}"
    )
    source = f" ({until_reason})" if until_reason else ""
    return TimeFit(left >= needed_seconds, f"{what} needs about {format_duration(needed_seconds)}; {room}{source}")


def describe_shortage(
    window: Window, now: datetime, what: str, needed_seconds: float, policy: RebootPolicy, reserve_seconds: float
) -> str:
    """Return why work can't begin in a window, with all numbers in one sentence; "" if it fits.

    Args:
        window: the window.
        now: the present time. Before the window opens, all of it is left.
        what: the work that needs the least time, as a noun: "install of openssl".
        needed_seconds: predicted duration of this work.
        policy: the reboot policy; with Never no time is kept.
        reserve_seconds: the time that is kept for a reboot.
    """
    end = window.end.astimezone(UTC)
    left = (end - max(now, window.start).astimezone(UTC)).total_seconds()
    kept = 0.0 if policy is RebootPolicy.NEVER else max(0.0, reserve_seconds)
    if left >= needed_seconds + kept:
        return ""
    if left <= 0:
        return (
            f"the window has ended: {format_time_with_zone(window.end, window.zone)} was {format_duration(-left)} ago"
        )
    sum_words = f"; together {format_duration(needed_seconds + kept)}" if kept else ""
    reserve = f", and {format_duration(kept)} are kept for a reboot" if kept else ""
    return (
        f"the window has {format_duration(left)} left, until {format_time_with_zone(window.end, window.zone)}; "
        f"{what} needs about {format_duration(needed_seconds)}{reserve}{sum_words}"
    )
