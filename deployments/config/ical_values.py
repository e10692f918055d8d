"""Values of iCalendar (RFC 5545, section 3.3): moments, lengths, offsets and rules."""

import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta, tzinfo
from typing import TypeAlias

from deployments.config.ical_lines import Line, cut, refused
from tasks.errors import RequestError
from tasks.rules.calendar.dates import walls
from tasks.rules.calendar.kinds import Frequency, Rule
from tasks.rules.calendar.rrule import parse_rrule

MAX_DAYS = 300_000
"""Days that all series of a file are looked through: some seconds at most. What wants more was not meant as freezes."""

_DATE = re.compile(r"(\d{4})(\d{2})(\d{2})", re.ASCII)
_MOMENT = re.compile(r"(\d{4})(\d{2})(\d{2})T(\d{2})(\d{2})(\d{2})(Z?)", re.ASCII)
_DURATION = re.compile(
    r"([+-]?)P(?:(\d{1,6})W)?(?:(\d{1,6})D)?(?:T(?:(\d{1,8})H)?(?:(\d{1,8})M)?(?:(\d{1,8})S)?)?", re.ASCII
)
_OFFSET = re.compile(r"([+-])(\d{2})([0-5]\d)([0-5]\d)?", re.ASCII)
_FREQUENCY = re.compile(r"FREQ=(SECONDLY|MINUTELY|HOURLY)(;|$)", re.IGNORECASE)
_LONGEST_RULE = 1000
_PERIODS = {Frequency.DAILY: 1, Frequency.WEEKLY: 7, Frequency.MONTHLY: 31, Frequency.YEARLY: 366}
_LONGEST_MONTHS = {2: 29, 4: 30, 6: 30, 9: 30, 11: 30}


@dataclass(frozen=True, slots=True)
class Moment:
    """A day, or a time of a day.

    Attributes:
        wall: what the clock shows; midnight of a whole day.
        zone: whose clock; None: the reader's.
        whole_day: whether it is a day.
    """

    wall: datetime
    zone: tzinfo | None
    whole_day: bool

    def utc(self) -> datetime:
        """Return the instant; without a zone, as if the clock showed UTC."""
        return utc_of(self.wall, self.zone)


@dataclass(frozen=True, slots=True)
class Length:
    """How long something lasts: days by the clocks on the wall, and real time."""

    days: int
    time: timedelta


ZoneFinder: TypeAlias = Callable[[str, Line], tzinfo]
"""Returns the zone of a name that a line gives, or raises InventoryError."""


def utc_of(wall: datetime, zone: tzinfo | None) -> datetime:
    """Return the instant that a clock on the wall shows; without a zone, as if it showed UTC."""
    return wall.replace(tzinfo=zone or UTC).astimezone(UTC)


def moment_of(text: str, line: Line, zone_of: ZoneFinder) -> Moment:
    """Return a DATE or DATE-TIME.

    Raises:
        InventoryError: it is none, or its zone is not known.
    """
    kind = line.parameters.get("VALUE", "").upper()
    day, match = _DATE.fullmatch(text.strip()), _MOMENT.fullmatch(text.strip())
    try:
        if day and kind != "DATE-TIME":
            return Moment(datetime(*map(int, day.groups())), None, whole_day=True)  # type: ignore[arg-type]  # noqa: DTZ001
        if match and kind != "DATE":
            wall = datetime(*map(int, match.groups()[:6]))  # type: ignore[arg-type]  # noqa: DTZ001
            name = line.parameters.get("TZID")
            zone = UTC if match[7] else zone_of(name, line) if name is not None else None
            return Moment(wall, zone, whole_day=False)
    except ValueError as error:
        raise refused(line.number, f"{line.name} {cut(text)} is not in the calendar: {error}", "Correct it.") from error
    hint = "Write 20261224 (with VALUE=DATE), 20261224T180000, or 20261224T180000Z for UTC."
    raise refused(line.number, f"{line.name} {cut(text)} is no date or time", hint)


