"""The calendar of Windows hotpatches: planned and unplanned baselines, and the months of hotpatches between them. Pure.

A baseline is a cumulative update, which needs a reboot. Microsoft plans one for January, April, July and October, on
the second Tuesday. When a fix can't be a hotpatch, Microsoft publishes an unplanned baseline instead of that month's
hotpatch. Nobody can foresee those, so the calendar is a forecast. Known ones come from a file that people keep.
"""

from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import date, timedelta
from typing import Final

BASELINE_MONTHS: Final = (1, 4, 7, 10)
STALE_AFTER: Final = timedelta(days=62)
"""A file of unplanned baselines that is older than this has missed at least one publication of monthly updates."""
_TUESDAY: Final = 1
_MONTHS: Final = 12


@dataclass(frozen=True, slots=True, order=True)
class Baseline:
    """A baseline: the day of its publication, and why it is one."""

    day: date
    reason: str = ""  # of an unplanned baseline, in words; "" for a planned one
    source: str = ""
    builds: tuple[str, ...] = ()  # the builds of Windows that it is for ("20348", "26100"); empty: all

    @property
    def is_planned(self) -> bool:
        """Whether it belongs to the regular calendar."""
        return not self.reason

    def is_for(self, build: str) -> bool:
        """Return whether it is for a build of Windows; "" stands for any."""
        return not self.builds or not build or build in self.builds


@dataclass(frozen=True, slots=True)
class BaselineCalendar:
    """All baselines.

    Attributes:
        unplanned: those of the file.
        as_of: until when the file is complete; None: there is no file.
        source: the file, for messages.
    """

    unplanned: tuple[Baseline, ...] = ()
    as_of: date | None = None
    source: str = field(default="", compare=False)

    def find_next(self, today: date, build: str = "") -> Baseline:
        """Return the next baseline from a day on, that day included."""
        planned = Baseline(find_next_baseline(today))
        later = [each for each in self.unplanned if each.day >= today and each.is_for(build)]
        return min([planned, *later], key=lambda each: (each.day, each.reason))

    def find_last(self, today: date, build: str = "") -> Baseline:
        """Return the last baseline up to a day, that day included."""
        earlier = [each for each in self.unplanned if each.day <= today and each.is_for(build)]
        return max([Baseline(find_last_baseline(today)), *earlier], key=lambda each: each.day)

    def iterate(self, start: date, end: date) -> Iterator[tuple[date, Baseline | None]]:
        """Yield each day on which monthly updates are published, with its baseline, or None for a hotpatch.

        Unplanned baselines on other days are included, in the order of the days.
        """
        days: dict[date, Baseline | None] = {}
        year, month = start.year, start.month
        while (day := find_second_tuesday(year, month)) <= end:
            if day >= start:
                days[day] = Baseline(day) if month in BASELINE_MONTHS else None
            year, month = (year, month + 1) if month < _MONTHS else (year + 1, 1)
        for baseline in self.unplanned:
            if start <= baseline.day <= end and days.get(baseline.day) is None:
                days[baseline.day] = baseline
        yield from sorted(days.items())

    def describe_age(self, today: date) -> str:
        """Return that the file is too old to be relied on, or "". Without a file there is nothing to say."""
        if self.as_of is None or today - self.as_of <= STALE_AFTER:
            return ""
        return f"the list of unplanned baselines is of {self.as_of:%Y-%m-%d}: later ones are not in it"


def find_second_tuesday(year: int, month: int) -> date:
    """Return the day on which Microsoft publishes the updates of a month."""
    first = date(year, month, 1)
    return first.replace(day=1 + (_TUESDAY - first.weekday()) % 7 + 7)


def find_next_baseline(today: date) -> date:
    """Return the day of the next planned baseline: the second Tuesday of a quarter's first month."""
    return min(day for day in _list_baselines(today.year, today.year + 1) if day >= today)


def find_last_baseline(today: date) -> date:
    """Return the day of the last planned baseline."""
    return max(day for day in _list_baselines(today.year - 1, today.year) if day <= today)


def _list_baselines(*years: int) -> list[date]:
    return [find_second_tuesday(year, month) for year in years for month in BASELINE_MONTHS]


def find_release_month(today: date) -> int:
    """Return the month of the newest monthly updates: until its second Tuesday, a month has those of the one before."""
    is_out = today >= find_second_tuesday(today.year, today.month)
    return today.month if is_out else (today.month - 2) % _MONTHS + 1
