# ruff: noqa: DTZ001 - wall times have no zone
import itertools
import time
from datetime import UTC, datetime, timedelta

import pytest
from dateutil.rrule import rrulestr
from hypothesis import given, settings
from hypothesis import strategies as st

from tasks.rules.calendar.schedule import Schedule, iterate_occurrences
from tasks.rules.recurrence.expansion import iterate_wall_times
from tasks.rules.recurrence.model import CronUnion, Once, RecurrenceRule
from tasks.rules.recurrence.parser import parse_recurrence
from tests.unit.calendar import oracle
from tests.unit.calendar.oracle import BEGIN, END, ZONES, Meant

_FEW = max(2, settings().max_examples // 10)
LAST = datetime(2060, 12, 31, 23, 59)


def _listed(text: str, start: datetime, until: datetime, since: datetime | None = None) -> list[datetime]:
    rule = parse_recurrence(text)
    assert isinstance(rule, Once | RecurrenceRule | CronUnion)
    return list(itertools.takewhile(lambda wall: wall <= until, iterate_wall_times(rule, start, since or start)))


@pytest.mark.parametrize("zone", ZONES)
@settings(max_examples=_FEW)
@given(meant=oracle.recurrences(), start=oracle.starts())
def test_no_window_is_lost_doubled_or_shifted_until_2060(zone: str, meant: Meant, start: datetime):
    schedule = Schedule(parse_recurrence(meant.text), start, 90, zone)
    found = [(window.start, window.local_start) for window in iterate_occurrences(schedule, BEGIN, until=END)]
    assert found == oracle.windows(meant, start, zone, BEGIN, END)


@given(
    meant=oracle.recurrences(),
    start=oracle.starts(),
    zone=st.sampled_from(ZONES),
    begin=st.datetimes(datetime(2026, 1, 1), datetime(2058, 1, 1), timezones=st.just(UTC)),
)
def test_it_does_not_matter_from_when_one_looks(meant: Meant, start: datetime, zone: str, begin: datetime):
    end = begin + timedelta(days=500)
    schedule = Schedule(parse_recurrence(meant.text), start, 90, zone)
    found = [(window.start, window.local_start) for window in iterate_occurrences(schedule, begin, until=end)]
    assert found == oracle.windows(meant, start, zone, begin, end)


def _joined(values: st.SearchStrategy[object], most: int) -> st.SearchStrategy[str]:
    return st.lists(values, min_size=1, max_size=most).map(lambda found: ",".join(map(str, found)))


CODES = st.sampled_from(["MO", "TU", "WE", "TH", "FR", "SA", "SU"])
NUMBERED = st.builds("{}{}".format, st.sampled_from([1, 2, 4, 5, -1, -2]), CODES)
PARTS = {
    "BYMONTH": _joined(st.integers(1, 12), 4),
    "BYMONTHDAY": _joined(st.integers(1, 31) | st.integers(-31, -1), 4),
    "BYHOUR": _joined(st.integers(0, 23), 3),
    "BYMINUTE": _joined(st.integers(0, 59), 1),
}


@st.composite
def rules(draw: st.DrawFn) -> str:
    """Rules that RFC 5545 allows and that dateutil reads as the RFC does."""
    frequency = draw(st.sampled_from(["DAILY", "WEEKLY", "MONTHLY", "YEARLY"]))
    parts = {name: draw(values) for name, values in PARTS.items() if draw(st.booleans())}
    if draw(st.booleans()):
        numbered = frequency in {"MONTHLY", "YEARLY"} and draw(st.booleans())
        parts["BYDAY"] = draw(_joined(NUMBERED if numbered else CODES, 3))
    if frequency == "WEEKLY":
        parts.pop("BYMONTHDAY", None)
        parts["WKST"] = draw(CODES)
    elif draw(st.booleans()) and parts.keys() - {"BYMINUTE"}:
        parts["BYSETPOS"] = draw(_joined(st.sampled_from([1, 2, 3, -1, -2]), 2))
    elif draw(st.booleans()):
        parts["COUNT"] = str(draw(st.integers(1, 40)))
    parts["INTERVAL"] = str(draw(st.integers(1, 4)))
    return ";".join([f"FREQ={frequency}", *(f"{name}={value}" for name, value in parts.items())])


@settings(max_examples=settings().max_examples // 2)  # dateutil looks for dates up to the year 9999
@given(text=rules(), start=st.datetimes(datetime(2026, 1, 1), datetime(2030, 1, 1)))
def test_rules_mean_what_dateutil_reads_in_them(text: str, start: datetime):
    start = start.replace(second=0, microsecond=0)
    until = start + timedelta(days=4000)
    theirs = rrulestr(text, dtstart=start).between(start, until, inc=True)
    assert _listed(text, start, until) == theirs


@given(text=rules(), start=oracle.starts(), later=st.integers(0, 3000))
def test_looking_later_shows_the_same(text: str, start: datetime, later: int):
    since, until = start + timedelta(days=later), start + timedelta(days=4000)
    assert _listed(text, start, until, since) == [wall for wall in _listed(text, start, until) if wall >= since]


def _cron(line: str, day: datetime) -> bool:
    """Cron for fields that are "*", one number or a range; Sunday is 0."""
    _, _, month_day, month, weekday = line.split()

    def within(field: str, value: int) -> bool:
        first, _, last = field.partition("-")
        return field == "*" or int(first) <= value <= int(last or first)

    number = day.isoweekday() % 7
    if month_day != "*" and weekday != "*":
        days = within(month_day, day.day) or within(weekday, number)
    else:
        days = within(month_day, day.day) and within(weekday, number)
    return days and within(month, day.month)


def _field(low: int, high: int) -> st.SearchStrategy[str]:
    ranges = st.tuples(st.integers(low, high), st.integers(low, high)).map(lambda ends: f"{min(ends)}-{max(ends)}")
    return st.just("*") | st.integers(low, high).map(str) | ranges


@given(
    line=st.builds(
        "{} {} {} {} {}".format, st.integers(0, 59), st.integers(0, 23), _field(1, 31), _field(1, 12), _field(0, 6)
    ),
    start=oracle.starts(),
)
def test_cron_means_what_every_single_day_says(line: str, start: datetime):
    minute, hour = map(int, line.split()[:2])
    days = [start.replace(hour=hour, minute=minute) + timedelta(days=number) for number in range(1500)]
    assert _listed(line, start, days[-1]) == [day for day in days if day >= start and _cron(line, day)]


@pytest.mark.parametrize(
    ("line", "days"),
    [
        ("0 22 * * TUE#2", [datetime(2026, 1, 13, 22), datetime(2026, 2, 10, 22)]),
        ("0 22 * * L5", [datetime(2026, 1, 30, 22), datetime(2026, 2, 27, 22)]),
        ("0 22 * * friL", [datetime(2026, 1, 30, 22), datetime(2026, 2, 27, 22)]),
        ("5 3 L * *", [datetime(2026, 1, 31, 3, 5), datetime(2026, 2, 28, 3, 5)]),
        (
            "0 0,12 1 */2 *",
            [datetime(2026, 1, 1), datetime(2026, 1, 1, 12), datetime(2026, 3, 1), datetime(2026, 3, 1, 12)],
        ),
        ("0 4 * JAN 7", [datetime(2026, 1, 4, 4), datetime(2026, 1, 11, 4), datetime(2026, 1, 18, 4)]),
        ("@monthly", [datetime(2026, 1, 1), datetime(2026, 2, 1)]),
    ],
)
def test_cron_beyond_numbers_and_ranges(line: str, days: list[datetime]):
    assert _listed(line, datetime(2026, 1, 1), days[-1]) == days


@pytest.mark.parametrize(("week_start", "days"), [("MO", [5, 10, 19, 24]), ("SU", [5, 17, 19, 31])])
def test_the_example_of_rfc_5545_in_which_the_weeks_start_matters(week_start: str, days: list[int]):
    rule = f"FREQ=WEEKLY;INTERVAL=2;COUNT=4;BYDAY=TU,SU;WKST={week_start}"
    found = _listed(rule, datetime(1997, 8, 5, 9), datetime(1998, 1, 1))
    assert [(wall.month, wall.day) for wall in found] == [(8, day) for day in days]


@pytest.mark.parametrize("text", ["Month day31", "FREQ=MONTHLY;BYMONTHDAY=31", "0 0 31 * *", "Month"])
def test_months_without_day_31_are_skipped(text: str):
    months = [wall.month for wall in _listed(text, datetime(2026, 1, 31), datetime(2026, 12, 31))]
    assert months == [1, 3, 5, 7, 8, 10, 12]


def test_29_february_waits_for_leap_years_over_2100():
    years = [wall.year for wall in _listed("FREQ=YEARLY", datetime(2092, 2, 29), datetime(2110, 1, 1))]
    assert years == [2092, 2096, 2104, 2108]


@pytest.mark.parametrize(
    "text",
    ["12Months day31", "FREQ=YEARLY;BYMONTH=2;BYMONTHDAY=30", "FREQ=DAILY;BYMONTH=4;BYMONTHDAY=31", "0 0 30 2 *"],
)
def test_what_never_comes_ends_the_search(text: str):
    assert _listed(text, datetime(2026, 2, 1), datetime(9000, 1, 1)) == []


def test_the_calendar_has_an_end():
    assert _listed("999Months", datetime(2026, 1, 1), datetime(9999, 1, 1))[-1].year < 9999
    assert _listed("Day", datetime(2026, 1, 1), datetime(9999, 1, 1), since=datetime(9990, 12, 30))[0].year == 9990


@pytest.mark.parametrize(
    "text", ["Hour", "Day", "Week Monday", "Month day-1", "0 3 * * 1-5", "Month Second Tuesday Offset20"]
)
def test_a_start_long_ago_costs_nothing(text: str):
    schedule = Schedule(parse_recurrence(text), datetime(1971, 1, 4, 3), 60, "Europe/Berlin")
    began = time.process_time()
    for _ in range(20):
        assert len(list(iterate_occurrences(schedule, END, limit=5))) == 5
    assert time.process_time() - began < 0.5  # walking 90 years by hours takes longer than that once


@pytest.mark.parametrize(
    ("start", "months"),
    [
        (datetime(2026, 2, 2, 3), [2, 3, 6]),  # itself a window, January's: then March's and May's, on 1 June
        (datetime(2026, 2, 1, 3), [3, 5, 6]),  # none: February's is the first, on 2 March
    ],
)
def test_an_interval_counts_from_the_month_that_its_first_date_belongs_to(start: datetime, months: list[int]):
    found = _listed("2Months Second Tuesday Offset20", start, datetime(2026, 6, 30))
    assert [wall.month for wall in found] == months