def length_of(text: str, line: Line) -> Length:
    """Return a DURATION.

    Raises:
        InventoryError: it is none.
    """
    match = _DURATION.fullmatch(text.strip().upper())
    if match is None or not any(match.groups()[1:]):
        raise refused(line.number, f"{line.name} {cut(text)} is no length of time", "Write P1D, PT12H or P1DT12H.")
    weeks, days, hours, minutes, seconds = (int(part or 0) for part in match.groups()[1:])
    sign = -1 if match[1] == "-" else 1
    return Length(sign * (weeks * 7 + days), sign * timedelta(hours=hours, minutes=minutes, seconds=seconds))


def offset_of(line: Line) -> timedelta:
    """Return a UTC-OFFSET.

    Raises:
        InventoryError: it is none.
    """
    match = _OFFSET.fullmatch(line.value.strip())
    if match is None or int(match[2]) > 23:
        raise refused(line.number, f"{line.name} {cut(line.value)} is no offset", "Write it as +0100.")
    offset = timedelta(hours=int(match[2]), minutes=int(match[3]), seconds=int(match[4] or 0))
    return -offset if match[1] == "-" else offset


class Series:
    """Spells rules out, and gives up when all of them together want too much work."""

    def __init__(self) -> None:
        self._days = 0

    def walls(
        self, line: Line, start: datetime, zone: tzinfo | None, since: datetime, until: datetime
    ) -> Iterator[datetime]:
        """Yield the wall times that an RRULE names from ``since`` up to ``until``.

        Args:
            line: the property.
            start: the wall time that it counts from.
            zone: whose clocks; an UNTIL in UTC is read by them.
            since: wall time.
            until: wall time.

        Raises:
            InventoryError: the rule makes no sense, recurs within a day, or wants too much work.
        """
        rule = self._rule(line, zone)
        last = min((rule.until, until) if rule.until else (until,))
        self._work(line, rule, last - (start if rule.count else max(start, since)))
        bounded = replace(rule, until=last)
        seconds = timedelta(seconds=0 if "BYSECOND" in line.value.upper() else start.second)
        for wall in walls(bounded, start.replace(second=0), since - timedelta(minutes=1)):
            if since <= wall + seconds < until:
                yield wall + seconds

    def _rule(self, line: Line, zone: tzinfo | None) -> Rule:
        if _FREQUENCY.search(line.value):
            raise refused(line.number, "this recurs within a day", "A freeze recurs daily at most.")
        if len(line.value) > _LONGEST_RULE:
            hint = "Write single events, or a simpler rule."
            raise refused(line.number, f"an RRULE of more than {_LONGEST_RULE} characters", hint)
        try:
            rule = parse_rrule(line.value)
        except RequestError as error:
            raise refused(line.number, error.message, error.hint) from error
        assert isinstance(rule, Rule)  # noqa: S101 - for the type checker: hours were refused above
        if rule.months and rule.month_days and all(_never(rule, month) for month in rule.months):
            raise refused(
                line.number, f"{cut(line.value)} names a day that no year has", "Correct the day or the month."
            )
        if rule.until is None or rule.until.tzinfo is None:
            return rule
        until = rule.until.astimezone(zone) if zone else rule.until
        return replace(rule, until=until.replace(tzinfo=None, fold=0))

    def _work(self, line: Line, rule: Rule, span: timedelta) -> None:
        days = max(0, span.days) // rule.interval
        if rule.count and _in_every_period(rule):
            days = min(days, rule.count * _PERIODS[rule.frequency])
        self._days += days
        if self._days > MAX_DAYS:
            hint = (
                "Let series begin later, end them with UNTIL rather than COUNT, or keep freezes in a file of their own."
            )
            raise refused(line.number, "this series, with those before it, takes too long to be spelt out", hint)


def _never(rule: Rule, month: int) -> bool:
    return all(abs(day) > _LONGEST_MONTHS.get(month, 31) for day in rule.month_days)


def _in_every_period(rule: Rule) -> bool:
    """Whether each period has a date, so that so many dates take no more than so many periods."""
    if rule.months or rule.month_days or rule.positions:
        return False
    if rule.frequency is Frequency.DAILY:
        return not rule.weekdays
    return all(abs(weekday.nth) <= 4 for weekday in rule.weekdays)
