# ruff: noqa: DTZ001, DTZ901 - naive times of day are what people write, and what is tested here
from datetime import UTC, datetime, timedelta, timezone
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tasks.domain.errors import RequestError
from tasks.domain.model import Window
from tasks.domain.states import RebootPolicy
from tasks.rules.calendar.local_time import format_duration, format_time_with_zone
from tasks.rules.timing.maintenance_window import (
    build_window,
    check_time_fit,
    compute_cut_off,
    compute_overrun_seconds,
    describe_cut_off,
    describe_window,
)
from tests.unit.rules.examples import NOW

BERLIN = "Europe/Berlin"


def test_a_naive_start_is_read_in_the_zone():
    opened = build_window(datetime(2026, 11, 21, 1, 0), 120, BERLIN, NOW)
    assert opened == Window(
        datetime(2026, 11, 21, 0, 0, tzinfo=UTC), datetime(2026, 11, 21, 2, 0, tzinfo=UTC), zone=BERLIN
    )


def test_an_aware_start_keeps_its_moment():
    start = datetime(2026, 11, 21, 1, 0, tzinfo=timezone(timedelta(hours=5)))
    assert build_window(start, 30, BERLIN, NOW).start == datetime(2026, 11, 20, 20, 0, tzinfo=UTC)


def test_no_start_is_now():
    assert build_window(None, 90, "UTC", NOW) == Window(NOW, NOW + timedelta(minutes=90), "UTC")


def test_a_start_in_the_gap_is_refused_with_a_remedy():
    with pytest.raises(RequestError, match="does not exist in Europe/Berlin") as caught:
        build_window(datetime(2026, 3, 29, 2, 30), 60, BERLIN, NOW)
    assert "03:30" in caught.value.hint


def test_an_ambiguous_start_is_the_first_of_the_two():
    for fold in (0, 1):
        start = datetime(2026, 10, 25, 2, 30, fold=fold)
        assert build_window(start, 60, BERLIN, NOW).start == datetime(2026, 10, 25, 0, 30, tzinfo=UTC)


def test_a_window_across_a_change_of_clocks_lasts_its_real_minutes():
    opened = build_window(datetime(2026, 10, 25, 1, 0), 180, BERLIN, NOW)
    assert opened.end - opened.start == timedelta(hours=3)
    assert describe_window(opened) == "2026-10-25 01:00 CEST to 03:00 CET (3 h)"


@pytest.mark.parametrize("zone", ["Europe/Nowhere", "", "../etc", "/etc/passwd", "Europe"])
def test_an_unknown_zone_is_refused(zone):
    with pytest.raises(RequestError, match="no time zone") as caught:
        build_window(None, 60, zone, NOW)
    assert "Europe/Berlin" in caught.value.hint


@pytest.mark.parametrize("minutes", [0, -5, float("nan"), float("inf"), 31 * 24 * 60 + 1])
def test_a_length_that_makes_no_sense_is_refused(minutes):
    with pytest.raises(RequestError, match="not possible"):
        build_window(None, minutes, "UTC", NOW)


@pytest.mark.parametrize("start", [datetime.max, datetime.min, datetime.max.replace(tzinfo=UTC)])
@pytest.mark.parametrize("zone", ["Asia/Tokyo", "America/New_York"])
def test_a_start_at_the_end_of_time_is_refused_or_read(start, zone):
    try:
        years = {build_window(start, 60, zone, NOW).start.year}
        said = ""
    except RequestError as error:
        years, said = set(), str(error)
    assert years <= {1, 9999}
    assert years or "too far in the future" in said


@given(
    st.datetimes(datetime(2000, 1, 1), datetime(2027, 10, 1)),
    st.floats(0.1, 40_000),
    st.sampled_from((BERLIN, "UTC", "Asia/Kolkata", "America/New_York", "Australia/Lord_Howe")),
)
def test_a_window_is_as_long_as_asked_and_reads_back(start, minutes, zone):
    back = start.replace(tzinfo=ZoneInfo(zone)).astimezone(UTC).astimezone(ZoneInfo(zone))
    if back.replace(tzinfo=None, fold=0) != start:
        with pytest.raises(RequestError, match="does not exist"):
            build_window(start, minutes, zone, NOW)
        return
    opened = build_window(start, minutes, zone, NOW)
    assert opened.start.tzinfo is UTC
    assert opened.end - opened.start == timedelta(minutes=minutes)
    assert opened.start.astimezone(ZoneInfo(zone)).replace(tzinfo=None, fold=0) == start


