"""Reads Azure's words for a recurrence (``recurEvery`` of a maintenance configuration).

Source: the REST API's description of ``maintenanceWindow.recurEvery`` (Microsoft.Maintenance), which gives the grammar
for days, weeks and months with examples; hours (``6Hour``) are used but not described there. What is wider here: any
offset (Azure: -6 to 6), any number of hours (Azure: 6 and more), days of the week by their first three letters, blanks.

What Azure leaves open is read as RFC 5545 reads the same rule: weeks begin on Monday, intervals count from the week or
month that the start lies in, and a month without day 31 has no window for ``day31``.
"""

import re

from tasks.errors import RequestError
from tasks.rules.calendar.kinds import (
    DAY_NAMES,
    MAX_INTERVAL,
    MAX_OFFSET,
    ORDINALS,
    Frequency,
    Hours,
    Rule,
    Weekday,
)
from tasks.rules.calendar.refusal import refusal

_HEAD = re.compile(r"(\d*)\s*(hour|day|week|month)s?(?=\s|$)\s*", re.IGNORECASE)
_NTH = {name.lower(): nth for nth, name in ORDINALS.items()}
_DAY = {name[:length].lower(): number for number, name in enumerate(DAY_NAMES) for length in (3, len(name))}
_MONTH_DAY = re.compile(r"day\s*([+-]?\d+)", re.IGNORECASE)
_OFFSET = re.compile(r"offset\s*([+-]?\d+)", re.IGNORECASE)


def is_azure(text: str) -> bool:
    """Return whether a text begins like Azure's words do."""
    return _HEAD.match(text) is not None


def parse_azure(text: str) -> Rule | Hours:
    """Return the meaning of Azure's words.

    Raises:
        RequestError: names the word that is wrong, and what would be right.
    """
    head = _HEAD.match(text)
    if head is None:
        raise refusal(text, text, "does not begin with a number of hours, days, weeks or months")
    every = int(head[1] or 1)
    if not 1 <= every <= MAX_INTERVAL:
        raise refusal(text, head[0].strip(), f"is not possible: every 1 to {MAX_INTERVAL}", "Correct the number.")
    unit, rest = head[2].lower(), text[head.end() :].strip()
    if unit == "week":
        return Rule(Frequency.WEEKLY, every, weekdays=_weekdays(text, rest))
    if unit == "month":
        return _month(text, every, rest)
    if rest:
        after = 'Nothing may follow days or hours. For certain days of the week write "Week Saturday,Sunday".'
        raise refusal(text, rest, f"makes no sense after {head[0].strip()!r}", after)
    return Hours(every) if unit == "hour" else Rule(Frequency.DAILY, every)


def _month(text: str, every: int, rest: str) -> Rule:
    if not rest:
        return Rule(Frequency.MONTHLY, every)
    if rest.lower().startswith("day"):
        return Rule(Frequency.MONTHLY, every, month_days=_month_days(text, rest))
    words = rest.split(maxsplit=2)
    nth = _NTH.get(words[0].lower())
    if nth is None:
        raise refusal(text, words[0], "is no week of a month", f"Write one of {', '.join(ORDINALS.values())}.")
    if len(words) == 1:
        raise refusal(text, rest, "lacks the day of the week", f'Write for instance "{rest} Tuesday".')
    weekday = Weekday(_weekday(text, words[1]), nth)
    offset = _offset(text, words[2]) if len(words) > 2 else 0
    return Rule(Frequency.MONTHLY, every, weekdays=(weekday,), offset=offset)


def _weekdays(text: str, rest: str) -> tuple[Weekday, ...]:
    names = [name.strip() for name in rest.split(",")] if rest else []
    return tuple(sorted({Weekday(_weekday(text, name)) for name in names}))


def _weekday(text: str, name: str) -> int:
    if name.lower() not in _DAY:
        remedy = f"Write {', '.join(DAY_NAMES)}; several with commas between them."
        raise refusal(text, name, "is no day of the week", remedy)
    return _DAY[name.lower()]


def _month_days(text: str, rest: str) -> tuple[int, ...]:
    found = set()
    for token in (part.strip() for part in rest.split(",")):
        match = _MONTH_DAY.fullmatch(token)
        if match is None or not 1 <= abs(int(match[1])) <= 31:
            remedy = 'Write day1 to day31, or day-1 for the last day; several as in "Month day23,day24".'
            raise refusal(text, token, "is no day of a month", remedy)
        found.add(int(match[1]))
    return tuple(sorted(found))


def _offset(text: str, words: str) -> int:
    match = _OFFSET.fullmatch(words)
    if match is None:
        raise _bad_offset(text, words)
    days = int(match[1])
    if abs(days) > MAX_OFFSET:
        raise _bad_offset(text, words)
    return days


def _bad_offset(text: str, words: str) -> RequestError:
    remedy = f'Write "Offset" and days, {-MAX_OFFSET} to {MAX_OFFSET}, as in "Month Last Sunday Offset-3".'
    return refusal(text, words, "is no offset", remedy)
