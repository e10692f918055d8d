"""iCalendar files that can't be read as they are meant: each is refused with its event, line and zone."""

import pytest

from flows.freezes.calendar_events import parse_events
from inventory.errors import InventoryError
from tests.support.fuzzing import bounded, judge
from tests.unit.config.test_ical import SINCE, UNTIL, calendar, read

DAY = "SUMMARY:Closing\nDTSTART;VALUE=DATE:20260101"
TIMED = "SUMMARY:Closing\nDTSTART:20260101T100000Z\nDURATION:PT1H"
UNKNOWN = (
    "Europe/Berlim",
    "Customized Time Zone",
    "(UTC+01:00) Amsterdam, Berlin",
    "machine",
    "europe/berlin",
    "CEST",
    "",
    "/a",
)
SERIES_FROM_1900 = "DTSTART;VALUE=DATE:19000101\nRRULE:"

EVENTS = [
    ("SUMMARY:Closing", "no DTSTART"),
    ("SUMMARY:Closing\nDTSTART:20261224T100000Z", "no length"),
    ("SUMMARY:Closing\nDTSTART:20261224T100000Z\nDTEND:20261224T100000Z", "no length"),
    ("SUMMARY:Closing\nDTSTART:20261224T100000Z\nDTEND:20261223T100000Z", "no length"),
    ("SUMMARY:Closing\nDTSTART;VALUE=DATE:20261224\nDTEND;VALUE=DATE:20261224", "no length"),
    ("SUMMARY:Closing\nDTSTART;VALUE=DATE:20261224\nDTEND;VALUE=DATE:20261220", "no length"),
    ("SUMMARY:Closing\nDTSTART:20261224T100000Z\nDTEND;VALUE=DATE:20261225", "no length"),
    ("SUMMARY:Closing\nDTSTART:20261224T100000Z\nDTEND:20261224T110000", "no length"),
    ("SUMMARY:Closing\nDTSTART:20261224T100000Z\nDURATION:-PT1H", "no length"),
    ("SUMMARY:Closing\nDTSTART:20261224T100000Z\nDURATION:PT0S", "no length"),
    ("SUMMARY:Closing\nDTSTART:20261224T100000Z\nDURATION:1H", "is no length of time"),
    ("SUMMARY:Closing\nDTSTART:20261224T100000Z\nDURATION:P", "is no length of time"),
    ("SUMMARY:Closing\nDTSTART:20261224T100000Z\nDURATION:P" + "9" * 5000 + "D", "is no length of time"),
    (f"{TIMED}\nDTEND:20260101T110000Z", "exclude each other"),
    ("SUMMARY:Closing\nDTSTART:yesterday\nDURATION:PT1H", "is no date or time"),
    ("SUMMARY:Closing\nDTSTART;VALUE=DATE:20260101T100000Z", "is no date or time"),
    ("SUMMARY:Closing\nDTSTART;VALUE=DATE-TIME:20260101", "is no date or time"),
    ("SUMMARY:Closing\nDTSTART:20260230", "is not in the calendar"),
    ("SUMMARY:Closing\nDTSTART:20260101T250000Z\nDURATION:PT1H", "is not in the calendar"),
    ("SUMMARY:Closing\nDTSTART:00000101", "is not in the calendar"),
    ("SUMMARY:Closing\nDTSTART:" + "9" * 10_000, "is no date or time"),
    ("SUMMARY:Closing\nDTSTART:٢٠٢٦٠١٠١", "is no date or time"),
    ("SUMMARY:Closing\nDTSTART;TZID=Asia/Tokyo:00010101T000000\nDURATION:PT1H", "outside of the calendar"),
    ("SUMMARY:Closing\nDTSTART:20260101T000000Z\nDURATION:P999999W", "outside of the calendar"),
    (f"{DAY}\nRDATE;VALUE=DATE:20260231", "is not in the calendar"),
    (f"{DAY}\nEXDATE;VALUE=DATE:soon", "is no date or time"),
    (f"{TIMED}\nRDATE;VALUE=PERIOD:20260301T100000Z/soon", "is no date or time"),
    (f"{TIMED}\nRDATE;VALUE=PERIOD:20260301T100000Z/PX", "is no length of time"),
    (f"{DAY}\nEXRULE:FREQ=DAILY", "EXRULE is not read"),
    (f"{DAY}\nRECURRENCE-ID:soon", "is no date or time"),
    (f"{DAY}\nRECURRENCE-ID;RANGE=THISANDFUTURE:20260101", "RANGE"),
]
TWICE = ["DTSTART:20260101", "DTEND:20260102", "DURATION:P1D", "UID:a", "STATUS:CONFIRMED", "RECURRENCE-ID:20260101"]
RULES = [
    ("BYDAY=MO", "lacks FREQ="),
    ("", "is not understood"),
    ("FREQ=SOMETIMES", "is not understood"),
    ("FREQ=HOURLY", "recurs within a day"),
    ("FREQ=MINUTELY", "recurs within a day"),
    ("FREQ=SECONDLY;COUNT=3", "recurs within a day"),
    ("FREQ=DAILY;INTERVAL=0", "INTERVAL=0"),
    ("FREQ=DAILY;INTERVAL=-1", "INTERVAL=-1"),
    ("FREQ=DAILY;INTERVAL=" + "9" * 900, "INTERVAL="),
    ("FREQ=DAILY;COUNT=0", "COUNT=0"),
    ("FREQ=DAILY;COUNT=x", "COUNT=X"),
    ("FREQ=DAILY;COUNT=2;UNTIL=20270101", "exclude each other"),
    ("FREQ=DAILY;UNTIL=20261301", "UNTIL=20261301"),
    ("FREQ=DAILY;UNTIL=soon", "UNTIL=SOON"),
    ("FREQ=YEARLY;BYMONTH=13", "BYMONTH=13"),
    ("FREQ=YEARLY;BYMONTH=3,13", "BYMONTH=13"),
    ("FREQ=YEARLY;BYMONTH=0", "BYMONTH=0"),
    ("FREQ=MONTHLY;BYMONTHDAY=32", "BYMONTHDAY=32"),
    ("FREQ=MONTHLY;BYMONTHDAY=0", "BYMONTHDAY=0"),
    ("FREQ=MONTHLY;BYMONTHDAY=-32", "BYMONTHDAY=-32"),
    ("FREQ=WEEKLY;BYDAY=XX", "BYDAY=XX"),
    ("FREQ=MONTHLY;BYDAY=6MO", "never comes"),
    ("FREQ=MONTHLY;BYDAY=0MO", "BYDAY=0MO"),
    ("FREQ=WEEKLY;BYDAY=2MO", "is not possible"),
    ("FREQ=DAILY;BYHOUR=24", "BYHOUR=24"),
    ("FREQ=DAILY;BYMINUTE=60", "BYMINUTE=60"),
    ("FREQ=DAILY;BYSECOND=61", "BYSECOND=61"),
    ("FREQ=DAILY;BYMINUTE=0,30", "recurs within an hour"),
    ("FREQ=MONTHLY;BYDAY=MO;BYSETPOS=0", "BYSETPOS=0"),
    ("FREQ=MONTHLY;BYDAY=MO;BYSETPOS=400", "BYSETPOS=400"),
    ("FREQ=WEEKLY;WKST=XX", "WKST=XX"),
    ("FREQ=YEARLY;BYWEEKNO=20", "BYWEEKNO=20"),
    ("FREQ=YEARLY;BYYEARDAY=100", "BYYEARDAY=100"),
    ("RSCALE=CHINESE;FREQ=YEARLY", "RSCALE"),
    ("FREQ=DAILY;FREQ=WEEKLY", "a second time"),
    ("FREQ=YEARLY;BYMONTH=2;BYMONTHDAY=30", "no year has"),
    ("FREQ=MONTHLY;BYMONTH=4,6;BYMONTHDAY=31,-31", "no year has"),
    ("FREQ=DAILY;" + "X" * 2000, "1000 characters"),
]
NONE = [
    ("", "no iCalendar file"),
    ("name: a\n", "no iCalendar file"),
    ("BEGIN:VEVENT\nEND:VEVENT\n", "no iCalendar file"),
    ("<html><body>404</body></html>", "NAME:VALUE is wanted"),
    (calendar(), "no event"),
    (calendar(before="BEGIN:VTODO\nSUMMARY:x\nEND:VTODO\n"), "no event"),
    (calendar(DAY).partition("END:VCALENDAR")[0], "cut off"),
    (calendar(DAY).partition("END:VEVENT")[0], "cut off"),
    (calendar(DAY).replace("END:VEVENT", "END:VTODO"), "is to end"),
    (calendar(f"{DAY}\nnonsense"), "NAME:VALUE is wanted"),
]


