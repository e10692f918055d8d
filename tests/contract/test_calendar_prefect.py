"""What fleetpatch tells Prefect about windows, evaluated by Prefect's own schedules: the same dates, in every zone."""

# ruff: noqa: DTZ001 - wall times have no zone
import asyncio
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from prefect._internal.schemas.validators import normalize_rrule_string
from prefect.server.schemas.schedules import IntervalSchedule, RRuleSchedule

from tasks.rules.calendar.prefect_schedule import (
    PrefectSchedule,
    PrefectScheduleKind,
    build_prefect_schedule,
    iterate_prefect_starts,
)
from tasks.rules.calendar.schedule import Schedule, iterate_occurrences
from tasks.rules.recurrence.parser import parse_recurrence
from tests.unit.calendar import oracle
from tests.unit.calendar.oracle import ZONES, Meant

NOW = datetime(2026, 11, 20, 12, tzinfo=UTC)
LEAD = timedelta(minutes=40)
TEXTS = (
    "Day", "3Days", "Week Saturday,Sunday", "2Weeks Sunday", "Month day1,day15", "Month day-1", "Month day31",
    "2Months Last Sunday Offset-3", "Month Second Tuesday Offset4", "Month Second Tuesday Offset20", "6Hours",
    "25Hours", "FREQ=MONTHLY;BYDAY=MO,TU,WE,TH,FR;BYSETPOS=-1", "FREQ=YEARLY;BYMONTH=3;BYDAY=-1SU", "0 2,14 * * 0",
    "0 2 8-14 * 2",
)  # fmt: skip


def prefect_dates(told: PrefectSchedule, begin: datetime, end: datetime) -> list[datetime]:
    """Ask Prefect's own schedule, as its scheduler does: some dates at a time, from the present moment on."""
    return list(_asked(told, begin, end))


def _asked(told: PrefectSchedule, begin: datetime, end: datetime) -> Iterator[datetime]:
    schedule: RRuleSchedule | IntervalSchedule
    if told.kind is PrefectScheduleKind.INTERVAL:
        said = {"interval": told.interval, "anchor_date": told.anchor, "timezone": told.zone}
        schedule = IntervalSchedule.model_validate(said)
    else:
        schedule = RRuleSchedule(rrule=told.text, timezone=told.zone)
    while begin < end:
        found = asyncio.run(schedule.get_dates(n=500, start=begin, end=end - timedelta(seconds=1)))
        dates = [datetime.fromtimestamp(found_one.timestamp(), UTC) for found_one in found]
        yield from dates
        begin = dates[-1] + timedelta(seconds=1) if len(dates) == 500 else end


def _ours(schedule: Schedule, begin: datetime, end: datetime, lead: timedelta) -> list[datetime]:
    return [window.start - lead for window in iterate_occurrences(schedule, begin + lead, until=end + lead)]


@pytest.mark.parametrize("zone", ZONES)
@pytest.mark.parametrize("hour", [0, 2])
def test_prefect_schedules_our_dates(zone: str, hour: int):
    kinds = set()
    for text in TEXTS:
        schedule = Schedule(parse_recurrence(text), datetime(2026, 11, 1, hour, 30), 60, zone)
        told = build_prefect_schedule(schedule, NOW, LEAD, horizon=timedelta(days=800))
        assert told.covered_until is not None
        dates = prefect_dates(told, NOW, told.covered_until)
        assert dates == _ours(schedule, NOW, told.covered_until, LEAD), text
        assert dates, text
        assert normalize_rrule_string(told.text) == told.text  # the server stores what it was given
        kinds.add(told.kind)
    assert kinds == {PrefectScheduleKind.RRULE, PrefectScheduleKind.RDATE, PrefectScheduleKind.INTERVAL}


@given(
    meant=oracle.recurrences(),
    start=oracle.starts(),
    zone=st.sampled_from(ZONES),
    begin=st.datetimes(datetime(2026, 1, 1), datetime(2058, 1, 1), timezones=st.just(UTC)),
    lead=st.sampled_from([0, 40, 180, 6000]).map(lambda minutes: timedelta(minutes=minutes)),
)
def test_prefect_schedules_our_dates_up_to_2060(
    meant: Meant, start: datetime, zone: str, begin: datetime, lead: timedelta
):
    schedule = Schedule(parse_recurrence(meant.text), start, 60, zone)
    told = build_prefect_schedule(schedule, begin, lead, horizon=timedelta(days=1000))
    if told.kind is PrefectScheduleKind.NEVER:
        assert _ours(schedule, begin, begin + timedelta(days=1000), lead) == []
        return
    end = told.covered_until or begin + timedelta(days=1000)
    assert prefect_dates(told, begin, end) == _ours(schedule, begin, end, lead)


def test_a_rule_without_a_start_begins_where_prefect_begins():
    told = PrefectSchedule(PrefectScheduleKind.RRULE, "RRULE:FREQ=DAILY;INTERVAL=7;BYHOUR=22", "Europe/Berlin", None)
    end = NOW + timedelta(days=30)
    assert list(iterate_prefect_starts(told, NOW, end)) == prefect_dates(told, NOW, end) != []


@settings(max_examples=settings().max_examples * 2)
@given(
    rule=st.sampled_from(["FREQ=DAILY", "FREQ=WEEKLY;BYDAY=SU", "FREQ=MONTHLY;BYDAY=-1SU", "FREQ=DAILY;BYHOUR=1,2,3"]),
    start=oracle.starts(),
    zone=st.sampled_from(ZONES),
    year=st.integers(2031, 2060),
)
def test_prefect_is_copied_with_its_faults(rule: str, start: datetime, zone: str, year: int):
    start = start.replace(year=year - 1, day=1)
    told = PrefectSchedule(PrefectScheduleKind.RRULE, f"DTSTART:{start:%Y%m%dT%H%M%S}\nRRULE:{rule}", zone, None)
    begin = datetime(year, 1, 1, tzinfo=UTC)
    end = begin + timedelta(days=365)
    assert sorted(iterate_prefect_starts(told, begin, end)) == prefect_dates(told, begin, end)


def test_the_faults_that_we_speak_around():
    """When one of these no longer holds, Prefect was mended, and more can be said as rules."""
    nightly = PrefectSchedule(
        PrefectScheduleKind.RRULE, "DTSTART:20270328T023000\nRRULE:FREQ=DAILY", "Europe/Berlin", None
    )
    gap = datetime(2027, 3, 28, tzinfo=UTC)
    assert prefect_dates(nightly, gap, gap + timedelta(hours=12)) == [gap + timedelta(minutes=30)]  # 01:30, not 03:00
    summer = datetime(2038, 7, 1, tzinfo=UTC)
    assert prefect_dates(nightly, summer, summer + timedelta(days=1)) == [summer + timedelta(hours=1, minutes=30)]
    future = PrefectSchedule(PrefectScheduleKind.INTERVAL, "", "UTC", None, timedelta(hours=6), NOW + timedelta(days=2))
    assert prefect_dates(future, NOW, NOW + timedelta(days=1)) != []  # before its anchor
