# ruff: noqa: DTZ001 - wall times have no zone
from datetime import UTC, datetime, timedelta

import pytest

from tasks.rules.calendar.checks import (
    FindingSeverity,
    check_schedule,
)
from tasks.rules.calendar.schedule import Schedule
from tasks.rules.recurrence.parser import parse_recurrence

NOW = datetime(2026, 11, 20, 12, tzinfo=UTC)
HOUR = timedelta(hours=1)


def schedule(text: str, start: datetime, minutes: float = 60, zone: str = "UTC", **more: datetime) -> Schedule:
    return Schedule(parse_recurrence(text), start, minutes, zone, **more)


NIGHTLY = schedule("Day", datetime(2026, 1, 1, 22), 120)


def test_nothing_is_wrong_with_a_common_schedule():
    berlin = "Europe/Berlin"
    assert check_schedule(schedule("Month Second Tuesday Offset4", datetime(2026, 12, 1, 22), 235, berlin), NOW) == []
    assert check_schedule(schedule("6Hours", datetime(2026, 1, 1), 90, berlin), NOW) == []
    assert check_schedule(schedule("2Weeks Saturday", datetime(2026, 11, 21, 22), 90, berlin), NOW) == []


@pytest.mark.parametrize(
    ("planned", "severity", "key", "words"),
    [
        (
            schedule("Day", datetime(2026, 1, 1, 22), 9),
            FindingSeverity.WARNS,
            "length",
            "9 min is too short for an update",
        ),
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
        (schedule("Once", datetime(2026, 1, 1)), FindingSeverity.WARNS, "expiry", "patches nothing any more"),
        (
            schedule("Day", datetime(2026, 1, 1), expires=datetime(2026, 2, 1)),
            FindingSeverity.WARNS,
            "expiry",
            "its last window is over",
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