def refusal(text: str) -> InventoryError:
    with bounded(), pytest.raises(InventoryError) as caught:
        parse_events(text, SINCE, UNTIL)
    judge(caught.value)
    return caught.value


@pytest.mark.parametrize(("text", "words"), NONE)
def test_what_is_no_calendar(text: str, words: str) -> None:
    assert words in refusal(text).message


@pytest.mark.parametrize(("event", "words"), EVENTS)
def test_an_event(event: str, words: str) -> None:
    error = refusal(calendar(event))
    assert words in error.message
    assert "'Closing'" in error.message
    assert "line " in error.message


@pytest.mark.parametrize("line", TWICE)
def test_what_stands_twice(line: str) -> None:
    name, start = line.partition(":")[0], "\nDTSTART:20260101"
    error = refusal(calendar(f"SUMMARY:Closing\n{line}\n{line}{'' if name == 'DTSTART' else start}"))
    assert f"the event 'Closing': line 7: {name} is here a second time, first in line 6" in error.message


@pytest.mark.parametrize(("rule", "words"), RULES)
def test_a_rule(rule: str, words: str) -> None:
    error = refusal(calendar(f"{DAY}\nRRULE:{rule}"))
    assert words in error.message
    assert "the event 'Closing': line 7: " in error.message


@pytest.mark.parametrize("name", UNKNOWN)
@pytest.mark.parametrize(
    "event",
    [
        "DTSTART;TZID={0}:20260101T100000\nDURATION:PT1H",
        "DTSTART;TZID=UTC:20260101T100000\nDTEND;TZID={0}:20260101T110000",
        "DTSTART;TZID=UTC:20260101T100000\nDURATION:PT1H\nRDATE;TZID={0}:20260301T100000",
        "DTSTART;TZID=UTC:20260101T100000\nDURATION:PT1H\nRRULE:FREQ=YEARLY\nEXDATE;TZID={0}:20270101T100000",
        "DTSTART;TZID=UTC:20260101T100000\nDURATION:PT1H\nRECURRENCE-ID;TZID={0}:20270101T100000",
    ],
)
def test_a_zone_that_nobody_knows(event: str, name: str) -> None:
    error = refusal(calendar("SUMMARY:Closing\n" + event.replace("{0}", f'"{name}"')))
    assert "the event 'Closing': line " in error.message
    assert f"names the time zone {name!r}" in error.message


