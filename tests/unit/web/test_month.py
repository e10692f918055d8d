"""The grid of a month, in zones with clock changes."""

from dataclasses import replace
from datetime import UTC, date, datetime, timedelta
from itertools import pairwise
from typing import Any

import pytest

from deployments.preview.window_calendar import CalendarFreeze
from fleetpatch.windows.month import FOLDED_ENTRIES, SHOWN_ENTRIES, build_month, build_weeks, parse_month
from tasks.domain.rows.windows import WindowKind, WindowRow

NOW = datetime(2026, 11, 23, 12, tzinfo=UTC)


def make_window(start: datetime, **changes: Any) -> WindowRow:
    base = WindowRow(
        configuration="weekly",
        zone="UTC",
        start=start,
        end=start + timedelta(hours=2),
        machines=3,
        kind=WindowKind.COMING,
    )
    return replace(base, **changes)


@pytest.mark.parametrize("zone", ["UTC", "Europe/Berlin", "America/New_York", "Pacific/Apia", "Asia/Kathmandu"])
def test_every_month_has_whole_weeks_from_monday_and_all_its_days(zone: str) -> None:
    first = date(2011, 1, 1)  # Apia has skipped a day in this year
    while first.year < 2028:
        month = build_month(first, zone)
        assert month.days[0].weekday() == 0
        assert len(month.days) in {28, 35, 42}
        assert all(after - before == timedelta(days=1) for before, after in pairwise(month.days))
        assert {day for day in month.days if day.month == first.month} >= {first}
        assert month.since < month.until
        following = parse_month(month.next, first)
        assert following > first
        assert parse_month(build_month(following, zone).previous, first) == first
        first = following


def test_windows_are_on_the_day_of_the_zone_and_say_when_they_end_later() -> None:
    month = build_month(date(2026, 11, 1), "Asia/Tokyo")
    weeks = build_weeks(month, [make_window(datetime(2026, 11, 9, 14, tzinfo=UTC))], (), NOW)
    (entry,) = [entry for week in weeks for day in week for entry in day.entries]
    assert (entry.start.day, entry.start.hour, entry.later_days) == (9, 23, 1)


def test_many_windows_of_a_day_are_folded_and_none_is_lost() -> None:
    month = build_month(date(2026, 11, 1), "UTC")
    start = datetime(2026, 11, 9, 1, tzinfo=UTC)
    windows = [make_window(start, configuration=f"night-{number}") for number in range(200)]
    weeks = build_weeks(month, windows, (), NOW)
    (day,) = [day for week in weeks for day in week if day.entries]
    assert len(day.shown) == SHOWN_ENTRIES
    assert len(day.folded) == FOLDED_ENTRIES
    assert day.hidden == 200 - SHOWN_ENTRIES - FOLDED_ENTRIES


def test_windows_of_several_zones_are_joined_only_if_the_same_became_of_them() -> None:
    month = build_month(date(2026, 11, 1), "UTC")
    berlin = make_window(datetime(2026, 11, 8, 2, tzinfo=UTC), zone="Europe/Berlin")
    kyiv = make_window(datetime(2026, 11, 8, 1, tzinfo=UTC), zone="Europe/Kyiv")
    joined = [e for week in build_weeks(month, [kyiv, berlin], (), NOW) for day in week for e in day.entries]
    assert [(len(entry.windows), entry.machines) for entry in joined] == [(2, 6)]
    missed = replace(kyiv, kind=WindowKind.MISSED)
    apart = [e for week in build_weeks(month, [missed, berlin], (), NOW) for day in week for e in day.entries]
    assert [len(entry.windows) for entry in apart] == [1, 1]


def test_a_freeze_is_on_each_of_its_days_and_ends_before_its_last_instant() -> None:
    month = build_month(date(2026, 11, 1), "UTC")
    start, end = datetime(2026, 11, 9, 22, tzinfo=UTC), datetime(2026, 11, 12, tzinfo=UTC)
    freeze = CalendarFreeze(start, end, "audit", ("weekly",), is_general=True)
    days = [day.day.day for week in build_weeks(month, (), [freeze], NOW) for day in week if day.freezes]
    assert days == [9, 10, 11]


def test_windows_in_the_hour_that_comes_twice_are_two() -> None:
    month = build_month(date(2026, 10, 1), "Europe/Berlin")
    windows = [make_window(datetime(2026, 10, 25, hour, tzinfo=UTC), zone="Europe/Berlin") for hour in (0, 1)]
    entries = [e for week in build_weeks(month, windows, (), NOW) for day in week for e in day.entries]
    assert [(entry.start.hour, entry.machines) for entry in entries] == [(2, 3), (2, 3)]
