import pytest
from hypothesis import given
from hypothesis import strategies as st

from tasks.domain.errors import RequestError
from tasks.rules.recurrence.model import CronUnion, EveryHours, Frequency, Once, RecurrenceRule, Weekday
from tasks.rules.recurrence.parser import parse_recurrence
from tests.unit.calendar import oracle
from tests.unit.calendar.oracle import Meant
from tests.unit.calendar.test_dates import rules

D, W, M, Y = Frequency.DAILY, Frequency.WEEKLY, Frequency.MONTHLY, Frequency.YEARLY
SATURDAY, SUNDAY, MONDAY, TUESDAY = 5, 6, 0, 1

AZURES_OWN = [  # every example in the description of recurEvery, and what templates in the field use
    ("Day", RecurrenceRule(D)),
    ("3Days", RecurrenceRule(D, 3)),
    ("20days", RecurrenceRule(D, 20)),
    ("1Day", RecurrenceRule(D)),
    ("3Weeks", RecurrenceRule(W, 3)),
    ("Week Saturday,Sunday", RecurrenceRule(W, weekdays=(Weekday(SATURDAY), Weekday(SUNDAY)))),
    ("1Week Monday", RecurrenceRule(W, weekdays=(Weekday(MONDAY),))),
    ("Month", RecurrenceRule(M)),
    ("2Months", RecurrenceRule(M, 2)),
    ("Month day23,day24", RecurrenceRule(M, month_days=(23, 24))),
    ("Month day-1", RecurrenceRule(M, month_days=(-1,))),
    ("Month Last Sunday", RecurrenceRule(M, weekdays=(Weekday(SUNDAY, -1),))),
    ("Month Fourth Monday", RecurrenceRule(M, weekdays=(Weekday(MONDAY, 4),))),
    ("Month Last Sunday Offset-3", RecurrenceRule(M, weekdays=(Weekday(SUNDAY, -1),), offset=-3)),
    ("Month Third Sunday Offset6", RecurrenceRule(M, weekdays=(Weekday(SUNDAY, 3),), offset=6)),
    ("Month Second Tuesday Offset4", RecurrenceRule(M, weekdays=(Weekday(TUESDAY, 2),), offset=4)),
    ("1Month Second Tuesday Offset4", RecurrenceRule(M, weekdays=(Weekday(TUESDAY, 2),), offset=4)),
    ("6Hour", EveryHours(6)),
    ("6Hours", EveryHours(6)),
    ("Hour", EveryHours(1)),
]


@pytest.mark.parametrize(("text", "meaning"), AZURES_OWN)
def test_azures_own_examples(text: str, meaning: RecurrenceRule | EveryHours):
    assert parse_recurrence(text) == meaning
    assert parse_recurrence(text.upper()) == parse_recurrence(f"  {text.lower()} ") == meaning
    assert parse_recurrence(str(meaning)) == meaning


