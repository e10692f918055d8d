"""iCalendar files as freezes: what calendars of real programs hold, and what is refused."""

from datetime import UTC, date, datetime

import pytest

from deployments.config.ical import Event, read_events
from inventory.errors import InventoryError
from tests.unit.config.folder import WEEKLY, Folder, wall

SINCE, UNTIL = date(2026, 1, 1), date(2029, 1, 1)


def calendar(*events: str, before: str = "") -> str:
    bodies = "".join(f"BEGIN:VEVENT\n{event.strip()}\nEND:VEVENT\n" for event in events)
    return f"BEGIN:VCALENDAR\nVERSION:2.0\nPRODID:-//x//x//EN\n{before}{bodies}END:VCALENDAR\n".replace("\n", "\r\n")


def read(*events: str, before: str = "") -> list[tuple[str, str, str]]:
    found = read_events(calendar(*events, before=before), SINCE, UNTIL)
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
    assert [event.summary for event in read_events(text, SINCE, UNTIL)] == ["Closing, all of it"]


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", "no iCalendar file"),
        ("name: a\n", "no iCalendar file"),
        (calendar("SUMMARY:x"), "has no DTSTART"),
        (calendar("SUMMARY:x\nDTSTART:20261224T100000Z"), "has no length"),
        (calendar("SUMMARY:x\nDTSTART:20261224T100000Z\nDTEND:20261224T100000Z"), "has no length"),
        (calendar("SUMMARY:x\nDTSTART:20261224T100000Z\nDTEND;VALUE=DATE:20261225"), "has no length"),
        (calendar("SUMMARY:x\nDTSTART:20261224T100000Z\nDTEND:20261224T110000"), "has no length"),
        (calendar("SUMMARY:x\nDTSTART:yesterday\nDURATION:PT1H"), "no iCalendar file"),
        (calendar("DTSTART:20260101T000000Z\nDURATION:PT1M\nRRULE:FREQ=MINUTELY"), "recurs within a day"),
        (calendar("DTSTART;VALUE=DATE:20260101\nRRULE:FREQ=DAILY"), "more than 500 events"),
        (calendar("DTSTART;VALUE=DATE:20260101\nRRULE:FREQ=SOMETIMES"), "no iCalendar file"),
    ],
)
def test_what_makes_no_sense(text: str, words: str) -> None:
    with pytest.raises(InventoryError) as caught:
        read_events(text, SINCE, UNTIL)
    assert words in str(caught.value)
    assert caught.value.hint


def test_a_freeze_is_its_file(folder: Folder) -> None:
    text = calendar(
        "DTSTART;VALUE=DATE:20260101\nRRULE:FREQ=YEARLY\nSUMMARY:New year", "DTSTART:20261130T180000Z\nDURATION:PT1H"
    )
    one = folder.read(f"name: a\nscope: '*'\nfreezes: [{{file: x.ics}}]\n{WEEKLY}\n", x_ics=text).every[0]
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
    assert "x.ics: this is no iCalendar file" in words


def test_no_events_are_no_freezes() -> None:
    assert read_events(calendar(), SINCE, UNTIL) == ()
    assert Event(wall("2026-01-01"), wall("2026-01-02"), "a").summary == "a"
