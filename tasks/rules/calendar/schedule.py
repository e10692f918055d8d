"""Computes when windows open, from a recurrence, a start, a length and a zone.

- Intervals count from the start's day, week (from Monday), month or year.
- Dates and times are wall time in the zone, also across clock changes, as in Azure's ``maintenanceWindow``.
  ``local_time.wall_time_to_utc`` describes times that do not exist or occur twice.
- The length of a window is elapsed time. Recurring hours are elapsed time too.
- A window includes its start and excludes its end. No window opens at or after ``expires``; an open window continues to
  its end.
"""

import itertools
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from functools import lru_cache
from math import ceil

from inventory.data_class import dataclass
from tasks.domain.errors import RequestError
from tasks.rules.calendar.local_time import get_time_zone, to_wall_time, wall_time_to_utc
from tasks.rules.recurrence.expansion import iterate_wall_times
from tasks.rules.recurrence.model import CronUnion, EveryHours, Once, Recurrence, RecurrenceRule

_MAX_WINDOW_MINUTES = 31 * 24 * 60
_ALLOWED_YEARS = range(1970, 3000)
_SEARCH_MARGIN = timedelta(days=2)
"""A zone may skip a whole day (Pacific/Apia, 2011-12-30): the instant of a wall time may be a day later."""


def require_window_minutes(minutes: float) -> None:
    """Raise RequestError if a window may not have this length: more than 0, at most 31 days."""
    if not 0 < minutes <= _MAX_WINDOW_MINUTES:
        raise RequestError(
            f"a window of {minutes:g} minutes is not possible",
            hint=f"Give more than 0 and at most {_MAX_WINDOW_MINUTES} minutes.",
        )


@dataclass(frozen=True, slots=True)
class Schedule:
    """The rule that says when windows open."""

    recurrence: Recurrence  # the recurrence; see ``parse_recurrence``
    # Naive wall time in ``zone``, to the minute. No window opens earlier; intervals count from here. A window opens at
    # the start only when the recurrence includes it.
    start: datetime
    minutes: float  # length of each window in elapsed time; more than 0, at most 31 days
    zone: str  # IANA name of the zone
    expires: datetime | None = None  # naive wall time in ``zone``; no window opens at this time or later

    def __post_init__(self) -> None:
        """Raise RequestError, which names it, if a value is invalid."""
        get_time_zone(self.zone)
        for name, moment in (("start", self.start), ("expiry", self.expires)):
            if moment is not None and moment.tzinfo is not None:
                raise RequestError(
                    f"the window's {name} {moment.isoformat()} has an offset",
                    hint=f"Give it as the clock on the wall shows it in {self.zone}, without an offset.",
                )
        if self.start.year not in _ALLOWED_YEARS or self.start.second or self.start.microsecond:
            raise RequestError(
                f"a window can't start at {self.start.isoformat(sep=' ')}",
                hint=f"Give a date from {_ALLOWED_YEARS.start} to {_ALLOWED_YEARS.stop - 1} "
                "and a time in hours and minutes.",
            )
        require_window_minutes(self.minutes)


@dataclass(frozen=True, slots=True)
class Occurrence:
    """One window of a schedule."""

    start: datetime  # UTC
    end: datetime  # UTC; the first instant after the window
    local_start: datetime  # the scheduled wall time in the schedule's zone, naive
    note: str = ""  # the effect of a clock change on the window, or ""


def iterate_occurrences(
    schedule: Schedule, after: datetime, *, until: datetime | None = None, limit: int | None = None
) -> Iterator[Occurrence]:
    """Yield the windows that open from ``after`` on, in order. Each start is unique.

    A window that opens at exactly ``after`` is included, one at ``until`` is not; both are aware. None: no end
    (but nothing after year 9990). ``limit`` is the maximum number of windows; None: no limit.

    Raises:
        ValueError: a time has no zone.
    """
    for moment in (after, until):
        if moment is not None and moment.tzinfo is None:
            raise ValueError(f"{moment.isoformat()} has no zone")
    occurrences = _iterate_from(schedule, after.astimezone(UTC))
    if until is not None:
        end = until.astimezone(UTC)
        occurrences = itertools.takewhile(lambda occurrence: occurrence.start < end, occurrences)
    return itertools.islice(occurrences, limit)


@lru_cache(maxsize=2048)
def find_occurrences(schedule: Schedule, since: datetime, until: datetime) -> tuple[Occurrence, ...]:
    """Return the windows that open between two aware times. Cached: many machines have the same schedule."""
    return tuple(iterate_occurrences(schedule, since, until=until))


def find_open_occurrence(schedule: Schedule, moment: datetime) -> Occurrence | None:
    """Return the window that is open at an aware time; of several, the one that opened last."""
    before = moment.astimezone(UTC) - timedelta(minutes=schedule.minutes)
    last_open = None
    for occurrence in iterate_occurrences(schedule, before, until=moment.astimezone(UTC) + timedelta(microseconds=1)):
        last_open = occurrence if occurrence.end > moment else last_open
    return last_open


def has_window_left(schedule: Schedule, moment: datetime) -> bool:
    """Return whether a window is open at an aware time, or opens later. Without one the schedule is over."""
    return (
        find_open_occurrence(schedule, moment) is not None
        or next(iterate_occurrences(schedule, moment), None) is not None
    )


def _iterate_from(schedule: Schedule, after: datetime) -> Iterator[Occurrence]:
    length = timedelta(minutes=schedule.minutes)
    last = None
    moments = (
        _iterate_hourly_starts(schedule, schedule.recurrence, after)
        if isinstance(schedule.recurrence, EveryHours)
        else _iterate_wall_time_starts(schedule, schedule.recurrence, after)
    )
    for start, local, note in moments:
        if schedule.expires is not None and local >= schedule.expires:
            return
        if start < after or start == last:  # a skipped time may become the same instant as another time
            continue
        last = start
        yield Occurrence(start, start + length, local, note)


def _iterate_hourly_starts(
    schedule: Schedule, hours: EveryHours, after: datetime
) -> Iterator[tuple[datetime, datetime, str]]:
    first, note = wall_time_to_utc(schedule.start, schedule.zone)
    step = timedelta(hours=hours.interval)
    for number in itertools.count(max(0, ceil((after - first) / step))):
        start = first + number * step
        yield (start, to_wall_time(start, schedule.zone), "") if number else (start, schedule.start, note)


def _iterate_wall_time_starts(
    schedule: Schedule, recurrence: Once | RecurrenceRule | CronUnion, after: datetime
) -> Iterator[tuple[datetime, datetime, str]]:
    since = to_wall_time(after, schedule.zone) - _SEARCH_MARGIN
    last = recurrence.until if isinstance(recurrence, RecurrenceRule) else None
    for wall in iterate_wall_times(recurrence, schedule.start, since):
        start, note = wall_time_to_utc(wall, schedule.zone)
        if last is not None and last.tzinfo is not None and start > last:
            return
        yield start, wall, note
