"""iCalendar files as freezes: what calendars of real programs hold, and what is refused."""

from datetime import UTC, date, datetime, timedelta
from zoneinfo import ZoneInfo

import pytest

from flows.freezes.calendar_events import TimeZoneRegistry, parse_events
from flows.freezes.calendar_format import CalendarProperty, parse_calendars, to_utc
from tests.unit.config.folder import WEEKLY, Folder, wall

SINCE, UNTIL = date(2026, 1, 1), date(2029, 1, 1)


def calendar(*events: str, before: str = "") -> str:
    bodies = "".join(f"BEGIN:VEVENT\n{event.strip()}\nEND:VEVENT\n" for event in events)
    return f"BEGIN:VCALENDAR\nVERSION:2.0\nPRODID:-//x//x//EN\n{before}{bodies}END:VCALENDAR\n".replace("\n", "\r\n")


def read(*events: str, before: str = "") -> list[tuple[str, str, str]]:
    found = parse_events(calendar(*events, before=before), SINCE, UNTIL)
    return [
        (event.start.isoformat(" ", "minutes"), event.end.isoformat(" ", "minutes"), event.summary) for event in found
    ]


def test_whole_days_are_by_the_readers_clocks() -> None:
    assert read("SUMMARY:Closing\nDTSTART;VALUE=DATE:20261219\nDTEND;VALUE=DATE:20270107") == [
        ("2026-12-19 00:00", "2027-01-07 00:00", "Closing")
    ]
    assert read("DTSTART;VALUE=DATE:20261224") == [("2026-12-24 00:00", "2026-12-25 00:00", "")]


@pytest.mark.parametrize(
    ("start", "end", "first", "last"),
    [
        ("DTSTART:20261130T180000Z", "DTEND:20261201T060000Z", "2026-11-30 18:00+00:00", "2026-12-01 06:00+00:00"),
        (
            "DTSTART;TZID=Europe/Berlin:20261130T180000",
            "DTEND;TZID=Europe/Berlin:20261201T060000",
            "2026-11-30 17:00+00:00",
            "2026-12-01 05:00+00:00",
        ),
        (
            "DTSTART;TZID=W. Europe Standard Time:20260630T180000",
            "DURATION:PT12H",
            "2026-06-30 16:00+00:00",
            "2026-07-01 04:00+00:00",
        ),
        ("DTSTART:20261130T180000", "DTEND:20261201T060000", "2026-11-30 18:00", "2026-12-01 06:00"),
    ],
)
def test_times_and_zones(start: str, end: str, first: str, last: str) -> None:
    assert read(f"{start}\n{end}\nSUMMARY:x") == [(first, last, "x")]


def test_a_zone_that_the_file_defines() -> None:
    zone = (
        "BEGIN:VTIMEZONE\nTZID:Our place\nBEGIN:STANDARD\nDTSTART:16010101T000000\n"
        "TZOFFSETFROM:+0530\nTZOFFSETTO:+0530\nEND:STANDARD\nEND:VTIMEZONE\n"
    )
    found = read("DTSTART;TZID=Our place:20261130T053000\nDURATION:PT1H", before=zone)
    assert found == [("2026-11-30 00:00+00:00", "2026-11-30 01:00+00:00", "")]


OUTLOOK = """\
BEGIN:VTIMEZONE
TZID:{0}
BEGIN:STANDARD
DTSTART:16010101T030000
TZOFFSETFROM:+0200
TZOFFSETTO:+0100
RRULE:FREQ=YEARLY;INTERVAL=1;BYDAY=-1SU;BYMONTH=10
END:STANDARD
BEGIN:DAYLIGHT
DTSTART:16010101T020000
TZOFFSETFROM:+0100
TZOFFSETTO:+0200
RRULE:FREQ=YEARLY;INTERVAL=1;BYDAY=-1SU;BYMONTH=3
END:DAYLIGHT
END:VTIMEZONE
"""


@pytest.mark.parametrize(
    "name", ["Customized Time Zone", "(UTC+01:00) Amsterdam, Berlin, Bern", "tzone://Microsoft/Custom"]
)
def test_a_zone_as_outlook_writes_it(name: str) -> None:
    """Every hour of three years that exists and exists once is the same instant as in the zone that it describes."""
    berlin, moment = ZoneInfo("Europe/Berlin"), wall("2026-01-01")
    hours = []
    while moment < wall("2028-12-31"):
        first, second = (moment.replace(tzinfo=berlin, fold=fold).astimezone(UTC) for fold in (0, 1))
        if first == second:
            hours.append((moment, first))
        moment += timedelta(hours=1)
    zones = TimeZoneRegistry(parse_calendars(calendar(before=OUTLOOK.format(name)))[0].components, wall("2029-01-01"))
    found = zones(name, CalendarProperty(1, "DTSTART", {}, ""))
    assert all(to_utc(local, found) == instant for local, instant in hours)
    assert all(instant.astimezone(found).replace(tzinfo=None) == local for local, instant in hours)
    series = f'DTSTART;TZID="{name}":20260301T120000\nDURATION:PT1H\nRRULE:FREQ=MONTHLY;UNTIL=20260501T100000Z'
    assert [start for start, _, _ in read(series, before=OUTLOOK.format(name))] == [
        "2026-03-01 11:00+00:00", "2026-04-01 10:00+00:00", "2026-05-01 10:00+00:00",
    ]  # fmt: skip


