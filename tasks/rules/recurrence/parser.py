"""Parses a recurrence in any of the accepted formats."""

from tasks.rules.recurrence.azure import is_azure, parse_azure
from tasks.rules.recurrence.cron import is_cron, parse_cron
from tasks.rules.recurrence.model import (
    CronUnion,
    EveryHours,
    Frequency,
    Once,
    Recurrence,
    RecurrenceRule,
    Weekday,
    build_recurrence_error,
)
from tasks.rules.recurrence.rrule import is_rrule, parse_rrule

__all__ = [
    "CronUnion",
    "EveryHours",
    "Frequency",
    "Once",
    "Recurrence",
    "RecurrenceRule",
    "Weekday",
    "parse_recurrence",
]

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
    if is_rrule(plain):
        return parse_rrule(plain)
    if is_azure(plain):
        return parse_azure(plain)
    if is_cron(plain):
        return parse_cron(plain)
    first = plain.split(maxsplit=1)[0] if plain else ""
    raise build_recurrence_error(text, first, "does not begin a recurrence that is understood" if first else "is empty")
