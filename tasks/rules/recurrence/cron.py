"""Parses cron's five fields: minute, hour, day of the month, month, day of the week. All are wall time.

Cron has no start: the window's start is only the first possible time. Source of the grammar: POSIX ``crontab`` for
lists and ranges, Vixie cron for steps and names, croniter for ``TUE#2`` (the second), ``L5`` or ``5L`` (the last
Friday) and ``L`` (the last day of the month).

If day of the month and day of the week are both restricted, POSIX combines them with *or*: ``0 22 8-14 * 2`` means the
8th to the 14th and also every Tuesday. Few users intend that, so ``check_schedule`` warns. If one of the two fields is
a step over all days (``*/2``), cron implementations differ between *and* and *or*, so it is refused.
"""

import re
from collections.abc import Mapping
from dataclasses import replace

from inventory.name_lists import format_count
from tasks.rules.recurrence.model import CronUnion, Frequency, RecurrenceRule, Weekday, build_recurrence_error

_ALIASES = {
    "@hourly": "0 * * * *",
    "@daily": "0 0 * * *",
    "@midnight": "0 0 * * *",
    "@weekly": "0 0 * * 0",
    "@monthly": "0 0 1 * *",
    "@yearly": "0 0 1 1 *",
    "@annually": "0 0 1 1 *",
}
_MONTH_NAMES = ("JAN", "FEB", "MAR", "APR", "MAY", "JUN", "JUL", "AUG", "SEP", "OCT", "NOV", "DEC")
_DAY_NAMES = ("SUN", "MON", "TUE", "WED", "THU", "FRI", "SAT")
_MONTH_NUMBERS = {name: number for number, name in enumerate(_MONTH_NAMES, 1)}
_DAY_NUMBERS = {name: number for number, name in enumerate(_DAY_NAMES)}
_RANGE_PATTERN = re.compile(r"(?:(\*)|(\w+)(?:-(\w+))?)(?:/(\d+))?")
_NUMBERED_DAY_PATTERN = re.compile(r"(\w+)#([1-5])|L(\w+)|(\w+)L")
_FORMAT_REMEDY = 'Write minute, hour, day of the month, month and day of the week, as in "0 22 * * TUE#2".'


def parse_cron(text: str) -> RecurrenceRule | CronUnion:
    """Return the recurrence of a cron line.

    Raises:
        RequestError: a field is invalid, recurs within an hour, or is ambiguous between cron implementations. The error
            names the field.
    """
    fields = _ALIASES.get(text.lower(), text).upper().split()
    if len(fields) != 5:
        raise build_recurrence_error(
            text, text, f"has {format_count(len(fields), 'field')}; cron has five", _FORMAT_REMEDY
        )
    minutes = _parse_numbers(text, fields[0], "minute", range(60), {})
    if len(minutes) > 1:
        remedy = "Give one minute; a window can't recur more often than every hour."
        raise build_recurrence_error(text, fields[0], "recurs within an hour", remedy)
    hours = _parse_numbers(text, fields[1], "hour", range(24), {})
    months = _parse_numbers(text, fields[3], "month", range(1, 13), _MONTH_NUMBERS)
    months = () if len(months) == 12 else months
    month_days, weekdays = _parse_month_days(text, fields[2]), _parse_weekdays(text, fields[4])
    by_day = RecurrenceRule(Frequency.MONTHLY, months=months, month_days=month_days, hours=hours, minute=minutes[0])
    numbered = any(weekday.nth for weekday in weekdays)
    by_week = RecurrenceRule(
        Frequency.MONTHLY if numbered else Frequency.DAILY,
        months=months,
        weekdays=weekdays,
        hours=hours,
        minute=minutes[0],
    )
    if not _is_restricted(fields[2]):
        return by_week
    if not month_days:  # all days are listed, so the "or" is always true
        return replace(by_week, frequency=Frequency.DAILY, weekdays=())
    if not _is_restricted(fields[4]):
        return by_day
    for field in (fields[2], fields[4]):
        if field.startswith("*"):
            reason = "together with the other field of days means both to some crons and either to others"
            raise build_recurrence_error(text, field, reason, "List the days, or leave one of the two fields at *.")
    return CronUnion((by_day, by_week), _render_cron(by_day, by_week))


def _is_restricted(field: str) -> bool:
    return field not in {"*", "*/1"}


def _parse_month_days(text: str, field: str) -> tuple[int, ...]:
    if not _is_restricted(field):
        return ()
    pieces = field.split(",")
    plain_pieces = [piece for piece in pieces if piece != "L"]
    numbers = _parse_numbers(text, ",".join(plain_pieces), "day of the month", range(1, 32), {}) if plain_pieces else ()
    if len(numbers) == 31:
        return ()
    return tuple(sorted({*numbers, *([-1] if len(plain_pieces) < len(pieces) else [])}))


def _parse_weekdays(text: str, field: str) -> tuple[Weekday, ...]:
    if not _is_restricted(field):
        return ()
    pieces = field.split(",")
    days = [
        (match[1], int(match[2])) if match[1] else (match[3] or match[4], -1)
        for match in map(_NUMBERED_DAY_PATTERN.fullmatch, pieces)
        if match
    ]
    plain = [piece for piece in pieces if not _NUMBERED_DAY_PATTERN.fullmatch(piece)]
    days += [(",".join(plain), 0)] if plain else []
    return tuple(
        sorted(
            {
                Weekday((day - 1) % 7, nth)
                for names, nth in days
                for day in _parse_numbers(text, names, "day of the week", range(8), _DAY_NUMBERS)
            }
        )
    )


def _parse_numbers(text: str, field: str, name: str, allowed: range, names: Mapping[str, int]) -> tuple[int, ...]:
    numbers: set[int] = set()
    for piece in field.split(","):
        match = _RANGE_PATTERN.fullmatch(piece)
        if match is None or (match[4] and not (match[1] or match[3])):
            raise build_recurrence_error(text, piece or field, f"is not understood as {name}", _FORMAT_REMEDY)
        first = allowed.start if match[1] else _parse_value(text, match[2], name, allowed, names)
        last = allowed.stop - 1 if match[1] else _parse_value(text, match[3] or match[2], name, allowed, names)
        step = int(match[4] or 1)
        if first > last or step == 0:
            raise build_recurrence_error(
                text, piece, f"is no range for the {name}", "Write the smaller value first; steps from 1."
            )
        numbers.update(range(first, last + 1, step))
    return tuple(sorted(numbers))


def _parse_value(text: str, token: str, name: str, allowed: range, names: Mapping[str, int]) -> int:
    number = int(token) if token.isascii() and token.isdigit() else names.get(token)
    if number is None or number not in allowed:
        names_text = f" or {next(iter(names))} and so on" if names else ""
        raise build_recurrence_error(
            text, token, f"is no {name}", f"Write {allowed.start} to {allowed.stop - 1}{names_text}."
        )
    return number


def _render_cron(by_day: RecurrenceRule, by_week: RecurrenceRule) -> str:
    days = ["L" if day == -1 else str(day) for day in by_day.month_days]
    weekdays = []
    for weekday in by_week.weekdays:
        name = _DAY_NAMES[(weekday.day + 1) % 7]
        weekdays.append(f"L{name}" if weekday.nth == -1 else f"{name}#{weekday.nth}" if weekday.nth else name)
    months = ",".join(map(str, by_day.months)) or "*"
    hours = ",".join(map(str, by_day.hours))
    return f"{by_day.minute} {hours} {','.join(days)} {months} {','.join(weekdays)}"
