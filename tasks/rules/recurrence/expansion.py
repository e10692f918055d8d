"""Computes the wall times of a recurrence, and the rule for earlier ones. schedule.py applies the zone.

The computation begins at the requested period, so that an old start costs no time. Only a rule with a count begins at
its start.
"""

import heapq
import itertools
from calendar import monthrange
from collections.abc import Iterator
from dataclasses import replace
from datetime import date, datetime, time, timedelta

from tasks.rules.recurrence.model import CronUnion, Frequency, Once, RecurrenceRule, Weekday

_MAX_YEARS_WITHOUT_DATE = 100
"""A rule without a date for so long has no more dates: 29 February on a given weekday recurs within 40 years."""
_LAST_YEAR = 9990


def iterate_wall_times(
    recurrence: Once | RecurrenceRule | CronUnion, start: datetime, since: datetime
) -> Iterator[datetime]:
    """Yield the wall times from ``since`` on, in order, without duplicates.

    ``start`` is the wall time of the first possible window; intervals count from it. EveryHours counts elapsed time.
    """
    match recurrence:
        case Once():
            yield from [start] if start >= since else []
        case RecurrenceRule():
            yield from _iterate_rule(recurrence, start, since)
        case CronUnion():
            both = heapq.merge(*(_iterate_rule(rule, start, since) for rule in recurrence.rules))
            yield from (wall for wall, _ in itertools.groupby(both))


def to_explicit_rule(rule: RecurrenceRule, anchor: datetime) -> RecurrenceRule:
    """Return the rule with explicit weekday, day of the month and month, where they come from its start."""
    if rule.month_days or rule.weekdays:
        return rule
    match rule.frequency:
        case Frequency.DAILY:
            return rule
        case Frequency.WEEKLY:
            return replace(rule, weekdays=(Weekday(anchor.weekday()),))
        case Frequency.MONTHLY:
            return replace(rule, month_days=(anchor.day,))
        case Frequency.YEARLY:
            return replace(rule, months=rule.months or (anchor.month,), month_days=(anchor.day,))


def list_times_of_day(rule: RecurrenceRule, start: datetime) -> list[time]:
    """Return the times of day at which the windows of a rule start."""
    minute = start.minute if rule.minute is None else rule.minute
    return [time(hour, minute) for hour in rule.hours or (start.hour,)]


def find_anchor(rule: RecurrenceRule, start: datetime) -> datetime:
    """Return the time from whose period intervals count: the start, or the start without the offset.

    "2Months Second Tuesday Offset20" from 2 February on means the second Tuesdays of January, March and May; from 1
    February on it means those of February, April and June.
    """
    unmoved = start - timedelta(days=rule.offset)
    return unmoved if _is_matching_day(to_explicit_rule(rule, unmoved), unmoved.date()) else start


def _iterate_rule(rule: RecurrenceRule, start: datetime, since: datetime) -> Iterator[datetime]:
    shift = timedelta(days=rule.offset)
    floor = max(start, since) - shift
    without_offset = _iterate_without_offset(rule, start, floor)
    for unmoved in itertools.islice(without_offset, rule.count):
        wall = unmoved + shift
        if rule.until is not None and rule.until.tzinfo is None and wall > rule.until:
            return
        if unmoved >= floor:
            yield wall


def _iterate_without_offset(rule: RecurrenceRule, start: datetime, floor: datetime) -> Iterator[datetime]:
    """Yield the wall times without the offset: from the start on if the rule has a count, else from ``floor`` on."""
    anchor = find_anchor(rule, start)
    explicit, times = to_explicit_rule(rule, anchor), list_times_of_day(rule, start)
    shift = timedelta(days=rule.offset)
    earliest = start - shift
    ends = rule.until.date() if rule.until is not None and rule.until.tzinfo is None else None
    last = floor.year
    for begins, length in _iterate_periods(rule, anchor, earliest if rule.count else floor):
        if begins.year > last + _MAX_YEARS_WITHOUT_DATE or (ends is not None and begins + shift > ends):
            return  # a rule without dates is searched neither for ever nor beyond its end
        days = (begins + timedelta(days=number) for number in range(length))
        walls = [datetime.combine(day, moment) for day in days if _is_matching_day(explicit, day) for moment in times]
        if rule.positions:
            numbers = {position - 1 if position > 0 else position + len(walls) for position in rule.positions}
            walls = [wall for number, wall in enumerate(walls) if number in numbers]
        for wall in walls:
            if wall >= earliest:
                last = max(last, wall.year)
                yield wall


