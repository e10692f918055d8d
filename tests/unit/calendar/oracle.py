"""Slow, but each line is obvious: the windows that a recurrence means, found by looking at every single day."""

# ruff: noqa: DTZ001 - wall times have no zone
import bisect
import calendar
import functools
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, date, datetime, time, timedelta
from zoneinfo import ZoneInfo

from hypothesis import strategies as st

ZONES = (
    "Europe/Berlin",
    "America/New_York",
    "Australia/Lord_Howe",  # half an hour of summer time
    "Asia/Kathmandu",
    "Africa/Casablanca",  # winter time in Ramadan
    "Pacific/Apia",
    "America/St_Johns",
    "UTC",
    "Asia/Tehran",
    "America/Santiago",  # changes at midnight
)
DAYS = ("Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday", "Sunday")
NTHS = {"First": 0, "Second": 1, "Third": 2, "Fourth": 3, "Last": -1}
BEGIN, END = datetime(2026, 1, 1, tzinfo=UTC), datetime(2061, 1, 1, tzinfo=UTC)


@dataclass(frozen=True)
class Meant:
    """A recurrence as text, and what it means: does a day belong to it, given the start?"""

    text: str
    belongs: Callable[[date, date], bool]

    def __repr__(self) -> str:
        return self.text


@functools.cache
def spans(zone: str) -> tuple[tuple[datetime, datetime, timedelta], ...]:
    """From when to when (naive UTC) which offset holds: found day by day, and minute by minute where it changes."""
    here = ZoneInfo(zone)

    def offset(moment: datetime) -> timedelta:
        found = moment.replace(tzinfo=UTC).astimezone(here).utcoffset()
        assert found is not None
        return found

    begin, end = datetime(2025, 12, 1), datetime(2061, 2, 1)
    found, since, day, before = [], begin, begin, offset(begin)
    while day < end:
        after = offset(day + timedelta(days=1))
        if after != before:
            minute = day
            while offset(minute) == before:
                minute += timedelta(minutes=1)
            found.append((since, minute, before))
            since, before = minute, after
        day += timedelta(days=1)
    return (*found, (since, end, offset(since)))


def instant(wall: datetime, zone: str) -> datetime:
    """The first moment at which the clock on the wall shows this time or a later one."""
    known = spans(zone)
    near = max(0, bisect.bisect(known, (wall - timedelta(days=2),)) - 1)
    for since, until, offset in known[near:]:
        moment = max(since, wall - offset)
        if moment < until:
            return moment.replace(tzinfo=UTC)
    raise AssertionError(wall)


def windows(
    meant: Meant, start: datetime, zone: str, begin: datetime, end: datetime
) -> list[tuple[datetime, datetime]]:
    """Every window from one moment up to another: its instant and its wall time."""
    day = max(start.date(), begin.date() - timedelta(days=3))
    found = []
    while day <= end.date() + timedelta(days=3):
        if meant.belongs(day, start.date()):
            wall = datetime.combine(day, start.time())
            moment = instant(wall, zone)
            if wall >= start and begin <= moment < end:
                found.append((moment, wall))
        day += timedelta(days=1)
    return found


def months_between(day: date, start: date) -> int:
    return day.year * 12 + day.month - start.year * 12 - start.month


def _monday(day: date) -> date:
    return day - timedelta(days=day.weekday())


def _counted(number: int, unit: str) -> str:
    return f"{number}{unit}s" if number > 1 else unit


def _daily(number: int) -> Meant:
    return Meant(_counted(number, "Day"), lambda day, start: (day - start).days % number == 0)


def _weekly(number: int, days: frozenset[int]) -> Meant:
    def belongs(day: date, start: date) -> bool:
        wanted = days or {start.weekday()}
        return (_monday(day) - _monday(start)).days // 7 % number == 0 and day.weekday() in wanted

    return Meant(f"{_counted(number, 'Week')} {','.join(DAYS[day] for day in days)}".strip(), belongs)


def _month_days(number: int, days: frozenset[int]) -> Meant:
    def belongs(day: date, start: date) -> bool:
        last = calendar.monthrange(day.year, day.month)[1]
        wanted = days or {start.day}
        return months_between(day, start) % number == 0 and bool({day.day, day.day - last - 1} & wanted)

    return Meant(f"{_counted(number, 'Month')} {','.join(f'day{day}' for day in days)}".strip(), belongs)


@functools.cache
def _days_named(year: int, month: int, weekday: int) -> list[int]:
    """The days of a month that are such a weekday."""
    return [week[weekday] for week in calendar.monthcalendar(year, month) if week[weekday]]


def _nth(number: int, nth: str, weekday: int, offset: int) -> Meant:
    def named(day: date) -> bool:
        return day.day == _days_named(day.year, day.month, weekday)[NTHS[nth]]

    def belongs(day: date, start: date) -> bool:
        moved = timedelta(days=offset)
        first = start - moved if named(start - moved) else start
        return named(day - moved) and months_between(day - moved, first) % number == 0

    words = f"{_counted(number, 'Month')} {nth} {DAYS[weekday]}"
    return Meant(f"{words} Offset{offset}" if offset else words, belongs)


def recurrences() -> st.SearchStrategy[Meant]:
    """All that Azure's words can say, with offsets of any size."""
    number = st.integers(1, 5)
    days = st.integers(1, 31) | st.integers(-31, -1)
    return st.one_of(
        st.builds(_daily, st.integers(1, 40)),
        st.builds(_weekly, number, st.frozensets(st.integers(0, 6), max_size=4)),
        st.builds(_month_days, number, st.frozensets(days, max_size=4)),
        st.builds(_nth, number, st.sampled_from(sorted(NTHS)), st.integers(0, 6), st.integers(-40, 40)),
    )


def starts() -> st.SearchStrategy[datetime]:
    """Wall times, more often than not in the hours in which clocks change."""
    hours = st.sampled_from([0, 1, 2, 3, 4, 12, 22, 23])
    times = st.builds(time, hours, st.sampled_from([0, 15, 30, 59]))
    return st.builds(datetime.combine, st.dates(date(2019, 1, 1), date(2030, 12, 31)), times)
