# ruff: noqa: DTZ001 - wall times have no zone
import itertools
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tasks.domain.errors import RequestError
from tasks.rules.calendar.freezes import Freeze, build_freeze, find_freeze
from tasks.rules.calendar.prefect_schedule import (
    MAX_RDATES,
    MAX_RRULE_LENGTH,
    PrefectSchedule,
    PrefectScheduleKind,
    build_prefect_schedule,
    is_schedule_current,
    iterate_prefect_starts,
)
from tasks.rules.calendar.schedule import Schedule, iterate_occurrences
from tasks.rules.recurrence.parser import parse_recurrence
from tests.unit.calendar import oracle
from tests.unit.calendar.oracle import ZONES, Meant

NOW = datetime(2026, 11, 20, 12, tzinfo=UTC)
LEAD = timedelta(minutes=40)
BERLIN = "Europe/Berlin"
EVENING, NIGHT = datetime(2026, 11, 2, 22), datetime(2026, 11, 2, 2, 30)


def schedule(text: str, start: datetime = EVENING, zone: str = BERLIN, **more: datetime) -> Schedule:
    return Schedule(parse_recurrence(text), start, 90, zone, **more)


@pytest.mark.parametrize(
    ("text", "start", "lead", "says"),
    [
        ("Day", EVENING, LEAD, "DTSTART:20261120T212000\nRRULE:FREQ=DAILY"),
        ("3Days", EVENING, LEAD, "DTSTART:20261120T212000\nRRULE:FREQ=DAILY;INTERVAL=3"),
        ("Month Second Tuesday", EVENING, LEAD, "DTSTART:20261208T212000\nRRULE:FREQ=MONTHLY;BYDAY=2TU"),
        (  # the day before
            "2Weeks Saturday",
            datetime(2026, 11, 2, 0, 30),
            LEAD,
            "DTSTART:20261120T235000\nRRULE:FREQ=WEEKLY;INTERVAL=2;BYDAY=FR;WKST=SU",
        ),
        (
            "Month Second Tuesday Offset4",
            EVENING,
            timedelta(),
            "DTSTART:20261212T220000\nRRULE:FREQ=MONTHLY;BYMONTHDAY=12,13,14,15,16,17,18;BYDAY=SA",
        ),
        (
            "Month Last Sunday Offset-3",
            EVENING,
            timedelta(),
            "DTSTART:20261126T220000\nRRULE:FREQ=MONTHLY;BYMONTHDAY=-10,-9,-8,-7,-6,-5,-4;BYDAY=TH",
        ),
        (
            "Month day1,day15",
            datetime(2026, 11, 2),
            LEAD,
            "DTSTART:20261130T232000\nRRULE:FREQ=MONTHLY;BYMONTHDAY=-1,14",
        ),
        ("Month day-1", datetime(2026, 11, 2), LEAD, "DTSTART:20261129T232000\nRRULE:FREQ=MONTHLY;BYMONTHDAY=-2"),
        ("0 12,22 * * 6", EVENING, LEAD, "DTSTART:20261121T112000\nRRULE:FREQ=DAILY;BYDAY=SA;BYHOUR=11,21;BYMINUTE=20"),
    ],
)
def test_what_prefect_understands_is_said_as_a_rule(text: str, start: datetime, lead: timedelta, says: str):
    told = build_prefect_schedule(schedule(text, start), NOW, lead)
    assert (told.kind, told.text, told.zone) == (PrefectScheduleKind.RRULE, says, BERLIN)
    assert told.covered_until is not None
    assert told.covered_until.year == 2031


@pytest.mark.parametrize(
    ("text", "start", "zone"),
    [
        ("Day", NIGHT, BERLIN),  # Prefect starts an hour early in spring
        ("Month Second Tuesday Offset20", EVENING, BERLIN),  # no RRULE leaves its month forwards
        ("0 22 8-14 * 2", EVENING, "UTC"),  # cron's "or"
        ("FREQ=MONTHLY;BYDAY=MO,2TU", EVENING, "UTC"),  # dateutil reads "and"
        ("2Months day1", datetime(2026, 11, 2), BERLIN),  # the run starts in a month that doesn't count
    ],
)
def test_what_prefect_would_get_wrong_is_said_as_dates(text: str, start: datetime, zone: str):
    planned = schedule(text, start, zone)
    told = build_prefect_schedule(planned, NOW, LEAD)
    assert (told.kind, told.zone) == (PrefectScheduleKind.RDATE, "UTC")
    assert told.text.startswith("DTSTART:202")
    assert told.covered_until is not None
    listed = list(iterate_prefect_starts(told, NOW, told.covered_until))
    assert listed == [
        window.start - LEAD for window in iterate_occurrences(planned, NOW + LEAD, until=told.covered_until + LEAD)
    ]


