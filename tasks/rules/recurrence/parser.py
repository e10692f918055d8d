"""Parses a recurrence in any of the accepted formats. Azure's (``recurEvery`` of a maintenance configuration) is here.

Source: the REST API's description of ``maintenanceWindow.recurEvery`` (Microsoft.Maintenance). It gives the grammar for
days, weeks and months with examples. It uses hours (``6Hour``) but does not describe them. Extensions here: any offset
(Azure: -6 to 6), any number of hours (Azure: 6 or more), weekdays by their first three letters, blanks.

Where Azure's description is open, RFC 5545 decides: weeks begin on Monday, intervals count from the week or month of
the start, and a month without day 31 has no window for ``day31``.
"""

import re

from tasks.rules.recurrence.cron import parse_cron
from tasks.rules.recurrence.model import (
    DAY_NAMES,
    MAX_INTERVAL,
    MAX_OFFSET_DAYS,
    ORDINALS,
    EveryHours,
    Frequency,
    Once,
    Recurrence,
    RecurrenceRule,
    Weekday,
    build_recurrence_error,
)
from tasks.rules.recurrence.rrule import parse_rrule

_INTERVAL_PATTERN = re.compile(r"(\d*)\s*(hour|day|week|month)s?(?=\s|$)\s*", re.IGNORECASE)
_ORDINAL_NUMBERS = {name.lower(): nth for nth, name in ORDINALS.items()}
_DAY_NUMBERS = {name[:length].lower(): number for number, name in enumerate(DAY_NAMES) for length in (3, len(name))}
_MONTH_DAY_PATTERN = re.compile(r"day\s*([+-]?\d+)", re.IGNORECASE)
_OFFSET_PATTERN = re.compile(r"offset\s*([+-]?\d+)", re.IGNORECASE)


def _parse_azure(text: str, head: re.Match[str]) -> RecurrenceRule | EveryHours:
    """Return the recurrence of a text in Azure's format. ``head`` is its number and unit."""
    every = int(head[1] or 1)
    if not 1 <= every <= MAX_INTERVAL:
        raise build_recurrence_error(
            text, head[0].strip(), f"is not possible: every 1 to {MAX_INTERVAL}", "Correct the number."
        )
    unit, unit_text = head[2].lower(), text[head.end() :].strip()
    if unit == "week":
        names = [name.strip() for name in unit_text.split(",")] if unit_text else []
        return RecurrenceRule(
            Frequency.WEEKLY, every, weekdays=tuple(sorted({Weekday(_parse_weekday(text, name)) for name in names}))
        )
    if unit == "month":
        return _parse_month(text, every, unit_text)
    if unit_text:
        after = 'Nothing may follow days or hours. For certain days of the week write "Week Saturday,Sunday".'
        raise build_recurrence_error(text, unit_text, f"can't be understood after {head[0].strip()!r}", after)
    return EveryHours(every) if unit == "hour" else RecurrenceRule(Frequency.DAILY, every)


def _parse_month(text: str, every: int, rest: str) -> RecurrenceRule:
    if not rest:
        return RecurrenceRule(Frequency.MONTHLY, every)
    if rest.lower().startswith("day"):
        numbers = set()
        for token in (part.strip() for part in rest.split(",")):
            match = _MONTH_DAY_PATTERN.fullmatch(token)
            if match is None or not 1 <= abs(int(match[1])) <= 31:
                remedy = 'Write day1 to day31, or day-1 for the last day; several as in "Month day23,day24".'
                raise build_recurrence_error(text, token, "is no day of a month", remedy)
            numbers.add(int(match[1]))
        return RecurrenceRule(Frequency.MONTHLY, every, month_days=tuple(sorted(numbers)))
    parts = rest.split(maxsplit=2)
    nth = _ORDINAL_NUMBERS.get(parts[0].lower())
    if nth is None:
        raise build_recurrence_error(
            text, parts[0], "is no week of a month", f"Write one of {', '.join(ORDINALS.values())}."
        )
    if len(parts) == 1:
        raise build_recurrence_error(text, rest, "lacks the day of the week", f'Write for instance "{rest} Tuesday".')
    weekday = Weekday(_parse_weekday(text, parts[1]), nth)
    offset = _parse_offset(text, parts[2]) if len(parts) > 2 else 0
    return RecurrenceRule(Frequency.MONTHLY, every, weekdays=(weekday,), offset=offset)


def _parse_weekday(text: str, name: str) -> int:
    if name.lower() not in _DAY_NUMBERS:
        remedy = f"Write {', '.join(DAY_NAMES)}; several with commas between them."
        raise build_recurrence_error(text, name, "is no day of the week", remedy)
    return _DAY_NUMBERS[name.lower()]


def _parse_offset(text: str, words: str) -> int:
    match = _OFFSET_PATTERN.fullmatch(words)
    if match is None or abs(int(match[1])) > MAX_OFFSET_DAYS:
        remedy = (
            f'Write "Offset" and days, {-MAX_OFFSET_DAYS} to {MAX_OFFSET_DAYS}, as in "Month Last Sunday Offset-3".'
        )
        raise build_recurrence_error(text, words, "is no offset", remedy)
    return int(match[1])


_MAX_TEXT_LENGTH = 1000


def parse_recurrence(text: str) -> Recurrence:
    """Return the recurrence of a text: Azure's format, ``Once``, an iCalendar rule or cron.

    Case and outer blanks do not matter. ``str`` of the result is the canonical text: Azure's format if it can express
    the recurrence, else an iCalendar rule, else cron. The canonical text parses to an equal object.

    Raises:
        RequestError: the text is invalid. The error names the wrong word; the hint lists the accepted formats.
    """
    plain = text.strip()
    if len(plain) > _MAX_TEXT_LENGTH:
        raise build_recurrence_error(
            f"{plain[:40]}…", f"{plain[:40]}…", f"is longer than {_MAX_TEXT_LENGTH} characters"
        )
    if plain.lower() == "once":
        return Once()
    if "FREQ=" in plain.upper() or plain.upper().startswith("RRULE"):
        return parse_rrule(plain)
    if head := _INTERVAL_PATTERN.match(plain):
        return _parse_azure(plain, head)
    if plain.startswith(("@", "*")) or re.match(r"\d[\d,/-]*\s", plain):
        return parse_cron(plain)
    first = plain.split(maxsplit=1)[0] if plain else ""
    raise build_recurrence_error(text, first, "does not begin a recurrence that is understood" if first else "is empty")
