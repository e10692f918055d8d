"""The grid of one month: weeks from Monday, each day with its windows and freezes. Pure."""

import re
from collections.abc import Iterable, Sequence
from datetime import UTC, date, datetime, time, timedelta
from zoneinfo import ZoneInfo

from deployments.preview.window_calendar import CalendarFreeze
from inventory.data_class import dataclass
from tasks.domain.rows.windows import WindowKind, WindowRow
from tasks.rules.calendar.local_time import wall_time_to_utc

DAY = timedelta(days=1)
SHOWN_ENTRIES = 4
"""Entries of a day that the grid shows at once; the others are folded."""
FOLDED_ENTRIES = 16
_MONTH = re.compile(r"(\d{4})-(\d{2})")
_YEARS = range(1971, 2999)
"""The years of calendars: at the ends of Python's dates, zones and lengths of windows lead out of them."""


@dataclass(frozen=True, slots=True)
class MonthEntry:
    """Windows of one configuration that are shown as one: with each machine's own zone they open one after the other.

    Attributes:
        start: of the first window, in the zone of the calendar.
        end: of the last one; None: not known.
        later_days: how many days after its start it ends.
        machines: of all windows.
    """

    windows: tuple[WindowRow, ...]
    configuration: str
    start: datetime
    end: datetime | None
    later_days: int
    machines: int
    kind: WindowKind
    is_void: bool
    overlaps: tuple[str, ...]

    @property
    def zones(self) -> frozenset[str]:
        """The time zones of its windows."""
        return frozenset(window.zone for window in self.windows)

    @property
    def first(self) -> WindowRow:
        """The first window."""
        return self.windows[0]


@dataclass(frozen=True, slots=True)
class CalendarDay:
    """A day of the grid. ``shown`` and ``folded`` are entries of the grid, ``hidden`` how many it does not have."""

    day: date
    is_in_month: bool
    is_today: bool
    entries: tuple[MonthEntry, ...]
    freezes: tuple[CalendarFreeze, ...]

    @property
    def shown(self) -> tuple[MonthEntry, ...]:
        """The entries that are seen at once."""
        return self.entries if len(self.entries) <= SHOWN_ENTRIES + 1 else self.entries[:SHOWN_ENTRIES]

    @property
    def folded(self) -> tuple[MonthEntry, ...]:
        """The next entries."""
        return self.entries[len(self.shown) :][:FOLDED_ENTRIES]

    @property
    def hidden(self) -> int:
        """Number of entries that only the list has."""
        return len(self.entries) - len(self.shown) - len(self.folded)


@dataclass(frozen=True, slots=True)
class CalendarMonth:
    """The days that a grid shows: whole weeks. ``since`` and ``until`` are its first and last instant, in UTC."""

    first: date
    zone: str
    days: tuple[date, ...]
    since: datetime
    until: datetime

    @property
    def previous(self) -> str:
        """The month before, for URLs."""
        return f"{self.first - DAY:%Y-%m}"

    @property
    def next(self) -> str:
        """The month after, for URLs."""
        return f"{self.first + 32 * DAY:%Y-%m}"


def parse_month(text: str, today: date) -> date:
    """Return the first day of a month such as "2026-11"; of the present month if it is none."""
    match = _MONTH.fullmatch(text)
    if match and int(match[1]) in _YEARS and 1 <= int(match[2]) <= 12:
        return date(int(match[1]), int(match[2]), 1)
    return today.replace(day=1)


def build_month(first: date, zone: str) -> CalendarMonth:
    """Return the days of a month's grid.

    Args:
        first: the first day of the month.
        zone: IANA name.
    """
    start = first - first.weekday() * DAY
    last = (first + 32 * DAY).replace(day=1) - DAY
    end = last + (7 - last.weekday()) * DAY
    days = tuple(start + number * DAY for number in range((end - start).days))
    since, until = (wall_time_to_utc(datetime.combine(day, time()), zone)[0] for day in (start, end))
    return CalendarMonth(first, zone, days, since, until)


def build_weeks(
    month: CalendarMonth, windows: Sequence[WindowRow], freezes: Iterable[CalendarFreeze], now: datetime
) -> tuple[tuple[CalendarDay, ...], ...]:
    """Return the weeks of a grid."""
    zone = ZoneInfo(month.zone)
    entries: dict[date, list[MonthEntry]] = {}
    for entry in _join_windows(windows, zone):
        entries.setdefault(entry.start.date(), []).append(entry)
    frozen = [(_to_days(freeze, zone), freeze) for freeze in freezes]
    today = now.astimezone(zone).date()
    days = [
        CalendarDay(
            day,
            is_in_month=day.month == month.first.month,
            is_today=day == today,
            entries=tuple(entries.get(day, ())),
            freezes=tuple(freeze for (first, last), freeze in frozen if first <= day <= last),
        )
        for day in month.days
    ]
    return tuple(tuple(days[start : start + 7]) for start in range(0, len(days), 7))


def _to_days(freeze: CalendarFreeze, zone: ZoneInfo) -> tuple[date, date]:
    last = max(freeze.start, freeze.end - timedelta(microseconds=1))
    return freeze.start.astimezone(zone).date(), last.astimezone(zone).date()


def _join_windows(windows: Sequence[WindowRow], zone: ZoneInfo) -> list[MonthEntry]:
    """Join the windows of a configuration in several zones on one day, if they are of one kind."""
    groups: dict[tuple[object, ...], list[WindowRow]] = {}
    for number, window in enumerate(windows):
        local = window.start.astimezone(ZoneInfo(window.zone)) if window.zone else None
        wall = local.replace(tzinfo=None) if local is not None else number
        day = window.start.astimezone(zone).date()
        fold = local.fold if local is not None else 0  # the same wall time comes twice when clocks go back
        key = (window.configuration, day, wall, fold, window.kind, window.run_state, window.reason)
        groups.setdefault(key, []).append(window)
    entrys = [_build_entry(tuple(group), zone) for group in groups.values()]
    return sorted(entrys, key=lambda window: (window.start, window.configuration))


def _build_entry(windows: tuple[WindowRow, ...], zone: ZoneInfo) -> MonthEntry:
    first = windows[0]
    start = first.start.astimezone(zone)
    ends = [window.end for window in windows if window.end is not None]
    end = max(ends).astimezone(zone) if ends else None
    return MonthEntry(
        windows=windows,
        configuration=first.configuration,
        start=start,
        end=end,
        later_days=(end.date() - start.date()).days if end is not None else 0,
        machines=sum(window.machines for window in windows),
        kind=first.kind,
        is_void=first.is_void,
        overlaps=tuple(sorted({name for window in windows for name in window.overlaps})),
    )


def find_today(now: datetime, zone: str) -> date:
    """Return the present day in a zone."""
    return now.astimezone(UTC).astimezone(ZoneInfo(zone)).date()