@pytest.mark.parametrize(
    ("text", "canonical"),
    [
        ("once", "Once"),
        ("1days", "Day"),
        ("2week sun, SAT", "2Weeks Saturday,Sunday"),
        ("Month day24 , day23,day24", "Month day23,day24"),
        ("month second tuesday offset20", "Month Second Tuesday Offset20"),
        ("Month Second Tuesday Offset +4", "Month Second Tuesday Offset4"),
        ("Month Second Tuesday Offset0", "Month Second Tuesday"),
        ("RRULE:FREQ=MONTHLY;BYDAY=2TU", "Month Second Tuesday"),
        ("freq=weekly;interval=2;byday=su,sa", "2Weeks Saturday,Sunday"),
        ("FREQ=WEEKLY;WKST=SU;BYDAY=SA", "Week Saturday"),  # the week's start only matters to intervals
        ("FREQ=WEEKLY;WKST=SU;BYDAY=SA;INTERVAL=2", "FREQ=WEEKLY;INTERVAL=2;BYDAY=SA;WKST=SU"),
        ("FREQ=HOURLY;INTERVAL=6", "6Hours"),
        ("FREQ=MONTHLY;BYDAY=5TU", "FREQ=MONTHLY;BYDAY=5TU"),
        ("FREQ=DAILY;UNTIL=20270101", "FREQ=DAILY;UNTIL=20270101T235959"),
        ("FREQ=DAILY;UNTIL=20270101T220000Z", "FREQ=DAILY;UNTIL=20270101T220000Z"),
        ("FREQ=YEARLY;COUNT=3;", "FREQ=YEARLY;COUNT=3"),
        ("0 22 * * TUE#2", "FREQ=MONTHLY;BYDAY=2TU;BYHOUR=22;BYMINUTE=0"),
        ("30 */12 1-31 1-12 *", "FREQ=DAILY;BYHOUR=0,12;BYMINUTE=30"),
        ("0 22 1-31 * TUE#2", "FREQ=DAILY;BYHOUR=22;BYMINUTE=0"),  # "or" every day
        ("@Weekly", "FREQ=DAILY;BYDAY=SU;BYHOUR=0;BYMINUTE=0"),
        ("0 22 8-14 * 2", "0 22 8,9,10,11,12,13,14 * TUE"),
        ("0 22 L 6 fri#1,l5,mon", "0 22 L 6 MON,LFRI,FRI#1"),
    ],
)
def test_the_canonical_text_is_read_back_the_same(text: str, canonical: str):
    assert str(parse_recurrence(text)) == canonical
    assert parse_recurrence(canonical) == parse_recurrence(text)
    assert str(parse_recurrence(canonical)) == canonical


@given(meant=oracle.recurrences(), rule=rules())
def test_every_canonical_text_is_read_back_the_same(meant: Meant, rule: str):
    for text in (meant.text, rule):
        recurrence = parse_recurrence(text)
        again = parse_recurrence(str(recurrence))
        assert again == recurrence
        assert str(again) == str(recurrence)


def test_the_kinds():
    assert parse_recurrence("Once") == Once()
    assert isinstance(parse_recurrence("0 22 8-14 * 2"), CronUnion)
    assert parse_recurrence("0 22 8-14 * 2") != parse_recurrence("0 22 8-14 * 3")


