# ruff: noqa: DTZ001 - wall times have no zone
import itertools
from datetime import UTC, datetime, timedelta, timezone
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tasks.domain.errors import RequestError
from tasks.rules.calendar.local_time import to_wall_time, wall_time_to_utc
from tasks.rules.calendar.schedule import Schedule, find_open_occurrence, iterate_occurrences
from tasks.rules.recurrence.parser import parse_recurrence
from tests.unit.calendar import oracle
from tests.unit.calendar.oracle import BEGIN, END, ZONES, Meant

BERLIN = "Europe/Berlin"
HOUR = timedelta(hours=1)


def schedule(text: str, start: datetime, minutes: float = 60, zone: str = BERLIN, **more: datetime) -> Schedule:
    return Schedule(parse_recurrence(text), start, minutes, zone, **more)


def utc(*parts: int) -> datetime:
    return datetime(*parts, tzinfo=UTC)  # type: ignore[misc, arg-type]


def test_a_time_that_does_not_exist_starts_right_after_the_gap():
    found = list(iterate_occurrences(schedule("Day", datetime(2027, 3, 27, 2, 30)), utc(2027, 3, 27), limit=3))
    assert [window.start for window in found] == [utc(2027, 3, 27, 1, 30), utc(2027, 3, 28, 1), utc(2027, 3, 29, 0, 30)]
    assert [window.local_start.hour for window in found] == [2, 2, 2]
    assert [window.note for window in found[::2]] == ["", ""]
    assert found[1].note == (
        "2027-03-28 02:30 does not exist in Europe/Berlin: the clocks are put forward; "
        "it starts with the first minute after that, 03:00"
    )


def test_a_window_that_was_moved_is_seen_from_the_instant_it_opens():
    weekly = schedule("Week Sunday", datetime(2027, 3, 1, 2, 30))
    assert next(iterate_occurrences(weekly, utc(2027, 3, 28, 1))).start == utc(2027, 3, 28, 1)
    assert next(iterate_occurrences(weekly, utc(2027, 3, 28, 1, 1))).start == utc(2027, 4, 4, 0, 30)
    weekly = schedule("Week Friday", datetime(2011, 12, 1, 1), zone="Pacific/Apia")  # 30 December 2011 was left out
    assert next(iterate_occurrences(weekly, utc(2011, 12, 30, 10))).start == utc(2011, 12, 30, 10)


def test_a_time_that_happens_twice_is_taken_once():
    found = list(iterate_occurrences(schedule("Day", datetime(2026, 10, 24, 2, 30)), utc(2026, 10, 24), limit=3))
    assert [window.start for window in found] == [
        utc(2026, 10, 24, 0, 30),
        utc(2026, 10, 25, 0, 30),
        utc(2026, 10, 26, 1, 30),
    ]
    assert "happens twice" in found[1].note


def test_two_times_that_become_one_are_one_window():
    found = list(iterate_occurrences(schedule("0 2,3 * * *", datetime(2027, 3, 28)), utc(2027, 3, 27, 23), limit=3))
    assert [window.start for window in found] == [utc(2027, 3, 28, 1), utc(2027, 3, 29, 0), utc(2027, 3, 29, 1)]


def test_a_day_that_a_zone_left_out_is_not_lost():
    daily = schedule("Day", datetime(2011, 12, 28, 22), zone="Pacific/Apia")
    found = [
        to_wall_time(window.start, daily.zone) for window in iterate_occurrences(daily, utc(2011, 12, 28), limit=4)
    ]
    # Samoa went from 29 to 31 December 2011: the 30th's window opens with the 31st
    assert [(wall.day, wall.hour) for wall in found] == [(28, 22), (29, 22), (31, 0), (31, 22)]


def test_a_midnight_that_does_not_exist():
    daily = schedule("Day", datetime(2026, 9, 5), zone="America/Santiago")
    found = [to_wall_time(window.start, daily.zone) for window in iterate_occurrences(daily, utc(2026, 9, 5), limit=2)]
    assert found == [datetime(2026, 9, 5, 0), datetime(2026, 9, 6, 1)]


def test_lengths_are_elapsed_time():
    window = next(iterate_occurrences(schedule("Day", datetime(2026, 10, 25, 1), 180), utc(2026, 10, 24)))
    assert window.end - window.start == 3 * HOUR
    assert to_wall_time(window.end, BERLIN) == datetime(2026, 10, 25, 3)


def test_hours_are_elapsed_time():
    six = schedule("6Hours", datetime(2027, 3, 27, 20))
    found = list(iterate_occurrences(six, utc(2027, 3, 27), limit=4))
    assert [later.start - sooner.start for sooner, later in itertools.pairwise(found)] == [6 * HOUR] * 3
    assert [window.local_start.hour for window in found] == [20, 3, 9, 15]


@given(every=st.integers(1, 999), start=oracle.starts(), zone=st.sampled_from(ZONES), days=st.integers(0, 12000))
def test_hours_do_not_care_from_when_one_looks(every: int, start: datetime, zone: str, days: int):
    after = BEGIN + timedelta(days=days)
    first = oracle.instant(start, zone) if start.year > 2025 else wall_time_to_utc(start, zone)[0]
    found = [
        window.start for window in iterate_occurrences(schedule(f"{every}Hours", start, zone=zone), after, limit=3)
    ]
    assert all((moment - first) % (every * HOUR) == timedelta() for moment in found)
    assert found[0] == first or after <= found[0] < after + every * HOUR
    assert found[0] >= first


