"""The data types of a recurrence, independent of its format, and the error for an invalid one.

Azure's format, iCalendar rules and cron all become these types. So there is one computation (expansion.py), one
canonical text (``str``) and one Prefect schedule (prefect_schedule.py).
``parse_recurrence(str(recurrence)) == recurrence``.
"""

from collections.abc import Sequence
from dataclasses import field
from datetime import datetime
from enum import StrEnum
from typing import TypeAlias

from inventory.data_class import dataclass
from tasks.domain.errors import RequestError

DAY_NAMES = ("Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday", "Sunday")
DAY_CODES = ("MO", "TU", "WE", "TH", "FR", "SA", "SU")
ORDINALS = {1: "First", 2: "Second", 3: "Third", 4: "Fourth", -1: "Last"}
"""Azure's names of the weeks of a month. Only iCalendar has a fifth week (``BYDAY=5TU``)."""

MAX_INTERVAL = 999
MAX_OFFSET_DAYS = 366


class Frequency(StrEnum):
    """The unit of a rule's interval."""

    DAILY = "DAILY"
    WEEKLY = "WEEKLY"
    MONTHLY = "MONTHLY"
    YEARLY = "YEARLY"


@dataclass(frozen=True, slots=True, order=True)
class Weekday:
    """A weekday, or the n-th such weekday of a month (in yearly rules without months: of the year)."""

    day: int  # 0 is Monday, as in ``datetime``
    nth: int = 0  # 0 is every such day, 1 the first, -1 the last

    def __str__(self) -> str:
        return f"{self.nth or ''}{DAY_CODES[self.day]}"


@dataclass(frozen=True, slots=True)
class Once:
    """A recurrence with one window, at the start."""

    def __str__(self) -> str:
        return "Once"


@dataclass(frozen=True, slots=True)
class EveryHours:
    """A window every ``interval`` elapsed hours from the start. Clock changes have no effect."""

    interval: int  # hours, 1 to 999. Azure requires 6 or more; there is no such limit here

    def __str__(self) -> str:
        return _render_interval(self.interval, "Hour")


@dataclass(frozen=True, slots=True)
class RecurrenceRule:
    """A calendar rule. Its parts have the meaning of RFC 5545. An empty part does not restrict.

    A rule without days takes them from the start: the weekday in a weekly rule, the day of the month in a monthly rule,
    the date in a yearly rule. The same is true for the time of day.

    Attributes:
        interval: a window every ``interval`` days, weeks, months or years, counted from the period of the start.
        months: 1 to 12.
        month_days: 1 to 31, and -1 (the last) to -31. A month without such a day has no window on another day.
        weekdays: a date matches when any of these weekdays matches.
        positions: only these dates of each period: 1 is the first, -1 the last (BYSETPOS).
        week_start: first day of a week, for intervals of weeks.
        offset: days to add to each date at the end; the date may then be in another month. Intervals count from the
            month of the start. If the start is a date with the offset, they count from its month without the offset.
        until: the last time at which a window may start: wall time when naive, UTC when aware.
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
    """Cron's "or": with a day of the month and a day of the week, a date matches when one of the two matches."""

    # The rule for the days of the month and the rule for the days of the week.
    rules: tuple[RecurrenceRule, RecurrenceRule] = field(compare=False)
    cron: str

    def __str__(self) -> str:
        return self.cron


Recurrence: TypeAlias = Once | EveryHours | RecurrenceRule | CronUnion


def render_rrule(rule: RecurrenceRule) -> str:
    """Return the rule in iCalendar format, without ``RRULE:`` and without the offset, which iCalendar does not have."""
    parts: dict[str, Sequence[object]] = {
        "FREQ": (rule.frequency.value,),
        "INTERVAL": (rule.interval,) if rule.interval > 1 else (),
        "COUNT": () if rule.count is None else (rule.count,),
        "UNTIL": (f"{rule.until:%Y%m%dT%H%M%S}{'Z' if rule.until.tzinfo else ''}",) if rule.until else (),
        "BYMONTH": rule.months,
        "BYMONTHDAY": rule.month_days,
        "BYDAY": rule.weekdays,
        "BYHOUR": rule.hours,
        "BYMINUTE": () if rule.minute is None else (rule.minute,),
        "BYSETPOS": rule.positions,
        "WKST": (DAY_CODES[rule.week_start],) if rule.week_start else (),
    }
    return ";".join(f"{name}={','.join(map(str, values))}" for name, values in parts.items() if values)


def _render_azure(rule: RecurrenceRule) -> str:
    """Return the rule in Azure's format, or "" when the format can't express it."""
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
    weekday = rule.weekdays[0]
    if len(rule.weekdays) > 1 or rule.month_days or weekday.nth not in ORDINALS:
        return ""
    moved = f" Offset{rule.offset}" if rule.offset else ""
    return f"{every} {ORDINALS[weekday.nth]} {DAY_NAMES[weekday.day]}{moved}"


def _render_interval(number: int, unit: str) -> str:
    return unit if number == 1 else f"{number}{unit}s"


ACCEPTED_FORMATS_HINT = (
    'Understood are Azure\'s words ("Day", "3Days", "2Weeks Saturday,Sunday", "Month day15,day-1", '
    '"Month Second Tuesday Offset4", "6Hours"), "Once", an iCalendar rule ("FREQ=MONTHLY;BYDAY=2TU") '
    'and cron with five fields ("0 22 * * TUE#2").'
)


def build_recurrence_error(text: str, token: str, why: str, remedy: str = ACCEPTED_FORMATS_HINT) -> RequestError:
    """Return the error for an invalid recurrence.

    In the message, ``why`` follows the wrong ``token`` of the ``text``. ``remedy`` says what to write instead.
    """
    prefix = f"recurrence {text!r}: " if token != text else "recurrence "
    return RequestError(f"{prefix}{token!r} {why}", hint=remedy)
