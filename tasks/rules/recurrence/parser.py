"""Parses a recurrence: Azure's format (``recurEvery`` of a maintenance configuration), and iCalendar rules (RRULE).

Source of Azure's: the REST API's description of ``maintenanceWindow.recurEvery`` (Microsoft.Maintenance). It gives the
grammar for days, weeks and months with examples. It uses hours (``6Hour``) but does not describe them. Extensions here:
any offset (Azure: -6 to 6), any number of hours (Azure: 6 or more), weekdays by their first three letters, blanks.

Where Azure's description is open, RFC 5545 decides: weeks begin on Monday, intervals count from the week or month of
the start, and a month without day 31 has no window for ``day31``.

Of iCalendar (RFC 5545, section 3.3.10), not supported, with an error that says so: recurrence within an hour, day and
week numbers of a year, and combinations that the RFC forbids and that libraries interpret differently.
"""

import re
from collections.abc import Callable
from datetime import UTC, datetime
from typing import TypeVar

from tasks.rules.recurrence.cron import parse_cron
from tasks.rules.recurrence.model import (
    DAY_CODES,
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

_KNOWN_PARTS = (
    "FREQ", "INTERVAL", "COUNT", "UNTIL", "BYMONTH", "BYMONTHDAY", "BYDAY", "BYHOUR", "BYMINUTE", "BYSECOND",
    "BYSETPOS", "WKST",
)  # fmt: skip
_WEEKDAY_PATTERN = re.compile(r"([+-]?\d{1,2})?(MO|TU|WE|TH|FR|SA|SU)")
_UNTIL_PATTERN = re.compile(r"(\d{8})(?:T(\d{6})(Z?))?")
_MAX_COUNT = 100_000
_Item = TypeVar("_Item", int, Weekday)


def parse_rrule(text: str) -> RecurrenceRule | EveryHours:
    """Return the recurrence of a rule, with or without the prefix ``RRULE:``.

    ``UNTIL`` with only a date includes that day. The start is not part of the rule; a window opens at the start only
    when the rule includes it.

    Raises:
        RequestError: a part is invalid or not supported; the error names it.
    """
    parts = _parse_parts(text)
    if "COUNT" in parts and "UNTIL" in parts:
        raise build_recurrence_error(text, "COUNT and UNTIL", "exclude each other", "Leave one of them out.")
    frequency = parts["FREQ"]
    if frequency == "HOURLY":
        for name, value in parts.items():
            if name not in {"FREQ", "INTERVAL"}:
                remedy = "Hours are counted from the start; for hours of the day write FREQ=DAILY;BYHOUR=2,14."
                raise build_recurrence_error(text, f"{name}={value}", "is not possible with FREQ=HOURLY", remedy)
        return EveryHours(_parse_number(text, parts, "INTERVAL", MAX_INTERVAL) or 1)
    if frequency not in Frequency.__members__:
        remedy = "Write FREQ=HOURLY, DAILY, WEEKLY, MONTHLY or YEARLY; a window can't recur more often than every hour."
        raise build_recurrence_error(text, f"FREQ={frequency}", "is not understood", remedy)
    rule = _parse_rule(text, Frequency(frequency), parts)
    _require_valid_rule(text, rule)
    return rule


def _parse_parts(text: str) -> dict[str, str]:
    body = text.strip().upper().removeprefix("RRULE:").strip()
    parts: dict[str, str] = {}
    for token in (piece.strip() for piece in body.rstrip(";").split(";")):
        name, equals, value = token.partition("=")
        if any(part in token for part in ("DTSTART", "RDATE", "EXDATE", "EXRULE")) or "\n" in token:
            remedy = "Give the start as the window's start, and dates without a window as freezes."
            raise build_recurrence_error(text, token, "is not part of a rule", remedy)
        if name not in _KNOWN_PARTS or not equals or not value:
            raise build_recurrence_error(text, token, "is not understood", f"Understood are {', '.join(_KNOWN_PARTS)}.")
        if name in parts:
            raise build_recurrence_error(text, token, "is given a second time", "Give each part once.")
        parts[name] = value
    if "FREQ" not in parts:
        raise build_recurrence_error(text, body, "lacks FREQ=", "Write for instance FREQ=MONTHLY;BYDAY=2TU.")
    return parts


def _parse_rule(text: str, frequency: Frequency, parts: dict[str, str]) -> RecurrenceRule:
    minutes = _parse_numbers(text, parts, "BYMINUTE", range(60))
    if len(minutes) > 1:
        remedy = "Give one minute; a window can't recur more often than every hour."
        raise build_recurrence_error(text, f"BYMINUTE={parts['BYMINUTE']}", "recurs within an hour", remedy)
    if _parse_numbers(text, parts, "BYSECOND", range(60)) not in {(), (0,)}:
        raise build_recurrence_error(
            text, f"BYSECOND={parts['BYSECOND']}", "is not possible", "Windows begin with a minute."
        )
    interval = _parse_number(text, parts, "INTERVAL", MAX_INTERVAL) or 1
    positions = _parse_numbers(text, parts, "BYSETPOS", range(-366, 367))
    value = parts.get("WKST", "MO")
    if value not in DAY_CODES:
        raise build_recurrence_error(
            text, f"WKST={value}", "is no day of the week", f"Write one of {', '.join(DAY_CODES)}."
        )
    week_start = DAY_CODES.index(value)
    matters = frequency is Frequency.WEEKLY and (interval > 1 or positions)
    return RecurrenceRule(
        frequency,
        interval,
        months=_parse_numbers(text, parts, "BYMONTH", range(1, 13)),
        month_days=_parse_numbers(text, parts, "BYMONTHDAY", range(-31, 32)),
        weekdays=_parse_weekdays(text, parts),
        positions=positions,
        hours=_parse_numbers(text, parts, "BYHOUR", range(24)),
        minute=minutes[0] if minutes else None,
        week_start=week_start if matters else 0,
        count=_parse_number(text, parts, "COUNT", _MAX_COUNT),
        until=_parse_until(text, parts),
    )


def _require_valid_rule(text: str, rule: RecurrenceRule) -> None:
    """Refuse combinations that RFC 5545 forbids and that libraries interpret differently."""
    nths = [weekday.nth for weekday in rule.weekdays if weekday.nth]
    by_day = f"BYDAY={','.join(map(str, rule.weekdays))}"
    most = 5 if rule.frequency is Frequency.MONTHLY or rule.months else 53
    if rule.frequency is Frequency.WEEKLY and rule.month_days:
        remedy = "Write FREQ=MONTHLY;BYMONTHDAY=…, or FREQ=DAILY with both."
        raise build_recurrence_error(text, "BYMONTHDAY", "is not possible with FREQ=WEEKLY", remedy)
    if rule.frequency in {Frequency.DAILY, Frequency.WEEKLY} and nths:
        remedy = "Numbered days of the week need FREQ=MONTHLY or YEARLY."
        raise build_recurrence_error(text, by_day, f"is not possible with FREQ={rule.frequency}", remedy)
    if any(abs(nth) > most for nth in nths):
        raise build_recurrence_error(text, by_day, "never comes", "A month has at most five of each day, a year 53.")
    if rule.positions and not (rule.months or rule.month_days or rule.weekdays or rule.hours):
        remedy = "Add BYDAY or BYMONTHDAY, or leave it out."
        raise build_recurrence_error(text, "BYSETPOS", "has nothing to choose from", remedy)


def _parse_number(text: str, parts: dict[str, str], name: str, most: int) -> int | None:
    if name not in parts:
        return None
    value = parts[name]
    if not (value.isascii() and value.isdigit() and 1 <= int(value) <= most):
        raise build_recurrence_error(text, f"{name}={value}", "is not possible", f"Give a number from 1 to {most}.")
    return int(value)


def _parse_numbers(text: str, parts: dict[str, str], name: str, allowed: range) -> tuple[int, ...]:
    zero = allowed.start >= 0

    def parse_item(token: str) -> int | None:
        if not re.fullmatch(r"[+-]?[0-9]{1,3}", token):
            return None
        number = int(token)
        return number if number in allowed and (number or zero) else None

    signed = f"{allowed.start} to {allowed.stop - 1}"
    return _parse_list(text, parts, name, parse_item, f"Give numbers from {signed}{'' if zero else ', but not 0'}.")


def _parse_weekdays(text: str, parts: dict[str, str]) -> tuple[Weekday, ...]:
    def parse_item(token: str) -> Weekday | None:
        match = _WEEKDAY_PATTERN.fullmatch(token)
        if match is None or (match[1] and int(match[1]) == 0):
            return None
        return Weekday(DAY_CODES.index(match[2]), int(match[1] or 0))

    return _parse_list(
        text, parts, "BYDAY", parse_item, "Write MO, TU, WE, TH, FR, SA or SU, or with a number as in 2TU or -1SU."
    )


def _parse_list(
    text: str, parts: dict[str, str], name: str, parse_item: Callable[[str], _Item | None], remedy: str
) -> tuple[_Item, ...]:
    numbers = set()
    for token in parts[name].split(",") if name in parts else ():
        value = parse_item(token.strip())
        if value is None:
            raise build_recurrence_error(text, f"{name}={token}", "is not possible", remedy)
        numbers.add(value)
    return tuple(sorted(numbers))


def _parse_until(text: str, parts: dict[str, str]) -> datetime | None:
    if "UNTIL" not in parts:
        return None
    match = _UNTIL_PATTERN.fullmatch(parts["UNTIL"])
    try:
        if match is None:
            raise ValueError
        moment = datetime.strptime(f"{match[1]}{match[2] or '235959'}", "%Y%m%d%H%M%S")  # noqa: DTZ007 - wall time
    except ValueError as error:
        remedy = "Write UNTIL=20271231, UNTIL=20271231T220000, or with a Z for UTC."
        raise build_recurrence_error(text, f"UNTIL={parts['UNTIL']}", "is no date", remedy) from error
    return moment.replace(tzinfo=UTC) if match[3] else moment


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
