# ruff: noqa: DTZ001 - wall times have no zone
from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tasks.domain.errors import RequestError
from tasks.rules.calendar.freezes import Freeze, build_freeze, find_freeze
from tasks.rules.calendar.schedule import Occurrence

NOON = datetime(2026, 12, 24, 12, tzinfo=UTC)
HOUR = timedelta(hours=1)
ZONES = {"Europe/Berlin", "America/Santiago", "Australia/Lord_Howe", "Pacific/Apia", "Asia/Kathmandu", "UTC"}
WINDOW = Occurrence(NOON, NOON + HOUR, NOON.replace(tzinfo=None))


@pytest.mark.parametrize(
    ("begins", "ends", "hit"),
    [(-2, 0, False), (-2, 0.01, True), (0.4, 0.5, True), (0.99, 3, True), (1, 3, False), (-5, 5, True)],
)
def test_any_overlap_counts(begins: float, ends: float, hit: bool):
    freeze = Freeze(NOON + begins * HOUR, NOON + ends * HOUR, "closing")
    assert find_freeze(WINDOW, [freeze]) is (freeze if hit else None)


def test_of_several_the_one_that_begins_first():
    late, early = Freeze(NOON, NOON + HOUR, "late"), Freeze(NOON - HOUR, NOON + HOUR, "early")
    assert find_freeze(WINDOW, [late, early]) is early
    assert find_freeze(WINDOW, []) is None


@pytest.mark.parametrize(
    ("first", "end", "zone", "hours"),
    [
        (datetime(2027, 3, 28), datetime(2027, 3, 29), "Europe/Berlin", 23),
        (datetime(2026, 10, 25), datetime(2026, 10, 26), "Europe/Berlin", 25),
        (datetime(2026, 9, 6), datetime(2026, 9, 7), "America/Santiago", 24),  # has no midnight: the longer reading
        (datetime(2026, 4, 4), datetime(2026, 4, 5), "America/Santiago", 25),  # its last hour happens twice
        (datetime(2026, 7, 1), datetime(2026, 7, 2), "Asia/Kathmandu", 24),
    ],
)
def test_a_day_has_as_many_hours_as_it_has(first: datetime, end: datetime, zone: str, hours: int):
    whole = build_freeze(first, end, zone)
    assert whole.end - whole.start == hours * HOUR


def test_times_without_an_offset_are_the_zones():
    read = build_freeze(datetime(2026, 12, 24), datetime(2026, 12, 27), "Europe/Berlin")
    assert read.start == datetime(2026, 12, 23, 23, tzinfo=UTC)
    assert read.end == datetime(2026, 12, 26, 23, tzinfo=UTC)


def test_an_offset_is_kept():
    assert build_freeze(NOON, NOON + HOUR, "Asia/Tokyo") == Freeze(NOON, NOON + HOUR)


def test_in_the_night_that_clocks_change_it_lasts_longer():
    twice, never = datetime(2026, 10, 25, 2, 30), datetime(2026, 3, 29, 2, 30)
    assert build_freeze(twice, twice, "Europe/Berlin") == Freeze(
        datetime(2026, 10, 25, 0, 30, tzinfo=UTC), datetime(2026, 10, 25, 1, 30, tzinfo=UTC)
    )
    assert build_freeze(never, never, "Europe/Berlin") == Freeze(
        datetime(2026, 3, 29, 0, 30, tzinfo=UTC), datetime(2026, 3, 29, 1, 30, tzinfo=UTC)
    )


@given(st.datetimes(datetime(1971, 1, 1), datetime(2036, 12, 31)), st.integers(0, 5000), st.sampled_from(sorted(ZONES)))
def test_no_instant_that_shows_a_frozen_time_is_outside_of_it(start: datetime, minutes: int, zone: str):
    end = start + timedelta(minutes=minutes)
    read = build_freeze(start, end, zone)
    for minute in {0, minutes // 2, minutes - 1} - {-1}:
        wall = start + timedelta(minutes=minute)
        for fold in (0, 1):
            moment = wall.replace(tzinfo=ZoneInfo(zone), fold=fold).astimezone(UTC)
            if minutes:
                assert read.start <= moment < read.end


def test_what_can_not_be_meant_is_refused():
    with pytest.raises(RequestError, match=r"'closing' ends before it begins: "):
        Freeze(NOON, NOON - HOUR, "closing")
    with pytest.raises(RequestError, match="without a zone"):
        Freeze(datetime(2026, 1, 1), NOON)
    with pytest.raises(RequestError, match="ends before it begins") as caught:
        build_freeze(datetime(2026, 12, 26), datetime(2026, 12, 24), "UTC")
    assert "later than its start" in caught.value.hint
    with pytest.raises(RequestError, match="no time zone"):
        build_freeze(datetime(2026, 12, 24), datetime(2026, 12, 24), "Nowhere")
