"""How a window recurs, read from any of the languages that people write it in."""

from tasks.rules.calendar.azure import is_azure, parse_azure
from tasks.rules.calendar.cron import is_cron, parse_cron
from tasks.rules.calendar.kinds import Either, Frequency, Hours, Once, Recurrence, Rule, Weekday
from tasks.rules.calendar.refusal import refusal
from tasks.rules.calendar.rrule import is_rrule, parse_rrule

__all__ = ["Either", "Frequency", "Hours", "Once", "Recurrence", "Rule", "Weekday", "parse"]

_LONGEST = 1000


def parse(text: str) -> Recurrence:
    """Return what a text means: Azure's words, ``Once``, an iCalendar rule or cron. Case and outer blanks don't matter.

    ``str`` of the result is the canonical text: Azure's words where they can say it, else an iCalendar rule, else cron.
    Parsed again it gives an equal object.

    Raises:
        RequestError: names the wrong word; the hint says what is understood.
    """
    plain = text.strip()
    if len(plain) > _LONGEST:
        raise refusal(f"{plain[:40]}…", f"{plain[:40]}…", f"is longer than {_LONGEST} characters")
    if plain.lower() == "once":
        return Once()
    if is_rrule(plain):
        return parse_rrule(plain)
    if is_azure(plain):
        return parse_azure(plain)
    if is_cron(plain):
        return parse_cron(plain)
    first = plain.split(maxsplit=1)[0] if plain else ""
    raise refusal(text, first, "does not begin a recurrence that is understood" if first else "is empty")
