# ruff: noqa: DTZ001, RUF001 - wall times have no zone; a dash between two times is a dash
from datetime import datetime

import pytest
from hypothesis import given

from tasks.rules.calendar.description import describe_schedule
from tasks.rules.calendar.schedule import Schedule
from tasks.rules.recurrence.parser import parse_recurrence
from tests.unit.calendar import oracle
from tests.unit.calendar.oracle import Meant

MONDAY = datetime(2026, 11, 2, 22)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("Month Second Tuesday Offset4", "every month on the second Tuesday plus 4 days, 22:00–01:55 Europe/Berlin"),
        ("Month Last Sunday Offset-1", "every month on the last Sunday minus 1 day, 22:00–01:55 Europe/Berlin"),
        ("Once", "once on 2026-11-02, 22:00–01:55 Europe/Berlin"),
        ("Day", "every day, 22:00–01:55 Europe/Berlin"),
        ("3Days", "every 3 days (counted from 2026-11-02), 22:00–01:55 Europe/Berlin"),
        ("Week", "every week on Monday, 22:00–01:55 Europe/Berlin"),
        (
            "2Weeks Saturday,Sunday",
            "every 2 weeks on Saturday and Sunday (counted from 2026-11-02), 22:00–01:55 Europe/Berlin",
        ),
        ("2Months", "every 2 months on day 2 (counted from 2026-11), 22:00–01:55 Europe/Berlin"),
        (
            "Month day1,day8,day9,day10,day-1,day-2",
            "every month on day 1, day 8 to 10, the 2nd to last day and the last day, 22:00–01:55 Europe/Berlin",
        ),
        ("6Hours", "every 6 hours from 2026-11-02 22:00 Europe/Berlin, each for 3 h 55 min"),
        ("Hour", "every hour from 2026-11-02 22:00 Europe/Berlin, each for 3 h 55 min"),
        ("FREQ=YEARLY", "every year on day 2 in November, 22:00–01:55 Europe/Berlin"),
        ("FREQ=YEARLY;COUNT=2", "every year on day 2 in November, 22:00–01:55 Europe/Berlin, 2 times in all"),
        ("FREQ=DAILY;COUNT=1", "every day, 22:00–01:55 Europe/Berlin, once"),
        (
            "FREQ=DAILY;UNTIL=20270101T000000Z",
            "every day, 22:00–01:55 Europe/Berlin, the last no later than 2027-01-01 00:00 UTC",
        ),
        (
            "FREQ=MONTHLY;BYDAY=MO,TU,WE,TH,FR;BYSETPOS=-1",
            "every month on the last of Monday to Friday, 22:00–01:55 Europe/Berlin",
        ),
        ("FREQ=MONTHLY;BYDAY=FR;BYMONTHDAY=13", "every month on Friday that is also day 13, 22:00–01:55 Europe/Berlin"),
        ("FREQ=YEARLY;BYDAY=20MO", "every year on the 20th Monday, 22:00–01:55 Europe/Berlin"),
        ("0 2,14 * 1,7 *", "every day in January and July, 02:00–05:55 and 14:00–17:55 Europe/Berlin"),
        ("0 2 * * 1-5", "every Monday to Friday, 02:00–05:55 Europe/Berlin"),
        ("0 2 8-14 * 2", "every month on day 8 to 14 and also every Tuesday, 02:00–05:55 Europe/Berlin"),
        ("15 * * * *", "every day, every full hour and 15 minutes, each for 3 h 55 min Europe/Berlin"),
        (
            "0 8-20/2 * * *",
            "every day, at 08:00, 10:00, 12:00, 14:00, 16:00, 18:00, 20:00, each for 3 h 55 min Europe/Berlin",
        ),
    ],
)
def test_plain_words(text: str, words: str):
    assert describe_schedule(Schedule(parse_recurrence(text), MONDAY, 235, "Europe/Berlin")) == words


def test_long_windows_and_odd_lengths_and_expiries():
    expires = datetime(2027, 1, 1)
    long = Schedule(parse_recurrence("Month"), MONDAY, 2 * 24 * 60, "UTC", expires)
    assert describe_schedule(long) == "every month on day 2, at 22:00 for 2 d UTC, none from 2027-01-01 00:00 on"
    assert describe_schedule(Schedule(parse_recurrence("Day"), MONDAY, 0.5, "UTC")) == "every day, 22:00–22:00:30 UTC"


@given(meant=oracle.recurrences(), start=oracle.starts())
def test_everything_has_words(meant: Meant, start: datetime):
    words = describe_schedule(Schedule(parse_recurrence(meant.text), start, 60, "UTC"))
    assert words.startswith("every ")
    assert "  " not in words
    assert " ," not in words
