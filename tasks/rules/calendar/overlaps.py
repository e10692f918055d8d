"""Looks at schedules before the night comes: windows that collide, gaps, and what can't be meant."""

import heapq
import itertools
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from enum import StrEnum

from tasks.rules.calendar.freezes import Freeze, frozen
from tasks.rules.calendar.kinds import Either, Rule
from tasks.rules.calendar.schedule import Occurrence, Schedule, occurrences, open_at, windows_between
from tasks.rules.window import say_duration

_YEAR = timedelta(days=366)
_SHORT_MINUTES = 10  # a reboot alone is given 15 minutes; Azure starts no update with less than 15 left
_NAMED = 3


class Severity(StrEnum):
    """What a finding does to the configuration that it was found in."""

    BLOCKS = "blocks"
    WARNS = "warns"


@dataclass(frozen=True, slots=True)
class Finding:
    """Something about a schedule that a person should know before it is deployed.

    Attributes:
        severity: whether it can be deployed at all.
        key: what it is about: "length", "expiry", "dates", "clocks", "start" or "days".
        message: a sentence.
        remedy: what to do about it.
    """

    severity: Severity
    key: str
    message: str
    remedy: str


@dataclass(frozen=True, slots=True)
class Overlap:
    """Two windows of one machine that are open at once; ``first`` opened first. The same name twice: one schedule."""

    first: str
    second: str
    start: datetime
    end: datetime


@dataclass(frozen=True, slots=True)
class Gap:
    """A stretch in which a machine has no window (both ends in UTC)."""

    start: datetime
    end: datetime


def overlapping(
    schedules: Mapping[str, Schedule], since: datetime, until: datetime, freezes: Iterable[Freeze] = ()
) -> Iterator[Overlap]:
    """Yield every pair of windows that overlap, in the order in which they begin to.

    Args:
        schedules: by name; those that patch one machine.
        since: aware; windows that open from here on are looked at.
        until: aware; windows that open from here on are not.
        freezes: windows that fall into one don't open.
    """
    still: list[tuple[str, Occurrence]] = []
    for name, window in _windows(schedules, since, until, freezes):
        still = [(other, earlier) for other, earlier in still if earlier.end > window.start]
        for other, earlier in still:
            yield Overlap(other, name, window.start, min(window.end, earlier.end))
        still.append((name, window))


def gaps(
    schedules: Mapping[str, Schedule],
    since: datetime,
    until: datetime,
    at_least: timedelta,
    freezes: Iterable[Freeze] = (),
) -> Iterator[Gap]:
    """Yield the stretches of at least so long, between two moments, in which no window is open."""
    longest = max((timedelta(minutes=schedule.minutes) for schedule in schedules.values()), default=timedelta())
    free = since
    for _, window in _windows(schedules, since - longest, until, freezes):
        if window.start > free and window.start - free >= at_least:
            yield Gap(free, window.start)
        free = max(free, window.end)
    if until > free and until - free >= at_least:
        yield Gap(free, until)


def check(schedule: Schedule, now: datetime) -> list[Finding]:
    """Return what is wrong, or surprising, about a schedule within the next two years.

    Args:
        schedule: to look at.
        now: aware.
    """
    following = windows_between(schedule, now + _YEAR, now + 2 * _YEAR)  # who checks asks for the first year again
    ahead = [*windows_between(schedule, now, now + _YEAR), *following]
    if not ahead and open_at(schedule, now) is None and next(occurrences(schedule, now), None) is None:
        return [_never(schedule)]
    found = [_length(schedule), _collision(ahead), _start(schedule), _days(schedule), _clocks(ahead)]
    return [finding for finding in found if finding is not None]


def _windows(
    schedules: Mapping[str, Schedule], since: datetime, until: datetime, freezes: Iterable[Freeze]
) -> Iterator[tuple[str, Occurrence]]:
    held = tuple(freezes)

    def named(name: str) -> Iterator[tuple[datetime, str, Occurrence]]:
        for window in occurrences(schedules[name], since, until=until):
            if frozen(window, held) is None:
                yield window.start, name, window

    for _, name, window in heapq.merge(*map(named, schedules), key=lambda entry: entry[:2]):
        yield name, window


def _never(schedule: Schedule) -> Finding:
    first = next(occurrences(schedule, _before(schedule)), None)
    if first is None:
        message = f"{str(schedule.recurrence)!r} from {schedule.start:%Y-%m-%d %H:%M} on never has a window"
        remedy = "Look for a day that its month doesn't have, or an expiry before the first window."
        return Finding(Severity.BLOCKS, "dates", message, remedy)
    message = "its last window is over; there are no more"
    return Finding(Severity.BLOCKS, "expiry", message, "Give a later expiry, or remove the configuration.")


def _length(schedule: Schedule) -> Finding | None:
    if schedule.minutes >= _SHORT_MINUTES:
        return None
    message = f"a window of {say_duration(schedule.minutes * 60)} holds no update, and no reboot"
    return Finding(Severity.WARNS, "length", message, "Give it an hour or more: a reboot alone is given 15 minutes.")


def _collision(ahead: list[Occurrence]) -> Finding | None:
    for window, following in itertools.pairwise(ahead):
        if window.end > following.start:
            over = say_duration((window.end - following.start).total_seconds())
            message = f"the window of {window.local:%Y-%m-%d %H:%M} ends {over} after the next one opens"
            remedy = "Make the windows shorter, or let them recur less often."
            return Finding(Severity.BLOCKS, "length", message, remedy)
    return None


def _start(schedule: Schedule) -> Finding | None:
    """Warn where intervals count from a start that is no window: which week is meant is then easily mistaken."""
    first = next(occurrences(schedule, _before(schedule)), None)
    counts = isinstance(schedule.recurrence, Rule) and schedule.recurrence.interval > 1
    if not counts or first is None or first.local.date() == schedule.start.date():
        return None
    message = f"it counts from {schedule.start:%Y-%m-%d}, but its first window is {first.local:%Y-%m-%d %H:%M}"
    return Finding(Severity.WARNS, "start", message, "Let it start on its first date, or leave it if that is meant.")


def _days(schedule: Schedule) -> Finding | None:
    if not isinstance(schedule.recurrence, Either):
        return None
    message = f"cron reads {str(schedule.recurrence)!r} as these days of the month and also these days of the week"
    remedy = 'For "both at once" write for instance "0 22 * * TUE#2" or "Month Second Tuesday".'
    return Finding(Severity.WARNS, "days", message, remedy)


def _clocks(ahead: list[Occurrence]) -> Finding | None:
    touched = [window for window in ahead if window.note]
    if not touched:
        return None
    more = f" (and {len(touched) - _NAMED} more)" if len(touched) > _NAMED else ""
    message = "; ".join(window.note for window in touched[:_NAMED]) + more
    return Finding(Severity.WARNS, "clocks", message, "Choose a time outside the hours in which the clocks change.")


def _before(schedule: Schedule) -> datetime:
    """Return a moment that lies before the schedule's start in every zone."""
    return schedule.start.replace(tzinfo=UTC) - timedelta(days=2)
