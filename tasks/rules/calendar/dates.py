"""The engine: the wall times that a recurrence names. Zones come later (schedule.py).

It goes straight to the period that is asked for, so that a start years back costs nothing; only a rule with a count is
walked from its beginning.
"""

import heapq
import itertools
from collections.abc import Iterator
from dataclasses import replace
from datetime import date, datetime, time, timedelta

from tasks.rules.calendar.kinds import Either, Frequency, Once, Rule, Weekday

_PATIENCE_YEARS = 100
"""A rule that named no date for so long never will: 29 February on a given weekday takes 40 years at most."""
_LAST_YEAR = 9990


def walls(recurrence: Once | Rule | Either, start: datetime, since: datetime) -> Iterator[datetime]:
    """Yield the wall times from ``since`` on, in order, each once.

    Args:
        recurrence: anything but hours, which are counted in elapsed time and not on the wall.
        start: wall time of the first possible window; intervals count from it.
        since: the earliest wall time that is wanted.
    """
    match recurrence:
        case Once():
            yield from [start] if start >= since else []
        case Rule():
            yield from _rule_walls(recurrence, start, since)
        case Either():
            both = heapq.merge(*(_rule_walls(rule, start, since) for rule in recurrence.rules))
            yield from (wall for wall, _ in itertools.groupby(both))


def explicit(rule: Rule, anchor: datetime) -> Rule:
    """Return the rule with what it takes from its start written out: the weekday, the day of the month, the month."""
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


def times_of_day(rule: Rule, start: datetime) -> list[time]:
    """Return the times of day at which a rule's windows start."""
    minute = start.minute if rule.minute is None else rule.minute
    return [time(hour, minute) for hour in rule.hours or (start.hour,)]


def anchored(rule: Rule, start: datetime) -> datetime:
    """Return the moment whose period intervals count from: the start, or where it was before the offset moved it.

    "2Months Second Tuesday Offset20" from 2 February on means January's second Tuesday, March's, May's; from 1 February
    on it means February's, April's, June's.
    """
    unmoved = start - timedelta(days=rule.offset)
    return unmoved if _fits(explicit(rule, unmoved), unmoved.date()) else start


def _rule_walls(rule: Rule, start: datetime, since: datetime) -> Iterator[datetime]:
    shift = timedelta(days=rule.offset)
    floor = max(start, since) - shift
    found = _unmoved(rule, start, floor)
    for unmoved in itertools.islice(found, rule.count):
        wall = unmoved + shift
        if rule.until is not None and rule.until.tzinfo is None and wall > rule.until:
            return
        if unmoved >= floor:
            yield wall


def _unmoved(rule: Rule, start: datetime, floor: datetime) -> Iterator[datetime]:
    """Yield the wall times before an offset moves them: from the start on if they are counted, else from the floor."""
    anchor = anchored(rule, start)
    whole, times = explicit(rule, anchor), times_of_day(rule, start)
    shift = timedelta(days=rule.offset)
    earliest = start - shift
    ends = rule.until.date() if rule.until is not None and rule.until.tzinfo is None else None
    last = floor.year
    for number in itertools.count(_number_of(rule, anchor, earliest if rule.count else floor)):
        begins = _begin(rule, anchor, number)
        if begins is None or begins.year > min(last + _PATIENCE_YEARS, _LAST_YEAR):
            return
        if ends is not None and begins + shift > ends:  # a rule without any date is not followed beyond its end
            return
        days = [day for day in _days(whole, begins) if _fits(whole, day)]
        found = [datetime.combine(day, moment) for day in days for moment in times]
        for wall in _chosen(found, rule.positions):
            if wall >= earliest:
                last = max(last, wall.year)
                yield wall


def _number_of(rule: Rule, anchor: datetime, moment: datetime) -> int:
    """Return the number of the period that a moment lies in, or of the last one before it."""
    if rule.frequency in {Frequency.DAILY, Frequency.WEEKLY}:
        days = rule.interval * (7 if rule.frequency is Frequency.WEEKLY else 1)
        return (moment.date() - _first_day(rule, anchor)).days // days
    years = moment.year - anchor.year
    if rule.frequency is Frequency.YEARLY:
        return years // rule.interval
    return (years * 12 + moment.month - anchor.month) // rule.interval


def _first_day(rule: Rule, anchor: datetime) -> date:
    if rule.frequency is Frequency.WEEKLY:
        return anchor.date() - timedelta(days=(anchor.weekday() - rule.week_start) % 7)
    return anchor.date()


def _begin(rule: Rule, anchor: datetime, number: int) -> date | None:
    """Return the first day of a period; None beyond the end of the calendar."""
    steps = number * rule.interval
    if rule.frequency is Frequency.MONTHLY:
        years, month = divmod(anchor.month - 1 + steps, 12)
        return date(anchor.year + years, month + 1, 1) if anchor.year + years <= _LAST_YEAR else None
    if rule.frequency is Frequency.YEARLY:
        return date(anchor.year + steps, 1, 1) if anchor.year + steps <= _LAST_YEAR else None
    try:
        return _first_day(rule, anchor) + timedelta(days=steps * (7 if rule.frequency is Frequency.WEEKLY else 1))
    except OverflowError:
        return None


def _days(rule: Rule, begins: date) -> Iterator[date]:
    match rule.frequency:
        case Frequency.DAILY:
            yield begins
        case Frequency.WEEKLY:
            yield from (begins + timedelta(days=day) for day in range(7))
        case Frequency.MONTHLY:
            yield from (begins.replace(day=day) for day in range(1, _length(begins) + 1))
        case Frequency.YEARLY:
            for month in rule.months or range(1, 13):
                first = date(begins.year, month, 1)
                yield from (first.replace(day=day) for day in range(1, _length(first) + 1))


def _fits(rule: Rule, day: date) -> bool:
    if rule.months and day.month not in rule.months:
        return False
    if rule.month_days and not {day.day, day.day - _length(day) - 1}.intersection(rule.month_days):
        return False
    return not rule.weekdays or any(_is_weekday(rule, weekday, day) for weekday in rule.weekdays)


def _is_weekday(rule: Rule, weekday: Weekday, day: date) -> bool:
    if weekday.day != day.weekday():
        return False
    if weekday.nth == 0:
        return True
    if rule.frequency is Frequency.YEARLY and not rule.months:
        length = date(day.year, 12, 31).timetuple().tm_yday
        number = day.timetuple().tm_yday
    else:
        length, number = _length(day), day.day
    return weekday.nth == ((number - 1) // 7 + 1 if weekday.nth > 0 else -((length - number) // 7) - 1)


def _length(day: date) -> int:
    """Return how many days the month has."""
    if day.month == 2:
        leap = day.year % 4 == 0 and (day.year % 100 != 0 or day.year % 400 == 0)
        return 29 if leap else 28
    return 30 if day.month in {4, 6, 9, 11} else 31


def _chosen(found: list[datetime], positions: tuple[int, ...]) -> list[datetime]:
    if not positions:
        return found
    places = {place - 1 if place > 0 else place + len(found) for place in positions}
    return [found[place] for place in sorted(places) if 0 <= place < len(found)]
