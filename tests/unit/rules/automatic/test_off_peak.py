from datetime import UTC, datetime, time, timedelta
from zoneinfo import ZoneInfo

from hypothesis import given
from hypothesis import strategies as st

from tasks.rules.automatic.fleet_index import find_next_off_peak, find_off_peak

BERLIN = "Europe/Berlin"


def utc(text):
    return datetime.fromisoformat(text).replace(tzinfo=UTC)


def hours(window):
    return None if window is None else (f"{window.start:%d %H:%M}", f"{window.end:%d %H:%M}")


def test_over_midnight():
    start, end = time(22), time(6)
    assert hours(find_off_peak(utc("2025-01-10 21:00"), BERLIN, start, end)) == ("10 21:00", "11 05:00")
    assert hours(find_off_peak(utc("2025-01-11 04:59"), BERLIN, start, end)) == ("10 21:00", "11 05:00")
    assert find_off_peak(utc("2025-01-11 05:00"), BERLIN, start, end) is None
    assert find_off_peak(utc("2025-01-10 20:59"), BERLIN, start, end) is None
    assert hours(find_next_off_peak(utc("2025-01-10 20:59"), BERLIN, start, end)) == ("10 21:00", "11 05:00")
    assert hours(find_next_off_peak(utc("2025-01-10 21:00"), BERLIN, start, end)) == ("11 21:00", "12 05:00")


def test_within_a_day():
    assert hours(find_off_peak(utc("2025-07-10 02:30"), "UTC", time(2), time(4))) == ("10 02:00", "10 04:00")
    assert find_off_peak(utc("2025-07-10 04:00"), "UTC", time(2), time(4)) is None


def test_nights_with_a_clock_change_are_shorter_and_longer():
    spring = find_off_peak(utc("2025-03-30 00:30"), BERLIN, time(22), time(6))
    autumn = find_off_peak(utc("2025-10-26 00:30"), BERLIN, time(22), time(6))
    assert hours(spring) == ("29 21:00", "30 04:00")
    assert hours(autumn) == ("25 20:00", "26 05:00")


def test_a_start_that_the_clocks_skip_is_the_first_instant_after():
    assert hours(find_off_peak(utc("2025-03-30 01:00"), BERLIN, time(2, 30), time(6))) == ("30 01:00", "30 04:00")
    assert find_off_peak(utc("2025-03-30 00:59"), BERLIN, time(2, 30), time(6)) is None


def test_hours_that_the_clocks_skip_do_not_occur():
    found = find_next_off_peak(utc("2025-03-29 12:00"), BERLIN, time(2, 10), time(2, 50))
    assert hours(found) == ("31 00:10", "31 00:50")


def test_times_that_occur_twice_make_the_hours_shorter():
    """02:30 occurs at 00:30 and 01:30 UTC. In between the clock goes back to 02:00, which is no longer off-peak."""
    assert hours(find_off_peak(utc("2025-10-26 03:00"), BERLIN, time(2, 30), time(6))) == ("26 01:30", "26 05:00")
    assert hours(find_off_peak(utc("2025-10-26 00:10"), BERLIN, time(22), time(2, 30))) == ("25 20:00", "26 00:30")
    assert hours(find_off_peak(utc("2025-10-26 01:15"), BERLIN, time(2, 10), time(2, 50))) == ("26 01:10", "26 01:50")


def test_equal_times_are_all_day():
    found = find_off_peak(utc("2025-10-26 12:00"), BERLIN, time(0), time(0))
    assert found is not None
    assert found.end - found.start == timedelta(hours=25)


zones = st.sampled_from((BERLIN, "UTC", "America/New_York", "Australia/Lord_Howe", "Asia/Kolkata", "Africa/Casablanca"))
quarters = st.builds(time, st.integers(0, 23), st.sampled_from((0, 15, 30, 45)))
instants = st.datetimes(datetime(2024, 1, 1), datetime(2027, 1, 1), timezones=st.just(UTC))  # noqa: DTZ001


@given(instants, zones, quarters, quarters)
def test_the_clock_shows_off_peak_hours_all_the_time(now, zone, start, end):
    window = find_off_peak(now, zone, start, end)
    if window is None:
        return
    assert window.start <= now < window.end
    for share in (0, 0.1, 0.3, 0.5, 0.7, 0.9, 0.9999):
        moment = window.start + share * (window.end - window.start)
        clock = moment.astimezone(ZoneInfo(zone)).time()
        is_inside = start <= clock < end if start < end else clock >= start or clock < end
        assert is_inside or start == end


@given(instants, zones, quarters, quarters)
def test_off_peak_hours_are_the_next_ones_before_they_begin(now, zone, start, end):
    found = find_next_off_peak(now, zone, start, end)
    assert found.start > now
    assert find_off_peak(found.start, zone, start, end) == found
    assert find_off_peak(found.start - timedelta(microseconds=1), zone, start, end) != found


@given(instants, zones, quarters)
def test_all_day_has_no_gaps(now, zone, start):
    assert find_off_peak(now, zone, start, start) is not None
