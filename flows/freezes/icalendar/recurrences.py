"""Expands recurrence rules (RRULE) of calendar events into dates, with a limit of work."""

import re
from collections.abc import Iterator
from dataclasses import replace
from datetime import datetime, timedelta, tzinfo

from flows.freezes.icalendar.components import CalendarProperty, build_line_error, shorten_value
from tasks.domain.errors import RequestError
from tasks.rules.recurrence.expansion import iterate_wall_times
from tasks.rules.recurrence.model import Frequency, RecurrenceRule
from tasks.rules.recurrence.rrule import parse_rrule

MAX_EXPANSION_DAYS = 300_000
"""Days to search for all series of a file: some seconds at most. A file that needs more is not a list of freezes."""


_SUBDAILY_PATTERN = re.compile(r"FREQ=(SECONDLY|MINUTELY|HOURLY)(;|$)", re.IGNORECASE)


_MAX_RULE_CHARACTERS = 1000


_DAYS_PER_PERIOD = {Frequency.DAILY: 1, Frequency.WEEKLY: 7, Frequency.MONTHLY: 31, Frequency.YEARLY: 366}


_MAX_DAYS_PER_MONTH = {2: 29, 4: 30, 6: 30, 9: 30, 11: 30}


class RecurrenceExpander:
    """Expands the rules of one file. It raises an error if all rules together need too much work."""

    def __init__(self) -> None:
        self._searched_days = 0

    def expand(
        self, line: CalendarProperty, start: datetime, zone: tzinfo | None, since: datetime, until: datetime
    ) -> Iterator[datetime]:
        """Yield the wall times of an RRULE from ``since`` up to ``until``.

        Args:
            line: the property.
            start: the wall time of the first date.
            zone: the zone of the wall times; an UNTIL in UTC is converted to it.
            since: wall time.
            until: wall time.

        Raises:
            InventoryError: the rule is invalid, recurs more than once a day, or needs too much work.
        """
        rule = self._parse_rule(line, zone)
        last = min((rule.until, until) if rule.until else (until,))
        self._require_work_budget(line, rule, last - (start if rule.count else max(start, since)))
        bounded = replace(rule, until=last)
        seconds = timedelta(seconds=0 if "BYSECOND" in line.value.upper() else start.second)
        for wall in iterate_wall_times(bounded, start.replace(second=0), since - timedelta(minutes=1)):
            if since <= wall + seconds < until:
                yield wall + seconds

    def _parse_rule(self, line: CalendarProperty, zone: tzinfo | None) -> RecurrenceRule:
        if _SUBDAILY_PATTERN.search(line.value):
            raise build_line_error(line.line_number, "this recurs within a day", "A freeze recurs daily at most.")
        if len(line.value) > _MAX_RULE_CHARACTERS:
            hint = "Write single events, or a simpler rule."
            raise build_line_error(line.line_number, f"an RRULE of more than {_MAX_RULE_CHARACTERS} characters", hint)
        try:
            rule = parse_rrule(line.value)
        except RequestError as error:
            raise build_line_error(line.line_number, error.message, error.hint) from error
        assert isinstance(rule, RecurrenceRule)  # noqa: S101 - for the type checker: hours were refused above
        if rule.months and rule.month_days and all(_has_no_date_in_month(rule, month) for month in rule.months):
            raise build_line_error(
                line.line_number,
                f"{shorten_value(line.value)} names a day that no year has",
                "Correct the day or the month.",
            )
        if rule.until is None or rule.until.tzinfo is None:
            return rule
        until = rule.until.astimezone(zone) if zone else rule.until
        return replace(rule, until=until.replace(tzinfo=None, fold=0))

    def _require_work_budget(self, line: CalendarProperty, rule: RecurrenceRule, span: timedelta) -> None:
        days = max(0, span.days) // rule.interval
        if rule.count and _has_date_in_every_period(rule):
            days = min(days, rule.count * _DAYS_PER_PERIOD[rule.frequency])
        self._searched_days += days
        if self._searched_days > MAX_EXPANSION_DAYS:
            hint = (
                "Let series begin later, end them with UNTIL rather than COUNT, or keep freezes in a file of their own."
            )
            raise build_line_error(
                line.line_number, "this series, with those before it, takes too long to be spelt out", hint
            )


def _has_no_date_in_month(rule: RecurrenceRule, month: int) -> bool:
    return all(abs(day) > _MAX_DAYS_PER_MONTH.get(month, 31) for day in rule.month_days)


def _has_date_in_every_period(rule: RecurrenceRule) -> bool:
    """Return whether every period has a date. Then N dates need at most N periods."""
    if rule.months or rule.month_days or rule.positions:
        return False
    if rule.frequency is Frequency.DAILY:
        return not rule.weekdays
    return all(abs(weekday.nth) <= 4 for weekday in rule.weekdays)