@given(st.sampled_from(RebootPolicy), st.floats(-100, 20_000))
def test_the_cut_off_lies_in_the_window(policy, reserve):
    opened = Window(NOW, NOW + timedelta(hours=2))
    moment = compute_cut_off(opened, policy, reserve)
    assert opened.start <= moment <= opened.end
    if policy is RebootPolicy.NEVER:
        assert moment == opened.end


def test_the_reserve_is_taken_off_the_end():
    opened = Window(NOW, NOW + timedelta(hours=2))
    assert compute_cut_off(opened, RebootPolicy.IF_REQUIRED, 900) == NOW + timedelta(minutes=105)
    assert compute_cut_off(opened, RebootPolicy.ALWAYS, 9000) == NOW


def test_the_arithmetic_is_a_sentence():
    opened = Window(NOW, NOW + timedelta(hours=1), zone=BERLIN)
    until = compute_cut_off(opened, RebootPolicy.IF_REQUIRED, 900)
    why = describe_cut_off(opened, RebootPolicy.IF_REQUIRED, 900)
    found = check_time_fit(until - timedelta(seconds=123), 250, until, "install of 3 updates", why, zone=BERLIN)
    assert not found.fits
    assert found.explanation == (
        "install of 3 updates needs about 4 min 10 s; 2 min 3 s are left until 02:45 CET "
        "(window ends 03:00 CET, 15 min kept for a reboot)"
    )


def test_why_cut_off_when_the_reserve_takes_the_whole_window():
    opened = Window(NOW, NOW + timedelta(minutes=2))
    why = describe_cut_off(opened, RebootPolicy.IF_REQUIRED, 900)
    assert why == "the window is 2 min long, and 15 min are kept for a reboot"
    assert describe_cut_off(opened, RebootPolicy.NEVER, 900).startswith("window ends")


def test_why_cut_off_without_a_reserve():
    opened = Window(NOW, NOW + timedelta(hours=1))
    assert describe_cut_off(opened, RebootPolicy.ALWAYS, 0) == "window ends 02:00 UTC"
    assert describe_cut_off(opened, RebootPolicy.NEVER, 900).endswith("because it is never rebooted")


def test_when_the_time_is_over_it_says_for_how_long():
    assert check_time_fit(NOW, 60, NOW - timedelta(minutes=5), "a reboot", "").explanation == (
        "a reboot needs about 1 min; no time is left: 00:55 UTC was 5 min ago"
    )
    assert check_time_fit(NOW, 60, NOW, "a reboot", "").explanation.endswith("no time is left: it is 01:00 UTC")


@given(st.floats(0, 1e5), st.integers(-100_000, 100_000))
def test_it_fits_when_the_time_left_is_enough(needed, left):
    assert check_time_fit(NOW, needed, NOW + timedelta(seconds=left), "it", "").fits == (left >= needed)


def test_fit_is_right_in_the_night_the_clocks_change():
    here = ZoneInfo(BERLIN)
    now = datetime(2026, 10, 25, 1, 30, tzinfo=here)
    until = datetime(2026, 10, 25, 3, 0, tzinfo=here)  # two and a half hours later, though the hands say one and a half
    assert check_time_fit(now, 2.4 * 3600, until, "it", "").fits
    assert compute_overrun_seconds(Window(now, until, BERLIN), until + timedelta(seconds=1)) == 1


def test_overrun_counts_only_what_is_past_the_end():
    opened = Window(NOW, NOW + timedelta(hours=1))
    assert compute_overrun_seconds(opened, NOW) == 0
    assert compute_overrun_seconds(opened, opened.end) == 0
    assert compute_overrun_seconds(opened, opened.end + timedelta(seconds=90)) == 90


def test_describe_names_both_dates_past_midnight():
    opened = Window(datetime(2026, 11, 20, 23, 0, tzinfo=UTC), datetime(2026, 11, 21, 1, 30, tzinfo=UTC))
    assert describe_window(opened) == "2026-11-20 23:00 to 2026-11-21 01:30 UTC (2 h 30 min)"


def test_zones_without_letters_are_readable():
    assert format_time_with_zone(NOW, "America/Sao_Paulo") == "22:00 UTC-03"


@pytest.mark.parametrize(
    ("seconds", "words"),
    [
        (0, "0 s"), (0.4, "0 s"), (45, "45 s"), (59.6, "1 min"), (250, "4 min 10 s"), (3600, "1 h"),
        (7500, "2 h 5 min"), (3599.7, "1 h"), (7229, "2 h"), (86_400 - 20, "1 d"), (97_200, "1 d 3 h"),
        (-90, "minus 1 min 30 s"),
    ],
)  # fmt: skip
def test_durations_in_words(seconds, words):
    assert format_duration(seconds) == words