AMERICAN = """\
BEGIN:VTIMEZONE
TZID:{}
BEGIN:STANDARD
DTSTART:20001105T020000
RRULE:FREQ=YEARLY;BYDAY=1SU;BYMONTH=11
TZOFFSETFROM:-0400
TZOFFSETTO:-0500
END:STANDARD
BEGIN:DAYLIGHT
DTSTART:20000312T020000
RRULE:FREQ=YEARLY;BYDAY=2SU;BYMONTH=3
TZOFFSETFROM:-0500
TZOFFSETTO:-0400
END:DAYLIGHT
END:VTIMEZONE
"""


@pytest.mark.parametrize(
    "name", ["EST", "GMT", "UTC", "Europe/Berlin", "America/New_York", "Eastern Standard Time", "Our place"]
)
def test_the_files_own_definition_of_a_name_holds(name: str) -> None:
    event = f"DTSTART;TZID={name}:20270715T170000\nDTEND;TZID={name}:20270715T180000"
    found = [("2027-07-15 21:00+00:00", "2027-07-15 22:00+00:00", "")]
    assert read(event, before=AMERICAN.format(name)) == found
    assert read(event, before=AMERICAN.format(name) * 2) == found  # two calendars with the same zone


def test_a_definition_of_iana_gives_what_iana_gives() -> None:
    """For each hour of two years: so a file with VTIMEZONE and one without it say the same."""
    components = parse_calendars(calendar(before=AMERICAN.format("America/New_York")))[0].components
    own = TimeZoneRegistry(components, wall("2029-01-01"))("America/New_York", CalendarProperty(1, "DTSTART", {}, ""))
    for hour in range(17520):
        instant = datetime(2027, 1, 1, tzinfo=UTC) + timedelta(hours=hour)
        assert instant.astimezone(own).replace(tzinfo=None) == instant.astimezone(ZoneInfo("America/New_York")).replace(
            tzinfo=None
        )


def test_a_definition_without_content_leaves_the_name_to_iana() -> None:
    stub = "BEGIN:VTIMEZONE\nTZID:Europe/Berlin\nX-LIC-LOCATION:Europe/Berlin\nEND:VTIMEZONE\n"
    (found,) = read("DTSTART;TZID=Europe/Berlin:20270715T170000\nDURATION:PT1H", before=stub)
    assert found[0] == "2027-07-15 15:00+00:00"


def test_many_zones_are_read() -> None:
    names = [f"Zone {number}" for number in range(12)]
    events = [f"DTSTART;TZID={name}:20270715T170000\nDURATION:PT1H" for name in names]
    assert len(read(*events, before="".join(map(AMERICAN.format, names)))) == 12


def test_a_zone_of_one_file_is_none_of_another() -> None:
    event = "DTSTART;TZID=Ours:20260301T120000\nDURATION:PT1H"
    one, other = OUTLOOK.format("Ours"), OUTLOOK.format("Ours").replace("+0100", "-0500").replace("+0200", "-0400")
    assert read(event, before=one)[0][0] == "2026-03-01 11:00+00:00"
    assert read(event, before=other)[0][0] == "2026-03-01 17:00+00:00"


@pytest.mark.parametrize("name", ["/citadel.org/20190914_1/Europe/Berlin", "w. europe standard time", "Europe/Berlin"])
def test_names_of_zones_that_are_known(name: str) -> None:
    assert read(f"DTSTART;TZID={name}:20260301T120000\nDURATION:PT1H")[0][0] == "2026-03-01 11:00+00:00"


def test_days_are_by_the_clock_and_hours_are_not() -> None:
    berlin = "DTSTART;TZID=Europe/Berlin:20260328T120000"
    assert read(f"{berlin}\nDURATION:P1D")[0][1] == "2026-03-29 10:00+00:00"
    assert read(f"{berlin}\nDURATION:PT24H")[0][1] == "2026-03-29 11:00+00:00"


