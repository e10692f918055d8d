# ruff: noqa: DTZ001 - wall times have no zone
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tasks.rules.calendar.checks import (
    FindingSeverity,
    ScheduleGap,
    ScheduleOverlap,
    check_schedule,
    find_schedule_gaps,
    find_schedule_overlaps,
)
from tasks.rules.calendar.freezes import Freeze
from tasks.rules.calendar.schedule import Schedule, iterate_occurrences
from tasks.rules.recurrence.parser import parse_recurrence
from tests.unit.calendar import oracle
from tests.unit.calendar.oracle import Meant

NOW = datetime(2026, 11, 20, 12, tzinfo=UTC)
HOUR = timedelta(hours=1)


def schedule(text: str, start: datetime, minutes: float = 60, zone: str = "UTC", **more: datetime) -> Schedule:
    return Schedule(parse_recurrence(text), start, minutes, zone, **more)


NIGHTLY = schedule("Day", datetime(2026, 1, 1, 22), 120)


def test_overlaps_of_two():
    sunday = schedule("Week Sunday", datetime(2026, 1, 1, 23), 120)
    found = list(find_schedule_overlaps({"nightly": NIGHTLY, "sunday": sunday}, NOW, NOW + timedelta(days=7)))
    at = datetime(2026, 11, 22, 23, tzinfo=UTC)
    assert found == [ScheduleOverlap("nightly", "sunday", at, at + HOUR)]


def test_windows_that_touch_do_not_overlap():
    after = schedule("Day", datetime(2026, 1, 1, 0), 60)
    assert list(find_schedule_overlaps({"a": NIGHTLY, "b": after}, NOW, NOW + timedelta(days=30))) == []


def test_a_window_can_overlap_the_next_of_its_own():
    hourly = schedule("Hour", datetime(2026, 1, 1), 90)
    found = list(find_schedule_overlaps({"hourly": hourly}, NOW, NOW + 3 * HOUR))
    assert [(each.first, each.second, each.end - each.start) for each in found] == [("hourly", "hourly", HOUR / 2)] * 2


def test_frozen_windows_do_not_overlap():
    other = schedule("Day", datetime(2026, 1, 1, 23), 120)
    freeze = Freeze(NOW, NOW + timedelta(days=1))
    found = list(find_schedule_overlaps({"a": NIGHTLY, "b": other}, NOW, NOW + timedelta(days=2), [freeze]))
    assert [each.start.day for each in found] == [21]


@given(
    plans=st.lists(st.tuples(oracle.recurrences(), oracle.starts(), st.integers(1, 3000)), min_size=1, max_size=3),
)
def test_overlaps_are_those_of_all_pairs(plans: list[tuple[Meant, datetime, int]]):
    named = {str(number): schedule(plan[0].text, plan[1], plan[2]) for number, plan in enumerate(plans)}
    end = NOW + timedelta(days=60)
    all_of = [(name, window) for name, each in named.items() for window in iterate_occurrences(each, NOW, until=end)]
    pairs = {
        frozenset([(first, one.start), (second, other.start)])
        for number, (first, one) in enumerate(all_of)
        for second, other in all_of[number + 1 :]
        if one.start < other.end and other.start < one.end
    }
    found = list(find_schedule_overlaps(named, NOW, end))
    assert len(found) == len(pairs)
    assert all(each.start < each.end for each in found)
    assert [each.start for each in found] == sorted(each.start for each in found)


def test_gaps():
    weekly = schedule("Week Sunday", datetime(2026, 1, 1, 22), 120)
    found = list(find_schedule_gaps({"weekly": weekly}, NOW, NOW + timedelta(days=9), timedelta(days=3)))
    sunday = datetime(2026, 11, 23, tzinfo=UTC)
    assert found == [ScheduleGap(sunday, NOW + timedelta(days=9))]
    assert list(find_schedule_gaps({}, NOW, NOW + HOUR, HOUR)) == [ScheduleGap(NOW, NOW + HOUR)]
    assert list(find_schedule_gaps({"a": NIGHTLY}, NOW, NOW + timedelta(days=30), timedelta(hours=23))) == []


def test_a_window_that_is_open_already_is_no_gap():
    assert list(find_schedule_gaps({"a": NIGHTLY}, NOW + 11 * HOUR, NOW + 12 * HOUR, timedelta())) == []


def test_a_short_window_within_a_long_one_does_not_end_it():
    long, short = schedule("Once", datetime(2026, 11, 21), 600), schedule("Once", datetime(2026, 11, 21, 1), 60)
    found = list(find_schedule_gaps({"long": long, "short": short}, NOW, NOW + timedelta(days=1), timedelta()))
    assert [(gap.start.hour, gap.end.hour) for gap in found] == [(12, 0), (10, 12)]