ZONE = "BEGIN:STANDARD\nDTSTART:16010101T000000\nTZOFFSETFROM:+0530\nTZOFFSETTO:+0530\nEND:STANDARD"


@pytest.mark.parametrize(
    ("body", "words"),
    [
        ("", "neither STANDARD nor DAYLIGHT"),
        (ZONE.replace("DTSTART:16010101T000000\n", ""), "no DTSTART"),
        (ZONE.replace("TZOFFSETTO:+0530\n", ""), "no TZOFFSETTO"),
        (ZONE.replace("TZOFFSETFROM:+0530\n", ""), "no TZOFFSETFROM"),
        (ZONE.replace("+0530", "5.5"), "is no offset"),
        (ZONE.replace("+0530", "+2400"), "is no offset"),
        (ZONE.replace("+0530", "+" + "9" * 6000), "is no offset"),
        (ZONE.replace("16010101T000000", "soon"), "is no date or time"),
        (ZONE.replace("16010101T000000", "16010101T000000Z"), "is in UTC"),
        (ZONE.replace("DTSTART:", "DTSTART;TZID=UTC:"), "names a zone itself"),
        (ZONE.replace("DTSTART:", "DTSTART;TZID=Own:"), "names a zone itself"),
        (ZONE.replace("END:", "RRULE:FREQ=SECONDLY\nEND:"), "recurs within a day"),
        (ZONE.replace("END:", "RRULE:FREQ=DAILY\nEND:"), "more than 2000 times"),
        (ZONE.replace("END:", "RRULE:BYMONTH=13\nEND:"), "FREQ="),
        (ZONE.replace("END:", "RDATE:soon\nEND:"), "is no date or time"),
        (ZONE.replace("END:", "DTSTART:16010101T000000\nEND:"), "is here a second time"),
    ],
)
def test_a_zone_whose_definition_makes_no_sense(body: str, words: str) -> None:
    zone = f"BEGIN:VTIMEZONE\nTZID:Own\n{body}\nEND:VTIMEZONE\n"
    error = refusal(calendar("SUMMARY:Closing\nDTSTART;TZID=Own:20260101T100000\nDURATION:PT1H", before=zone))
    assert words in error.message
    assert "the event 'Closing': line " in error.message
    assert read(TIMED, before=zone)  # who doesn't use it takes no harm


