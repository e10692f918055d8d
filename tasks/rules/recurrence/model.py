"""The nouns of the calendar: how a window recurs, whatever language it was written in.

Azure's words, iCalendar rules and cron all become the same few kinds, so that there is one engine (expansion.py),
one canonical text (``str``) and one Prefect schedule (prefect_schedule.py).
``parse_recurrence(str(recurrence)) == recurrence``.
"""

from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum
from typing import TypeAlias

DAY_NAMES = ("Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday", "Sunday")
DAY_CODES = ("MO", "TU", "WE", "TH", "FR", "SA", "SU")
ORDINALS = {1: "First", 2: "Second", 3: "Third", 4: "Fourth", -1: "Last"}
"""Azure's names of the weeks of a month. A fifth week is only known to iCalendar (``BYDAY=5TU``)."""

MAX_INTERVAL = 999
MAX_OFFSET_DAYS = 366


class Frequency(StrEnum):
    """What a rule's interval counts."""

    DAILY = "DAILY"
    WEEKLY = "WEEKLY"
    MONTHLY = "MONTHLY"
    YEARLY = "YEARLY"


@dataclass(frozen=True, slots=True, order=True)
class Weekday:
    """A day of the week, or the n-th such day of a month (in yearly rules without months: of the year).

    Attributes:
        day: 0 is Monday, as in ``datetime``.
        nth: 0: every one; 1 is the first, -1 the last.
    """

    day: int
    nth: int = 0

    def __str__(self) -> str:
        return f"{self.nth or ''}{DAY_CODES[self.day]}"


@dataclass(frozen=True, slots=True)
class Once:
    """The start is the only window."""

    def __str__(self) -> str:
        return "Once"


@dataclass(frozen=True, slots=True)
class EveryHours:
    """Every so many elapsed hours from the start, whatever the clocks on the wall do meanwhile.

    Attributes:
        interval: hours, 1 to 999. Azure allows no fewer than 6; here that is the user's business.
    """

    interval: int

    def __str__(self) -> str:
        return _render_interval(self.interval, "Hour")


@dataclass(frozen=True, slots=True)
class RecurrenceRule:
    """A rule of the calendar, with the meaning that RFC 5545 gives to its parts. Empty: not restricted.

    Without days of any kind, the start says which: its weekday in a weekly rule, its day of the month in a monthly one,
    its date in a yearly one. The same goes for the time of day.

    Attributes:
        frequency: what the interval counts.
        interval: every how many days, weeks, months or years, counted from those that the start lies in.
        months: 1 to 12.
        month_days: 1 to 31, and -1 (the last) to -31. A month without such a day has no window: it is never moved.
        weekdays: a date fits when any of them fits.
        positions: of a period's dates, only these: 1 is the first, -1 the last (BYSETPOS).
        hours: of the day; several make several windows a day.
        minute: of the hour.
        week_start: the first day of a week, for intervals of weeks.
        offset: days that every date is moved by, after all else was decided; a date may so leave its month. Intervals
            count from the month that the start lies in, or, when it is such a date itself, from the one it belongs to.
        count: so many windows, and no more.
        until: the last moment at which a window may start: wall time, or in UTC when it is aware.
    """

    frequency: Frequency
    interval: int = 1
    months: tuple[int, ...] = ()
    month_days: tuple[int, ...] = ()
    weekdays: tuple[Weekday, ...] = ()
    positions: tuple[int, ...] = ()
    hours: tuple[int, ...] = ()
    minute: int | None = None
    week_start: int = 0
    offset: int = 0
    count: int | None = None
    until: datetime | None = None

    def __str__(self) -> str:
        return _render_azure(self) or render_rrule(self)


@dataclass(frozen=True, slots=True)
class CronUnion:
    """Cron's "or": with both a day of the month and a day of the week, a date fits when one of the two does.

    Attributes:
        rules: the one for the days of the month, the one for the days of the week.
        cron: the canonical line that it was read from.
    """

    rules: tuple[RecurrenceRule, RecurrenceRule] = field(compare=False)
    cron: str

    def __str__(self) -> str:
        return self.cron


Recurrence: TypeAlias = Once | EveryHours | RecurrenceRule | CronUnion


def render_rrule(rule: RecurrenceRule) -> str:
    """Return the rule as iCalendar writes it, without ``RRULE:``. An offset has no place there and is left out."""
    parts: list[tuple[str, object]] = [("FREQ", rule.frequency.value)]
    if rule.interval > 1:
        parts.append(("INTERVAL", rule.interval))
    if rule.count is not None:
        parts.append(("COUNT", rule.count))
    if rule.until is not None:
        parts.append(("UNTIL", f"{rule.until:%Y%m%dT%H%M%S}{'Z' if rule.until.tzinfo else ''}"))
    lists = (
        ("BYMONTH", rule.months),
        ("BYMONTHDAY", rule.month_days),
        ("BYDAY", rule.weekdays),
        ("BYHOUR", rule.hours),
        ("BYMINUTE", () if rule.minute is None else (rule.minute,)),
        ("BYSETPOS", rule.positions),
    )
    parts += [(name, ",".join(map(str, values))) for name, values in lists if values]
    if rule.week_start:
        parts.append(("WKST", DAY_CODES[rule.week_start]))
    return ";".join(f"{name}={value}" for name, value in parts)


def _render_azure(rule: RecurrenceRule) -> str:
    """Return the rule in Azure's words, or nothing when they can't say it."""
    if rule.months or rule.positions or rule.hours or rule.minute is not None or rule.week_start:
        return ""
    if rule.count is not None or rule.until is not None:
        return ""
    if rule.frequency is Frequency.MONTHLY:
        return _render_azure_month(rule)
    unit = {Frequency.DAILY: "Day", Frequency.WEEKLY: "Week"}.get(rule.frequency)
    if unit is None or rule.month_days or (unit == "Day" and rule.weekdays):
        return ""
    names = ",".join(DAY_NAMES[weekday.day] for weekday in rule.weekdays)
    return f"{_render_interval(rule.interval, unit)} {names}".rstrip()


def _render_azure_month(rule: RecurrenceRule) -> str:
    every = _render_interval(rule.interval, "Month")
    if not rule.weekdays:
        return f"{every} {','.join(f'day{day}' for day in rule.month_days)}".rstrip()
    one = rule.weekdays[0]
    if len(rule.weekdays) > 1 or rule.month_days or one.nth not in ORDINALS:
        return ""
    moved = f" Offset{rule.offset}" if rule.offset else ""
    return f"{every} {ORDINALS[one.nth]} {DAY_NAMES[one.day]}{moved}"


def _render_interval(number: int, unit: str) -> str:
    return unit if number == 1 else f"{number}{unit}s"