def test_a_freeze_makes_a_gap():
    freeze = Freeze(NOW, NOW + timedelta(days=5), "closing")
    found = list(find_schedule_gaps({"a": NIGHTLY}, NOW, NOW + timedelta(days=10), timedelta(days=2), [freeze]))
    assert found == [ScheduleGap(NOW, datetime(2026, 11, 25, 22, tzinfo=UTC))]


def test_nothing_is_wrong_with_a_common_schedule():
    berlin = "Europe/Berlin"
    assert check_schedule(schedule("Month Second Tuesday Offset4", datetime(2026, 12, 1, 22), 235, berlin), NOW) == []
    assert check_schedule(schedule("6Hours", datetime(2026, 1, 1), 90, berlin), NOW) == []
    assert check_schedule(schedule("2Weeks Saturday", datetime(2026, 11, 21, 22), 90, berlin), NOW) == []


@pytest.mark.parametrize(
    ("planned", "severity", "key", "words"),
    [
        (schedule("Day", datetime(2026, 1, 1, 22), 9), FindingSeverity.WARNS, "length", "9 min holds no update"),
        (schedule("Hour", datetime(2026, 1, 1), 61), FindingSeverity.BLOCKS, "length", "ends 1 min after the next"),
        (
            schedule("Week Fri,Sat", datetime(2026, 1, 1), 1500),
            FindingSeverity.BLOCKS,
            "length",
            "2026-11-27 00:00 ends 1 h",
        ),
        (schedule("12Months day31", datetime(2026, 2, 1)), FindingSeverity.BLOCKS, "dates", "never has a window"),
        (
            schedule("Day", datetime(2026, 1, 2), expires=datetime(2026, 1, 1)),
            FindingSeverity.BLOCKS,
            "dates",
            "never has a window",
        ),
        (schedule("Once", datetime(2026, 1, 1)), FindingSeverity.BLOCKS, "expiry", "no more"),
        (
            schedule("Day", datetime(2026, 1, 1), expires=datetime(2026, 2, 1)),
            FindingSeverity.BLOCKS,
            "expiry",
            "no more",
        ),
        (schedule("0 22 8-14 * 2", datetime(2026, 1, 1)), FindingSeverity.WARNS, "days", "and also"),
        (
            schedule("2Weeks Saturday", datetime(2026, 11, 23, 22)),
            FindingSeverity.WARNS,
            "start",
            "counts from 2026-11-23, but its first window is 2026-11-28 22:00",
        ),
        (
            schedule("Day", datetime(2026, 1, 1, 2, 30), 60, "Europe/Berlin"),
            FindingSeverity.WARNS,
            "clocks",
            "2027-03-28 02:30 does not exist in Europe/Berlin: the clocks are put forward; it starts with the first "
            "minute after that, 03:00; 2027-10-31 02:30 happens twice",
        ),
        (
            schedule("0 2 * * *", datetime(2026, 1, 1), 60, "Europe/Berlin"),
            FindingSeverity.WARNS,
            "clocks",
            "(and 1 more)",
        ),
        (
            schedule("Day", datetime(2026, 1, 1, 12), 24 * 60, "Europe/Berlin"),
            FindingSeverity.BLOCKS,
            "length",
            "2027-03-27 12:00 ends 1 h after the next",
        ),
    ],
)
def test_findings(planned: Schedule, severity: FindingSeverity, key: str, words: str):
    (found,) = check_schedule(planned, NOW)
    assert (found.severity, found.key) == (severity, key)
    assert words in found.message
    assert found.remedy


def test_all_that_is_wrong_is_found_at_once():
    found = check_schedule(schedule("0 2 1 * 0", datetime(2026, 1, 1), 5, "Europe/Berlin"), NOW)
    assert [finding.key for finding in found] == ["length", "days", "clocks"]


def test_a_rare_window_is_not_taken_for_none():
    assert check_schedule(schedule("FREQ=YEARLY", datetime(2024, 2, 29, 12)), datetime(2024, 3, 1, tzinfo=UTC)) == []


def test_a_last_window_that_is_open_is_not_over() -> None:
    once = Schedule(parse_recurrence("Once"), datetime(2026, 3, 10, 1, 0), 60, "UTC")

    assert not any(found.key == "expiry" for found in check_schedule(once, datetime(2026, 3, 10, 1, 30, tzinfo=UTC)))
    assert any(found.key == "expiry" for found in check_schedule(once, datetime(2026, 3, 10, 2, 0, tzinfo=UTC)))
