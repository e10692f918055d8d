"""Describes a schedule in words: "every month on the second Tuesday plus 4 days", its hours and its zone."""

from datetime import datetime, timedelta
from itertools import groupby

from tasks.rules.calendar.local_time import format_duration
from tasks.rules.calendar.schedule import Schedule
from tasks.rules.recurrence.expansion import find_anchor, list_times_of_day, to_explicit_rule
from tasks.rules.recurrence.model import DAY_NAMES, CronUnion, EveryHours, Frequency, Once, RecurrenceRule

_ORDINAL_WORDS = {1: "first", 2: "second", 3: "third", 4: "fourth", 5: "fifth", -1: "last"}
_FREQUENCY_UNITS = {
    Frequency.DAILY: "day",
    Frequency.WEEKLY: "week",
    Frequency.MONTHLY: "month",
    Frequency.YEARLY: "year",
}
_MONTH_NAMES = (
    "January", "February", "March", "April", "May", "June", "July", "August", "September", "October", "November",
    "December",
)  # fmt: skip
_DAY_MINUTES = 24 * 60
_MAX_TIME_SPANS = 6


def describe_schedule(schedule: Schedule) -> str:
    """Return a schedule in words, in one line."""
    recurrence, ends = schedule.recurrence, ""
    match recurrence:
        case Once():
            days = f"once on {schedule.start:%Y-%m-%d}"
        case EveryHours():
            days = f"every {_render_count(recurrence.interval, 'hour')} from {schedule.start:%Y-%m-%d %H:%M}"
            ends = f", each for {format_duration(schedule.minutes * 60)}"
        case RecurrenceRule():
            days = _describe_days(recurrence, schedule.start)
            if recurrence.count is not None:
                ends = f", {_render_count(recurrence.count, 'time', 'once')}{' in all' if recurrence.count > 1 else ''}"
            elif recurrence.until is not None:
                zone = " UTC" if recurrence.until.tzinfo else ""
                ends = f", the last no later than {recurrence.until:%Y-%m-%d %H:%M}{zone}"
        case CronUnion():
            by_day, by_week = recurrence.rules
            days = f"{_describe_days(by_day, schedule.start)} and also {_describe_days(by_week, schedule.start)}"
    times = "" if isinstance(recurrence, EveryHours) else _describe_times(schedule)
    expires = f", none from {schedule.expires:%Y-%m-%d %H:%M} on" if schedule.expires else ""
    return f"{days}{times} {schedule.zone}{ends}{expires}"


def _describe_times(schedule: Schedule) -> str:
    rule = schedule.recurrence.rules[0] if isinstance(schedule.recurrence, CronUnion) else schedule.recurrence
    length = format_duration(schedule.minutes * 60)
    begins = list_times_of_day(rule, schedule.start) if isinstance(rule, RecurrenceRule) else [schedule.start.time()]
    if len(begins) == 24:
        return f", every full hour{f' and {begins[0].minute} minutes' if begins[0].minute else ''}, each for {length}"
    if len(begins) > _MAX_TIME_SPANS:
        listed = ", ".join(f"{begin:%H:%M}" for begin in begins)
        return f", at {listed}, each for {length}"
    if schedule.minutes >= _DAY_MINUTES:
        return f", at {_join_with_and([f'{begin:%H:%M}' for begin in begins])} for {length}"
    spans = []
    for begin in begins:
        end = datetime.combine(schedule.start, begin) + timedelta(minutes=schedule.minutes)
        spans.append(f"{begin:%H:%M}–{end:%H:%M:%S}" if end.second else f"{begin:%H:%M}–{end:%H:%M}")  # noqa: RUF001
    return f", {_join_with_and(spans)}"


def _describe_days(rule: RecurrenceRule, start: datetime) -> str:
    anchor = find_anchor(rule, start)
    explicit = to_explicit_rule(rule, anchor)
    names = [DAY_NAMES[weekday.day] for weekday in explicit.weekdays if not weekday.nth]
    names += [f"the {_render_ordinal(day.nth)} {DAY_NAMES[day.day]}" for day in explicit.weekdays if day.nth]
    weekdays = "Monday to Friday" if names == list(DAY_NAMES[:5]) else _join_with_and(names)
    month_days = _describe_month_days(explicit.month_days)
    months = _join_with_and([_MONTH_NAMES[month - 1] for month in explicit.months])
    days = weekdays + (" that is also " if weekdays and month_days else "") + month_days
    if rule.positions:
        ordinals = _join_with_and([_render_ordinal(number) for number in rule.positions])
        days = f"the {ordinals} of {days or 'the windows'}"
    if rule.frequency is Frequency.DAILY and rule.interval == 1 and days:
        day_text = f"every {days}"
    else:
        day_text = (
            f"every {_render_count(rule.interval, _FREQUENCY_UNITS[rule.frequency])}{' on ' if days else ''}{days}"
        )
    if rule.offset:
        day_text += f" {'plus' if rule.offset > 0 else 'minus'} {_render_count(abs(rule.offset), 'day', '1 day')}"
    day_text += f" in {months}" if months else ""
    monthly = rule.frequency is Frequency.MONTHLY
    return day_text + (
        f" (counted from {f'{anchor:%Y-%m}' if monthly else anchor.date()})" if rule.interval > 1 else ""
    )


def _describe_month_days(days: tuple[int, ...]) -> str:
    """Return the days in words, with ranges: "day 1, day 8 to 14 and the last day"."""
    parts: list[str] = []
    plain = sorted(day for day in days if day > 0)
    for _, group in groupby(enumerate(plain), key=lambda pair: pair[1] - pair[0]):
        run = [day for _, day in group]
        parts += [f"day {run[0]} to {run[-1]}"] if len(run) > 2 else [f"day {day}" for day in run]
    parts += ["the last day" if day == -1 else f"the {_render_ordinal(day)} day" for day in sorted(days) if day < 0]
    return _join_with_and(parts)


def _render_ordinal(number: int) -> str:
    if number in _ORDINAL_WORDS:
        return _ORDINAL_WORDS[number]
    last = abs(number)
    ending = "th" if last % 100 in {11, 12, 13} else {1: "st", 2: "nd", 3: "rd"}.get(last % 10, "th")
    return f"{last}{ending}" if number > 0 else f"{last}{ending} to last"


def _render_count(number: int, unit: str, one: str = "") -> str:
    return (one or unit) if number == 1 else f"{number} {unit}s"


def _join_with_and(items: list[str]) -> str:
    return items[0] if len(items) == 1 else f"{', '.join(items[:-1])} and {items[-1]}" if items else ""
