# ruff: noqa: DTZ001 - wall times have no zone
from datetime import UTC, date, datetime, timedelta

import pytest

from tasks.errors import RequestError
from tasks.rules.calendar.freezes import Freeze, all_day, frozen
from tasks.rules.calendar.schedule import Occurrence

NOON = datetime(2026, 12, 24, 12, tzinfo=UTC)
HOUR = timedelta(hours=1)
WINDOW = Occurrence(NOON, NOON + HOUR, NOON.replace(tzinfo=None))


@pytest.mark.parametrize(
    ("begins", "ends", "hit"),
    [(-2, 0, False), (-2, 0.01, True), (0.4, 0.5, True), (0.99, 3, True), (1, 3, False), (-5, 5, True)],
)
def test_any_overlap_counts(begins: float, ends: float, hit: bool):
    freeze = Freeze(NOON + begins * HOUR, NOON + ends * HOUR, "closing")
    assert frozen(WINDOW, [freeze]) is (freeze if hit else None)


def test_of_several_the_one_that_begins_first():
    late, early = Freeze(NOON, NOON + HOUR, "late"), Freeze(NOON - HOUR, NOON + HOUR, "early")
    assert frozen(WINDOW, [late, early]) is early
    assert frozen(WINDOW, []) is None


def test_whole_days():
    christmas = all_day(date(2026, 12, 24), date(2026, 12, 26), "Europe/Berlin", "Christmas")
    assert christmas.start == datetime(2026, 12, 23, 23, tzinfo=UTC)
    assert christmas.end == datetime(2026, 12, 26, 23, tzinfo=UTC)


@pytest.mark.parametrize(
    ("day", "zone", "hours"),
    [
        (date(2027, 3, 28), "Europe/Berlin", 23),
        (date(2026, 10, 25), "Europe/Berlin", 25),
        (date(2026, 9, 6), "America/Santiago", 23),  # has no midnight
        (date(2026, 4, 4), "America/Santiago", 25),  # its last hour happens twice
        (date(2026, 7, 1), "Asia/Kathmandu", 24),
    ],
)
def test_a_day_has_as_many_hours_as_it_has(day: date, zone: str, hours: int):
    whole = all_day(day, day, zone)
    assert whole.end - whole.start == hours * HOUR


def test_what_can_not_be_meant_is_refused():
    with pytest.raises(RequestError, match=r"'closing' ends at .* not after its start"):
        Freeze(NOON, NOON, "closing")
    with pytest.raises(RequestError, match="without a zone"):
        Freeze(datetime(2026, 1, 1), NOON)
    with pytest.raises(RequestError, match="not after its start") as caught:
        all_day(date(2026, 12, 26), date(2026, 12, 24), "UTC")
    assert "last day" in caught.value.hint
    with pytest.raises(RequestError, match="no time zone"):
        all_day(date(2026, 12, 24), date(2026, 12, 24), "Nowhere")
