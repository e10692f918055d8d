"""Shifts a rule to earlier dates: for runs that start before their windows, and for offsets. Pure.

The result is a candidate: prefect_schedule.py compares its dates before use. None: no single rule expresses the dates.
"""

from collections.abc import Iterable
from dataclasses import replace
from datetime import date, datetime, timedelta

from tasks.rules.recurrence.expansion import find_anchor, list_times_of_day, to_explicit_rule
from tasks.rules.recurrence.model import Frequency, RecurrenceRule, Weekday

_SHORTEST_MONTH_DAYS = 28
"""Every month has these days. Within them, a shifted date exists if and only if the original date exists."""


_REFERENCE_DAY = date(2000, 1, 15)


def shift_rule_earlier(rule: RecurrenceRule, start: datetime, lead: timedelta) -> RecurrenceRule | None:
    """Return the rule for dates that are ``lead`` before the dates of a rule, without offset, count and end.

    The result has explicit days. Its time of day comes from its first date, unless there are several times per day.

    Args:
        rule: the rule of the windows.
        start: the wall time from which the rule's intervals count.
        lead: 0 or more.
    """
    whole = to_explicit_rule(rule, find_anchor(rule, start))
    if len({weekday.nth == 0 for weekday in rule.weekdays}) > 1:
        return None  # dateutil combines "every Monday and the second Tuesday" with "and", and searches to year 9999
    moved = [datetime.combine(_REFERENCE_DAY, moment) - lead for moment in list_times_of_day(rule, start)]
    days = {(moment.date() - _REFERENCE_DAY).days for moment in moved}
    minutes = {(moment.minute, moment.second, moment.microsecond) for moment in moved}
    if len(days) > 1 or (len(moved) > 1 and (len(minutes) > 1 or moved[0].second or moved[0].microsecond)):
        return None
    several = len(moved) > 1
    hours = tuple(sorted(moment.hour for moment in moved)) if several else ()
    plain = replace(whole, hours=hours, minute=moved[0].minute if several else None, offset=0, count=None, until=None)
    shift = rule.offset + days.pop()
    return plain if shift == 0 else _shift_days(plain, shift)


def _shift_days(rule: RecurrenceRule, shift: int) -> RecurrenceRule | None:
    if rule.positions:
        return None
    if rule.frequency in {Frequency.DAILY, Frequency.WEEKLY}:
        if rule.months or rule.month_days:
            return None
        weeks = rule.frequency is Frequency.WEEKLY and rule.interval > 1
        week_start = (rule.week_start + shift) % 7 if weeks else 0
        return replace(rule, weekdays=_shift_weekdays(rule.weekdays, shift), week_start=week_start)
    if rule.frequency is Frequency.MONTHLY or rule.months:
        return _shift_month_rule(rule, shift)
    return None


def _shift_weekdays(weekdays: Iterable[Weekday], shift: int) -> tuple[Weekday, ...]:
    return tuple(sorted(Weekday((weekday.day + shift) % 7) for weekday in weekdays))


def _shift_month_rule(rule: RecurrenceRule, shift: int) -> RecurrenceRule | None:
    """Express the n-th weekday as a weekday within seven days of the month, and shift these days."""
    days = set(rule.month_days)
    weekdays = rule.weekdays
    if weekdays:
        nth = weekdays[0].nth
        if len(weekdays) > 1 or nth == 0 or rule.month_days:
            return None
        days = set(range(7 * nth - 6, 7 * nth + 1)) if nth > 0 else set(range(7 * nth, 7 * nth + 7))
    moved = {_shift_month_day(day, shift, whole=rule.interval == 1 and not rule.months) for day in days}
    if None in moved:
        return None
    return replace(
        rule,
        month_days=tuple(sorted(day for day in moved if day is not None)),
        weekdays=_shift_weekdays(weekdays, shift),
    )


def _shift_month_day(day: int, shift: int, *, whole: bool) -> int | None:
    """Return the shifted day of the month. ``whole``: it may be in another month, since every month has a window."""
    moved = day + shift
    if day > 0:
        if 1 <= moved <= _SHORTEST_MONTH_DAYS and day <= _SHORTEST_MONTH_DAYS:
            return moved
        return moved - 1 if whole and -_SHORTEST_MONTH_DAYS < moved <= 0 else None
    if -_SHORTEST_MONTH_DAYS <= moved <= -1 and day >= -_SHORTEST_MONTH_DAYS:
        return moved
    return moved + 1 if whole and 0 <= moved < _SHORTEST_MONTH_DAYS else None