@pytest.mark.parametrize(
    "event",
    [
        f"{SERIES_FROM_1900}FREQ=DAILY;COUNT=100000",
        f"{SERIES_FROM_1900}FREQ=YEARLY;BYDAY=53MO;COUNT=5000",
        f"{SERIES_FROM_1900}FREQ=WEEKLY;BYMONTH=2;BYDAY=MO;COUNT=90000",
        "DTSTART;VALUE=DATE:00010101\nRRULE:FREQ=DAILY;COUNT=100000",
        "DTSTART:00010101T000000Z\nDURATION:P700000D\nRRULE:FREQ=DAILY;BYHOUR=" + ",".join(map(str, range(24))),
    ],
)
def test_work_is_bounded_in_one_series_and_in_many(event: str) -> None:
    for copies in (1, 100):
        with bounded():
            try:
                parse_events(calendar(*[event] * copies), SINCE, UNTIL)
            except InventoryError as error:
                judge(error)


def test_an_end_in_the_past_costs_nothing() -> None:
    with bounded():
        assert read(*[f"{SERIES_FROM_1900}FREQ=DAILY;UNTIL=20200101"] * 3000) == []
        assert read(*["DTSTART;VALUE=DATE:20150101\nRRULE:FREQ=WEEKLY;COUNT=10"] * 3000) == []


def test_too_many_events() -> None:
    assert "more than 500 events" in refusal(calendar("DTSTART;VALUE=DATE:20260101\nRRULE:FREQ=DAILY")).message
    assert "more than 500 events" in refusal(calendar(*[DAY] * 501)).message


def test_numbers_that_decide_nothing_may_be_of_any_length() -> None:
    assert len(read(f"{DAY}\nSEQUENCE:{'9' * 10_000}\nPRIORITY:-{'9' * 5000}")) == 1


def test_a_zone_that_a_file_defines_in_two_ways_is_refused() -> None:
    zone = f"BEGIN:VTIMEZONE\nTZID:EST\n{ZONE}\nEND:VTIMEZONE\n"
    event = "DTSTART;TZID=EST:20270715T170000\nDURATION:PT1H"
    with pytest.raises(InventoryError, match=r"line 12: .*defines the time zone 'EST' in two ways") as caught:
        parse_events(calendar(event, before=zone + zone.replace("+0530", "-0500")), SINCE, UNTIL)
    assert caught.value.hint == "Keep each calendar in a file of its own."