def _iterate_periods(rule: RecurrenceRule, anchor: datetime, moment: datetime) -> Iterator[tuple[date, int]]:
    """Yield the first day of each period, and its days, from the one of a time (or the last before it) on."""
    if rule.frequency in {Frequency.DAILY, Frequency.WEEKLY}:
        length = 7 if rule.frequency is Frequency.WEEKLY else 1
        first = anchor.date() - timedelta(days=(anchor.weekday() - rule.week_start) % length)
        step = timedelta(days=rule.interval * length)
        begins = first + (moment.date() - first) // step * step
        while begins.year <= _LAST_YEAR:
            yield begins, length
            if date.max - begins < step:
                return
            begins += step
        return
    months = 12 if rule.frequency is Frequency.YEARLY else 1
    start = anchor.year * 12 + (anchor.month - 1 if months == 1 else 0)
    interval = rule.interval * months
    month = start + (moment.year * 12 + moment.month - 1 - start) // interval * interval
    while month < (_LAST_YEAR + 1) * 12:
        begins, ends = (date(number // 12, number % 12 + 1, 1) for number in (month, month + months))
        yield begins, (ends - begins).days
        month += interval


def _is_matching_day(rule: RecurrenceRule, day: date) -> bool:
    if rule.months and day.month not in rule.months:
        return False
    if rule.month_days and not {day.day, day.day - _count_month_days(day) - 1}.intersection(rule.month_days):
        return False
    return not rule.weekdays or any(_is_matching_weekday(rule, weekday, day) for weekday in rule.weekdays)


def _is_matching_weekday(rule: RecurrenceRule, weekday: Weekday, day: date) -> bool:
    if weekday.day != day.weekday():
        return False
    if weekday.nth == 0:
        return True
    if rule.frequency is Frequency.YEARLY and not rule.months:
        length = date(day.year, 12, 31).timetuple().tm_yday
        number = day.timetuple().tm_yday
    else:
        length, number = _count_month_days(day), day.day
    return weekday.nth == ((number - 1) // 7 + 1 if weekday.nth > 0 else -((length - number) // 7) - 1)


def _count_month_days(day: date) -> int:
    """Return the number of days in the month of a date."""
    return monthrange(day.year, day.month)[1]


_SHORTEST_MONTH_DAYS = 28
"""Every month has these days. Within them, a shifted date exists if and only if the original date exists."""

_REFERENCE_DAY = date(2000, 1, 15)


def shift_rule_earlier(rule: RecurrenceRule, start: datetime, lead: timedelta) -> RecurrenceRule | None:
    """Return the rule for dates that are ``lead`` before the dates of a rule, without offset, count and end.

    The result has explicit days. Its time of day comes from its first date, unless there are several times per day.
    Intervals count from the wall time ``start``.
    """
    base = to_explicit_rule(rule, find_anchor(rule, start))
    if len({weekday.nth == 0 for weekday in rule.weekdays}) > 1:
        return None  # dateutil combines "every Monday and the second Tuesday" with "and", and searches to year 9999
    moved = [datetime.combine(_REFERENCE_DAY, moment) - lead for moment in list_times_of_day(rule, start)]
    days = {(moment.date() - _REFERENCE_DAY).days for moment in moved}
    minutes = {(moment.minute, moment.second, moment.microsecond) for moment in moved}
    if len(days) > 1 or (len(moved) > 1 and (len(minutes) > 1 or moved[0].second or moved[0].microsecond)):
        return None
    several = len(moved) > 1
    hours = tuple(sorted(moment.hour for moment in moved)) if several else ()
    plain = replace(base, hours=hours, minute=moved[0].minute if several else None, offset=0, count=None, until=None)
    shift = rule.offset + days.pop()
    return plain if shift == 0 else _shift_days(plain, shift)


def _shift_days(rule: RecurrenceRule, shift: int) -> RecurrenceRule | None:
    """Shift the days of a rule. The n-th weekday becomes a weekday within seven days of the month."""
    is_weekly = rule.frequency in {Frequency.DAILY, Frequency.WEEKLY}
    is_monthly = rule.frequency is Frequency.MONTHLY or (rule.months and not is_weekly)
    if rule.positions or not (is_monthly or (is_weekly and not rule.months and not rule.month_days)):
        return None
    weekdays = tuple(sorted(Weekday((weekday.day + shift) % 7) for weekday in rule.weekdays))
    if is_weekly:
        counts_weeks = rule.frequency is Frequency.WEEKLY and rule.interval > 1
        return replace(rule, weekdays=weekdays, week_start=(rule.week_start + shift) % 7 if counts_weeks else 0)
    days = set(rule.month_days)
    if rule.weekdays:
        nth = rule.weekdays[0].nth
        if len(rule.weekdays) > 1 or nth == 0 or days:
            return None
        days = set(range(7 * nth - 6, 7 * nth + 1)) if nth > 0 else set(range(7 * nth, 7 * nth + 7))
    every_month = rule.interval == 1 and not rule.months  # a shifted day may be in another month
    month_days: set[int] = set()
    for day in days:
        moved, sign = day + shift, 1 if day > 0 else -1
        if 1 <= moved * sign <= _SHORTEST_MONTH_DAYS and abs(day) <= _SHORTEST_MONTH_DAYS:
            month_days.add(moved)
        elif every_month and -_SHORTEST_MONTH_DAYS < moved * sign <= 0:
            month_days.add(moved - sign)  # there is no day 0
        else:
            return None
    if len(month_days) < len(days):
        return None
    return replace(rule, month_days=tuple(sorted(month_days)), weekdays=weekdays)