def test_periods_and_lists_without_any_date() -> None:
    found = read(
        "DTSTART:20260101T100000Z\nDURATION:PT1H\nEXDATE:\nRDATE:\n"
        "RDATE;VALUE=PERIOD:20260201T100000Z/PT2H,20260301T100000Z/20260301T130000Z"
    )
    assert [end for _, end, _ in found] == [
        "2026-01-01 11:00+00:00", "2026-02-01 12:00+00:00", "2026-03-01 13:00+00:00",
    ]  # fmt: skip


def test_seconds_are_kept_in_a_series() -> None:
    found = read("DTSTART:20260101T100030Z\nDURATION:PT1H\nRRULE:FREQ=YEARLY;COUNT=2")
    events = parse_events(calendar("DTSTART:20260101T100030Z\nDURATION:PT1H\nRRULE:FREQ=YEARLY;COUNT=2"), SINCE, UNTIL)
    assert len(found) == 2
    assert {event.start.second for event in events} == {30}


def test_a_calendar_whose_events_are_over_or_cancelled_is_one() -> None:
    assert read("DTSTART;VALUE=DATE:20200101", "DTSTART;VALUE=DATE:20270101\nSTATUS:CANCELLED") == []


def test_a_series_goes_by_its_own_clocks() -> None:
    found = read("DTSTART;TZID=Europe/Berlin:20260301T120000\nDURATION:PT1H\nRRULE:FREQ=MONTHLY;COUNT=3")
    assert [start for start, _, _ in found] == [
        "2026-03-01 11:00+00:00", "2026-04-01 10:00+00:00", "2026-05-01 10:00+00:00",
    ]  # fmt: skip


def test_a_series_with_its_end_gaps_and_additions() -> None:
    found = read(
        "DTSTART;VALUE=DATE:20260331\nRRULE:FREQ=MONTHLY;INTERVAL=3;BYMONTHDAY=-1;UNTIL=20261231\n"
        "EXDATE;VALUE=DATE:20260630\nRDATE;VALUE=DATE:20260704\nSUMMARY:Quarter"
    )
    assert [start[:10] for start, _, _ in found] == ["2026-03-31", "2026-07-04", "2026-09-30", "2026-12-31"]


def test_an_end_in_utc_counts_by_the_series_clocks() -> None:
    found = read("DTSTART;TZID=Europe/Berlin:20260601T233000\nDURATION:PT1H\nRRULE:FREQ=DAILY;UNTIL=20260602T213000Z")
    assert len(found) == 2


def test_a_changed_event_of_a_series_stands_in_its_place() -> None:
    found = read(
        "UID:1\nDTSTART:20260101T100000Z\nDURATION:PT1H\nRRULE:FREQ=WEEKLY;COUNT=3\nSUMMARY:a",
        "UID:1\nRECURRENCE-ID:20260108T100000Z\nDTSTART:20260109T120000Z\nDURATION:PT2H\nSUMMARY:b",
        "UID:1\nRECURRENCE-ID:20260115T100000Z\nSTATUS:CANCELLED\nDTSTART:20260115T100000Z\nDURATION:PT1H",
    )
    assert [(start[:10], name) for start, _, name in found] == [("2026-01-01", "a"), ("2026-01-09", "b")]


def test_only_what_lies_in_the_years_asked_for() -> None:
    found = read("DTSTART;VALUE=DATE:20100101\nRRULE:FREQ=YEARLY\nSUMMARY:New year")
    assert [start[:4] for start, _, _ in found] == ["2026", "2027", "2028"]


def test_long_lines_and_signs() -> None:
    text = calendar("DTSTART;VALUE=DATE:20261224\nSUMMARY:Closing\\, all\n  of it")
    assert [event.summary for event in parse_events(text, SINCE, UNTIL)] == ["Closing, all of it"]


def test_a_freeze_is_its_file(folder: Folder) -> None:
    text = calendar(
        "DTSTART;VALUE=DATE:20260101\nRRULE:FREQ=YEARLY\nSUMMARY:New year", "DTSTART:20261130T180000Z\nDURATION:PT1H"
    )
    one = folder.read(f"name: a\nscope: '*'\nfreezes: [{{file: x.ics}}]\n{WEEKLY}\n", x_ics=text).all_configurations[0]
    assert [(freeze.start, freeze.reason) for freeze in one.freezes] == [
        (wall("2026-01-01"), "New year"),
        (datetime(2026, 11, 30, 18, tzinfo=UTC), ""),
        (wall("2027-01-01"), "New year"),
        (wall("2028-01-01"), "New year"),
    ]


def test_a_faulty_file_is_told_where_it_is_named(folder: Folder) -> None:
    folder.write({"x.ics": "nonsense"})
    ((line, key, words),) = folder.faults(f"name: a\nscope: '*'\nfreezes:\n- {{file: x.ics}}\n{WEEKLY}\n")
    assert (line, key) == (4, "freezes.0.file")
    assert "x.ics: line 1: this is no line of an iCalendar file" in words