@pytest.mark.parametrize(
    ("text", "token", "remedy"),
    [
        ("", "''", "Understood are"),
        ("weekly", "'weekly'", "Understood are"),
        ("Saturday", "'Saturday'", "Understood are"),
        ("Weekday", "'Weekday'", "Understood are"),
        ("x" * 2000, "longer than 1000", "Understood are"),
        ("0Days", "'0Days'", "number"),
        ("1000Weeks", "'1000Weeks'", "number"),
        ("Day Monday", "'Monday'", "Week Saturday,Sunday"),
        ("6Hours Monday", "'Monday'", "Week Saturday,Sunday"),
        ("Week Saterday", "'Saterday'", "Monday, Tuesday"),
        ("Week Saturday Sunday", "'Saturday Sunday'", "commas"),
        ("Week Saturday,", "''", "Monday, Tuesday"),
        ("Month day32", "'day32'", "day1 to day31"),
        ("Month day0", "'day0'", "day1 to day31"),
        ("Month day1 day2", "'day1 day2'", "day23,day24"),
        ("Month 15", "'15'", "First, Second"),
        ("Month Fifth Sunday", "'Fifth'", "First, Second"),
        ("Month Last", "'Last'", "Last Tuesday"),
        ("Month Last Sonntag", "'Sonntag'", "Monday, Tuesday"),
        ("Month Last Sunday Offset", "'Offset'", "Offset-3"),
        ("Month Last Sunday plus 3", "'plus 3'", "Offset-3"),
        ("Month Last Sunday Offset367", "'Offset367'", "-366 to 366"),
        ("RRULE:", "''", "Understood are"),
        ("RRULE:INTERVAL=2", "FREQ=", "FREQ=MONTHLY"),
        ("FREQ=MINUTELY", "'FREQ=MINUTELY'", "every hour"),
        ("FREQ=DAILY;BYMINUTE=0,30", "'BYMINUTE=0,30'", "every hour"),
        ("FREQ=DAILY;BYSECOND=5", "'BYSECOND=5'", "minute"),
        ("FREQ=DAILY;INTERVAL=0", "'INTERVAL=0'", "1 to 999"),
        ("FREQ=DAILY;COUNT=x", "'COUNT=X'", "1 to"),
        ("FREQ=DAILY;COUNT=2;UNTIL=20270101", "COUNT and UNTIL", "Leave one"),
        ("FREQ=DAILY;UNTIL=20270231", "'UNTIL=20270231'", "UNTIL=20271231"),
        ("FREQ=DAILY;UNTIL=tomorrow", "'UNTIL=TOMORROW'", "UNTIL=20271231"),
        ("FREQ=DAILY;FREQ=WEEKLY", "'FREQ=WEEKLY'", "once"),
        ("FREQ=DAILY;BYEASTER=1", "'BYEASTER=1'", "BYSETPOS"),
        ("FREQ=YEARLY;BYWEEKNO=3", "'BYWEEKNO=3'", "BYSETPOS"),
        ("DTSTART:20270101T000000\nRRULE:FREQ=DAILY", "DTSTART", "start"),
        ("FREQ=DAILY\nEXDATE:20270101T000000", "EXDATE", "freezes"),
        ("FREQ=WEEKLY;BYMONTHDAY=3", "'BYMONTHDAY'", "FREQ=MONTHLY"),
        ("FREQ=WEEKLY;BYDAY=2TU", "'BYDAY=2TU'", "FREQ=MONTHLY"),
        ("FREQ=MONTHLY;BYDAY=6TU", "'BYDAY=6TU'", "five"),
        ("FREQ=MONTHLY;BYDAY=0TU", "'BYDAY=0TU'", "2TU"),
        ("FREQ=MONTHLY;BYMONTHDAY=32", "'BYMONTHDAY=32'", "-31 to 31"),
        ("FREQ=MONTHLY;BYMONTHDAY=0", "'BYMONTHDAY=0'", "not 0"),
        ("FREQ=MONTHLY;BYSETPOS=1", "'BYSETPOS'", "BYDAY"),
        ("FREQ=WEEKLY;INTERVAL=2;WKST=XX", "'WKST=XX'", "MO, TU"),
        ("FREQ=HOURLY;BYHOUR=3", "'BYHOUR=3'", "FREQ=DAILY;BYHOUR"),
        ("0 22 * *", "4 fields", "day of the week"),
        ("0 0 22 * * 1", "6 fields", "day of the week"),
        ("* 22 * * *", "'*'", "every hour"),
        ("*/30 * * * *", "'*/30'", "every hour"),
        ("0 24 * * *", "'24'", "0 to 23"),
        ("0 22 0 * *", "'0'", "1 to 31"),
        ("0 22 * FOO *", "'FOO'", "JAN"),
        ("0 22 * * 8", "'8'", "0 to 7"),
        ("0 22 * * TUE#6", "'TUE#6'", "TUE#2"),
        ("0 22 * * FRI-MON", "'FRI-MON'", "smaller"),
        ("0 22 5/2 * *", "'5/2'", "TUE#2"),
        ("0 */0 * * *", "'*/0'", "steps from 1"),
        ("0 22 1,,2 * *", "'1,,2'", "TUE#2"),
        ("0 22 */2 * MON", "'*/2'", "List the days"),
        ("0 22 15 * */2", "'*/2'", "List the days"),
        ("@reboot", "'@reboot'", "TUE#2"),
    ],
)
def test_what_is_not_understood_is_named_with_what_is(text: str, token: str, remedy: str):
    with pytest.raises(RequestError) as caught:
        parse_recurrence(text)
    assert token in caught.value.message
    assert remedy in caught.value.hint
    assert len(caught.value.message) < 300


PIECES = "day week month hour once 2 -1 , ; # / * FREQ= RRULE: DAILY tuesday offset day31 MON L ² ٣ é"
WORDS = st.lists(st.sampled_from(PIECES.split()), max_size=8)


@given(text=st.text(max_size=40) | WORDS.map(" ".join) | WORDS.map("".join))
def test_whatever_is_written_is_understood_or_refused(text: str):
    try:
        recurrence = parse_recurrence(text)
    except RequestError as error:
        refused: str | None = error.hint
    else:
        refused = None
        assert parse_recurrence(str(recurrence)) == recurrence
    assert refused != ""