def test_dateutil_knows_no_change_of_clocks_after_2037():
    told = build_prefect_schedule(schedule("Month Second Tuesday"), datetime(2035, 1, 1, tzinfo=UTC))
    assert told.kind is PrefectScheduleKind.RDATE
    assert (
        build_prefect_schedule(schedule("Month Second Tuesday", zone="UTC"), datetime(2035, 1, 1, tzinfo=UTC)).kind
        is PrefectScheduleKind.RRULE
    )


def test_dates_that_do_not_fit_are_told_later():
    planned = schedule("Day", NIGHT)
    told = build_prefect_schedule(planned, NOW, LEAD)
    windows = list(itertools.islice(iterate_occurrences(planned, NOW + LEAD), MAX_RDATES + 1))
    assert told.text.count(",") == MAX_RDATES - 1
    assert len(told.text) <= MAX_RRULE_LENGTH
    assert told.covered_until == windows[-1].start - LEAD
    assert told.covered_until not in list(iterate_prefect_starts(told, NOW, told.covered_until + timedelta(days=1)))


def test_all_that_there_is_is_told_for_ever():
    once = build_prefect_schedule(schedule("Once", datetime(2026, 12, 1, 22)), NOW, LEAD)
    assert once == PrefectSchedule(
        PrefectScheduleKind.RDATE, "DTSTART:20261201T202000\nRDATE:20261201T202000", "UTC", None
    )
    week = build_prefect_schedule(schedule("Day", expires=datetime(2026, 11, 28)), NOW, LEAD)
    assert week.text == "DTSTART:20261120T212000\nRRULE:FREQ=DAILY;UNTIL=20261127T212000"
    assert week.covered_until is None
    over = build_prefect_schedule(schedule("Once"), NOW)
    assert over == PrefectSchedule(PrefectScheduleKind.NEVER, "", "UTC", None)
    assert list(iterate_prefect_starts(over, NOW, NOW + timedelta(days=1))) == []


def test_a_window_that_is_too_far_away_is_looked_for_again():
    far = build_prefect_schedule(schedule("Once", datetime(2040, 1, 1)), NOW)
    assert far.kind is PrefectScheduleKind.NEVER
    assert far.covered_until is not None


def test_hours_are_an_interval_that_has_begun():
    told = build_prefect_schedule(schedule("6Hours"), NOW, LEAD)
    assert (told.kind, told.zone, told.interval) == (PrefectScheduleKind.INTERVAL, "UTC", timedelta(hours=6))
    assert told.anchor == datetime(2026, 11, 20, 8, 20, tzinfo=UTC)
    assert told.text == "R/2026-11-20T08:20:00Z/PT6H"


def test_hours_that_begin_later_or_end_or_pause_are_a_rule():
    later = build_prefect_schedule(schedule("6Hours", datetime(2027, 1, 1)), NOW)
    assert (later.text, later.zone) == ("DTSTART:20261231T230000\nRRULE:FREQ=HOURLY;INTERVAL=6", "UTC")
    ends = build_prefect_schedule(schedule("36Hours", expires=datetime(2026, 12, 1)), NOW)
    assert ends.text == "DTSTART:20261120T210000\nRRULE:FREQ=HOURLY;INTERVAL=36;UNTIL=20261129T210000"
    closed = build_freeze(datetime(2026, 12, 24), datetime(2026, 12, 25), BERLIN)
    pauses = build_prefect_schedule(schedule("12Hours"), NOW, freezes=[closed])
    assert pauses.text.endswith("RRULE:FREQ=HOURLY;INTERVAL=12\nEXDATE:20261224T090000,20261224T210000")