def test_the_start_and_the_expiry_are_its_bounds():
    week = schedule("Day", datetime(2026, 1, 5, 22), expires=datetime(2026, 1, 8, 22))
    assert [window.local_start.day for window in iterate_occurrences(week, utc(2020, 1, 1))] == [5, 6, 7]
    azures_default = datetime(9999, 12, 31, 23, 59, 59)
    assert (
        next(iterate_occurrences(schedule("Day", datetime(2026, 1, 5), expires=azures_default), END)).start.year == 2061
    )


@pytest.mark.parametrize(
    "text", ["FREQ=DAILY;UNTIL=20260107T220000", "FREQ=DAILY;UNTIL=20260107T210000Z", "FREQ=DAILY;COUNT=3"]
)
def test_rules_that_end(text: str):
    found = iterate_occurrences(schedule(text, datetime(2026, 1, 5, 22)), utc(2020, 1, 1))
    assert [window.local_start.day for window in found] == [5, 6, 7]
    later = iterate_occurrences(schedule(text, datetime(2026, 1, 5, 22)), utc(2026, 1, 7))
    assert [window.local_start.day for window in later] == [7]


def test_once_is_once():
    once = schedule("Once", datetime(2026, 5, 1, 22))
    assert [window.start for window in iterate_occurrences(once, BEGIN)] == [utc(2026, 5, 1, 20)]
    assert list(iterate_occurrences(once, utc(2026, 5, 1, 20, 1))) == []


def test_after_is_included_and_until_is_not():
    daily = schedule("Day", datetime(2026, 1, 5, 22), zone="UTC")
    found = iterate_occurrences(daily, utc(2026, 1, 6, 22), until=utc(2026, 1, 8, 22))
    assert [window.start.day for window in found] == [6, 7]
    west = timezone(timedelta(hours=-5))
    assert next(iterate_occurrences(daily, datetime(2026, 1, 6, 17, tzinfo=west))).start == utc(2026, 1, 6, 22)


def test_moments_need_a_zone():
    with pytest.raises(ValueError, match="no zone"):
        iterate_occurrences(schedule("Day", datetime(2026, 1, 5)), datetime(2026, 1, 5))
    with pytest.raises(ValueError, match="no zone"):
        iterate_occurrences(schedule("Day", datetime(2026, 1, 5)), BEGIN, until=datetime(2027, 1, 5))


def test_the_window_that_is_open():
    daily = schedule("Day", datetime(2026, 1, 5, 22), 120, "UTC")
    assert find_open_occurrence(daily, utc(2026, 1, 7, 21, 59)) is None
    for moment in (utc(2026, 1, 7, 22), utc(2026, 1, 7, 23, 59, 59)):
        window = find_open_occurrence(daily, moment)
        assert window is not None
        assert window.start == utc(2026, 1, 7, 22)
    assert find_open_occurrence(daily, utc(2026, 1, 8, 0)) is None
    hourly = find_open_occurrence(schedule("Hour", datetime(2026, 1, 5), 90, "UTC"), utc(2026, 1, 5, 3, 15))
    assert hourly is not None
    assert hourly.start == utc(2026, 1, 5, 3)


@given(meant=oracle.recurrences(), start=oracle.starts(), zone=st.sampled_from(ZONES), minutes=st.integers(1, 3000))
def test_every_window_is_open_while_it_lasts(meant: Meant, start: datetime, zone: str, minutes: int):
    planned = schedule(meant.text, start, minutes, zone)
    for window in iterate_occurrences(planned, BEGIN, limit=3):
        assert window.end - window.start == timedelta(minutes=minutes)
        assert find_open_occurrence(planned, window.start) == window
        later = find_open_occurrence(planned, window.end - timedelta(seconds=1))
        assert later is not None
        assert later.start >= window.start


@pytest.mark.parametrize("zone", ["Europe/Nowhere", "", "../etc", "Europe"])
def test_unknown_zones_are_refused(zone: str):
    with pytest.raises(RequestError, match="no time zone") as caught:
        schedule("Day", datetime(2026, 1, 1), zone=zone)
    assert "Europe/Berlin" in caught.value.hint


@pytest.mark.parametrize("minutes", [0, -1, float("nan"), float("inf"), 31 * 24 * 60 + 1])
def test_lengths_that_make_no_sense_are_refused(minutes: float):
    with pytest.raises(RequestError, match="not possible"):
        schedule("Day", datetime(2026, 1, 1), minutes)


@pytest.mark.parametrize(
    "start",
    [datetime(1969, 1, 1), datetime(3000, 1, 1), datetime(2026, 1, 1, 0, 0, 1), datetime(2026, 1, 1, 0, 0, 0, 1)],
)
def test_starts_that_make_no_sense_are_refused(start: datetime):
    with pytest.raises(RequestError, match="can't start") as caught:
        schedule("Day", start)
    assert "hours and minutes" in caught.value.hint


def test_times_with_an_offset_are_refused():
    with pytest.raises(RequestError, match=r"start .* has an offset"):
        schedule("Day", datetime(2026, 1, 1, tzinfo=ZoneInfo(BERLIN)))
    with pytest.raises(RequestError, match=r"expiry .* has an offset"):
        schedule("Day", datetime(2026, 1, 1), expires=utc(2027, 1, 1))
