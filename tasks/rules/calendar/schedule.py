"""When windows open: a recurrence, a start, a length and a zone become instants.

- Intervals count from the start's day, week (from Monday), month or year.
- Dates and times are wall time in the zone, across changes of the clocks, as Azure's ``maintenanceWindow`` has it. What
  happens to a time that doesn't exist, or exists twice, is said in ``clocks.instant``.
- A window's length is real, elapsed time. Recurring hours are elapsed time as well.
- A window is an interval that includes its start and not its end. None opens at or after ``expires``; one that is open
  then goes on to its end.
"""

import itertools
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import lru_cache
from math import ceil

from tasks.errors import RequestError
from tasks.rules.calendar.clocks import instant, wall_at
from tasks.rules.calendar.dates import walls
from tasks.rules.calendar.kinds import Either, Hours, Once, Recurrence, Rule
from tasks.rules.window import zone_of

_MAX_MINUTES = 31 * 24 * 60
_YEARS = range(1970, 3000)
_REACH = timedelta(days=2)
"""Zones have jumped over a whole day (Pacific/Apia, 2011-12-30): a wall time may mean an instant a day later."""


@dataclass(frozen=True, slots=True)
class Schedule:
    """Windows that recur.

    Attributes:
        recurrence: how; see ``recurrence.parse``.
        start: naive wall time in ``zone``, to the minute: no window opens earlier, intervals count from here. The start
            itself is a window only when the recurrence names it.
        minutes: how long each window lasts, in real time; more than 0, at most 31 days.
        zone: IANA name.
        expires: naive wall time in ``zone``; no window opens then or later.
    """

    recurrence: Recurrence
    start: datetime
    minutes: float
    zone: str
    expires: datetime | None = None

    def __post_init__(self) -> None:
        """Refuse what can't be meant.

        Raises:
            RequestError: naming it.
        """
        zone_of(self.zone)
        for name, moment in (("start", self.start), ("expiry", self.expires)):
            if moment is not None and moment.tzinfo is not None:
                raise RequestError(
                    f"the window's {name} {moment.isoformat()} has an offset",
                    hint=f"Give it as the clock on the wall shows it in {self.zone}, without an offset.",
                )
        if self.start.year not in _YEARS or self.start.second or self.start.microsecond:
            raise RequestError(
                f"a window can't start at {self.start.isoformat(sep=' ')}",
                hint=f"Give a date from {_YEARS.start} to {_YEARS.stop - 1} and a time in hours and minutes.",
            )
        if not 0 < self.minutes <= _MAX_MINUTES:
            raise RequestError(
                f"a window of {self.minutes:g} minutes is not possible",
                hint=f"Give more than 0 and at most {_MAX_MINUTES} minutes.",
            )


@dataclass(frozen=True, slots=True)
class Occurrence:
    """One window.

    Attributes:
        start: UTC.
        end: UTC; the first instant that no longer belongs to it.
        local: the wall time in the schedule's zone that was meant, naive.
        note: empty, or what a change of the clocks does to it.
    """

    start: datetime
    end: datetime
    local: datetime
    note: str = ""


def occurrences(
    schedule: Schedule, after: datetime, *, until: datetime | None = None, limit: int | None = None
) -> Iterator[Occurrence]:
    """Yield the windows that open from ``after`` on, in order, no two at the same instant.

    Args:
        schedule: what recurs.
        after: aware; a window that opens at this very instant is the first.
        until: aware; windows that open at or after it are left out. None: no end (but nothing after the year 9990).
        limit: at most so many.

    Raises:
        ValueError: a moment without a zone.
    """
    for moment in (after, until):
        if moment is not None and moment.tzinfo is None:
            raise ValueError(f"{moment.isoformat()} has no zone")
    found = _all(schedule, after.astimezone(UTC))
    if until is not None:
        end = until.astimezone(UTC)
        found = itertools.takewhile(lambda occurrence: occurrence.start < end, found)
    return itertools.islice(found, limit)


@lru_cache(maxsize=2048)
def windows_between(schedule: Schedule, since: datetime, until: datetime) -> tuple[Occurrence, ...]:
    """Return the windows that open between two moments (aware). Who looks at a fleet asks for the same ones again."""
    return tuple(occurrences(schedule, since, until=until))


def open_at(schedule: Schedule, moment: datetime) -> Occurrence | None:
    """Return the window that is open at a moment (aware); of several, the one that opened last."""
    before = moment.astimezone(UTC) - timedelta(minutes=schedule.minutes)
    found = None
    for occurrence in occurrences(schedule, before, until=moment.astimezone(UTC) + timedelta(microseconds=1)):
        found = occurrence if occurrence.end > moment else found
    return found


def _all(schedule: Schedule, after: datetime) -> Iterator[Occurrence]:
    length = timedelta(minutes=schedule.minutes)
    last = None
    moments = (
        _elapsed(schedule, schedule.recurrence, after)
        if isinstance(schedule.recurrence, Hours)
        else _named(schedule, schedule.recurrence, after)
    )
    for start, local, note in moments:
        if schedule.expires is not None and local >= schedule.expires:
            return
        if start < after or start == last:  # a time that was jumped over may fall onto one that was not
            continue
        last = start
        yield Occurrence(start, start + length, local, note)


def _elapsed(schedule: Schedule, hours: Hours, after: datetime) -> Iterator[tuple[datetime, datetime, str]]:
    first, note = instant(schedule.start, schedule.zone)
    step = timedelta(hours=hours.every)
    for number in itertools.count(max(0, ceil((after - first) / step))):
        start = first + number * step
        if number:
            yield start, wall_at(start, schedule.zone), ""
        else:
            yield start, schedule.start, note


def _named(
    schedule: Schedule, recurrence: Once | Rule | Either, after: datetime
) -> Iterator[tuple[datetime, datetime, str]]:
    since = wall_at(after, schedule.zone) - _REACH
    last = recurrence.until if isinstance(recurrence, Rule) else None
    for wall in walls(recurrence, schedule.start, since):
        start, note = instant(wall, schedule.zone)
        if last is not None and last.tzinfo is not None and start > last:
            return
        yield start, wall, note