def test_frozen_windows_are_left_out():
    closed = build_freeze(datetime(2026, 12, 20), datetime(2027, 1, 7), BERLIN, "closing")
    told = build_prefect_schedule(schedule("Week Saturday"), NOW, LEAD, [closed])
    assert told.text.splitlines()[1:] == ["RRULE:FREQ=WEEKLY;BYDAY=SA", "EXDATE:20261226T212000,20270102T212000"]
    dates = build_prefect_schedule(schedule("Day", NIGHT), NOW, LEAD, [closed]).text
    assert "20261219T005000,20270107T005000" in dates
    assert dates.count(",") == MAX_RDATES - 1


def test_more_frozen_windows_than_fit_are_said_as_dates():
    closed = Freeze(NOW + timedelta(days=1), NOW + timedelta(days=500))
    told = build_prefect_schedule(schedule("Day"), NOW, freezes=[closed])
    assert told.kind is PrefectScheduleKind.RDATE


@pytest.mark.parametrize("lead", [timedelta(minutes=-1), timedelta(milliseconds=1)])
def test_a_lead_that_makes_no_sense_is_refused(lead: timedelta):
    with pytest.raises(RequestError, match="before their windows"):
        build_prefect_schedule(schedule("Day"), NOW, lead)


def test_drift_is_seen_in_dates_and_not_in_texts():
    planned = schedule("Week Saturday")
    told = build_prefect_schedule(planned, NOW, LEAD)
    later, end = NOW + timedelta(days=90), NOW + timedelta(days=900)
    assert build_prefect_schedule(planned, later, LEAD).text != told.text
    assert is_schedule_current(told, planned, later, end, LEAD)
    assert not is_schedule_current(told, planned, later, end)
    assert not is_schedule_current(told, schedule("Week Sunday"), later, end, LEAD)
    assert not is_schedule_current(replace(told, zone="UTC"), planned, later, end, LEAD)
    closed = build_freeze(datetime(2027, 4, 24), datetime(2027, 4, 25), BERLIN)
    assert not is_schedule_current(told, planned, later, end, LEAD, [closed])
    assert not is_schedule_current(build_prefect_schedule(schedule("Once"), NOW), planned, later, end, LEAD)


@pytest.mark.parametrize("text", ["", "FREQ=OFTEN", "RRULE:FREQ=DAILY;UNTIL=20270101T000000Z", "DTSTART:x", "hello"])
def test_what_nobody_can_read_says_nothing_that_is_meant(text: str):
    told = PrefectSchedule(PrefectScheduleKind.RRULE, text, BERLIN, None)
    assert not is_schedule_current(told, schedule("Day"), NOW, NOW + timedelta(days=30))


FREEZES = st.builds(
    lambda day, days: Freeze(day, day + timedelta(days=days), "closing"),
    st.datetimes(datetime(2026, 1, 1), datetime(2040, 1, 1), timezones=st.just(UTC)),
    st.integers(1, 60),
)


@settings(max_examples=settings().max_examples * 2)
@given(
    meant=oracle.recurrences(),
    start=oracle.starts(),
    zone=st.sampled_from(ZONES),
    begin=st.datetimes(datetime(2026, 1, 1), datetime(2040, 1, 1), timezones=st.just(UTC)),
    lead=st.sampled_from([0, 15, 40, 180, 2000, 6000]).map(lambda minutes: timedelta(minutes=minutes)),
    freezes=st.lists(FREEZES, max_size=2),
)
def test_whatever_is_said_comes_to_our_dates(
    meant: Meant, start: datetime, zone: str, begin: datetime, lead: timedelta, freezes: list[Freeze]
):
    planned = Schedule(parse_recurrence(meant.text), start, 90, zone)
    told = build_prefect_schedule(planned, begin, lead, freezes, timedelta(days=800))
    end = told.covered_until or begin + timedelta(days=800)
    windows = iterate_occurrences(planned, begin + lead, until=end + lead)
    expected = [window.start - lead for window in windows if find_freeze(window, freezes) is None]
    assert list(iterate_prefect_starts(told, begin, end)) == expected
    assert len(told.text) <= MAX_RRULE_LENGTH
    assert (told.kind is PrefectScheduleKind.NEVER) == (not expected)
