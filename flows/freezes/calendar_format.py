"""Reads the format of iCalendar files (RFC 5545): components with properties, their values, and recurrence rules.

It reads exactly or not at all: the library ``icalendar`` skips over much that is wrong here, keeps no line numbers, and
lets a time zone that one file defines hold in the next file.
"""

import re
from collections.abc import Callable, Iterator
from dataclasses import field, replace
from datetime import UTC, datetime, timedelta, tzinfo
from typing import TypeAlias

from inventory.data_class import dataclass
from inventory.errors import InventoryError
from tasks.domain.errors import RequestError
from tasks.rules.recurrence.expansion import iterate_wall_times
from tasks.rules.recurrence.model import Frequency, RecurrenceRule
from tasks.rules.recurrence.parser import parse_rrule

MAX_EXPANSION_DAYS = 300_000
"""Days to search for all series of a file: some seconds at most. A file that needs more is not a list of freezes."""
_MAX_RULE_CHARACTERS = 1000
_ROOT_COMPONENT = "VCALENDAR"
_EXPORT_HINT = "Export it anew as .ics."
_NAME_PATTERN = re.compile(r"[A-Za-z0-9-]+")
_PARAMETER_PATTERN = re.compile(r';([A-Za-z0-9-]+)=((?:"[^"]*"|[^";:,]*)(?:,(?:"[^"]*"|[^";:,]*))*)')
_ESCAPE_PATTERN = re.compile(r"\\(.)")
_DATE_PATTERN = re.compile(r"(\d{4})(\d{2})(\d{2})", re.ASCII)
_MOMENT_PATTERN = re.compile(r"(\d{4})(\d{2})(\d{2})T(\d{2})(\d{2})(\d{2})(Z?)", re.ASCII)
_DURATION_PATTERN = re.compile(
    r"([+-]?)P(?:(\d{1,6})W)?(?:(\d{1,6})D)?(?:T(?:(\d{1,8})H)?(?:(\d{1,8})M)?(?:(\d{1,8})S)?)?", re.ASCII
)
_OFFSET_PATTERN = re.compile(r"([+-])(\d{2})([0-5]\d)([0-5]\d)?", re.ASCII)
_SUBDAILY_PATTERN = re.compile(r"FREQ=(SECONDLY|MINUTELY|HOURLY)(;|$)", re.IGNORECASE)
_DAYS_PER_PERIOD = {Frequency.DAILY: 1, Frequency.WEEKLY: 7, Frequency.MONTHLY: 31, Frequency.YEARLY: 366}
_MAX_DAYS_PER_MONTH = {2: 29, 4: 30, 6: 30, 9: 30, 11: 30}


def shorten_value(text: str, max_characters: int = 80) -> str:
    """Return a value, shortened for a message."""
    return repr(text if len(text) <= max_characters else f"{text[:max_characters]}…")


@dataclass(frozen=True, slots=True)
class _Located:
    """Something in a file: the number of its first line, and its name in upper case."""

    line_number: int
    name: str

    def build_error(self, message: str, hint: str) -> InventoryError:
        """Return an error that names the line."""
        return InventoryError(f"line {self.line_number}: {message}", hint=hint)


@dataclass(frozen=True, slots=True)
class CalendarProperty(_Located):
    """A property of a component: parameters without quotes by names in upper case, and the value as written."""

    parameters: dict[str, str]
    value: str

    def decode_text(self) -> str:
        """Return a value of type TEXT without its escapes."""
        plain = _ESCAPE_PATTERN.sub(lambda match: " " if match[1] in "nN" else match[1], self.value)
        return " ".join("".join(sign if sign.isprintable() else " " for sign in plain).split())


@dataclass(frozen=True, slots=True)
class CalendarComponent(_Located):
    """A part of a calendar between BEGIN and END, with its properties and the components in it."""

    properties: list[CalendarProperty] = field(default_factory=list)
    components: list["CalendarComponent"] = field(default_factory=list)

    def find_properties(self, name: str) -> list[CalendarProperty]:
        """Return all properties with this name."""
        return [line for line in self.properties if line.name == name]

    def find_property(self, name: str) -> CalendarProperty | None:
        """Return the property with this name, or None. It may occur only once.

        Raises:
            InventoryError: it occurs more than once.
        """
        properties = self.find_properties(name)
        if len(properties) > 1:
            message = f"{name} is here a second time, first in line {properties[0].line_number}"
            raise properties[1].build_error(message, "Keep the one that is meant, or export the calendar anew.")
        return properties[0] if properties else None


def parse_calendars(text: str) -> list[CalendarComponent]:
    """Return the calendars of a file.

    Raises:
        InventoryError: the text is not a calendar, or it is incomplete. The error has the line.
    """
    calendars: list[CalendarComponent] = []
    open_components: list[CalendarComponent] = []
    for number, raw in _unfold_lines(text):
        line = _parse_property(number, raw)
        value = line.value.strip()
        if not open_components and (line.name != "BEGIN" or value.upper() != _ROOT_COMPONENT):
            raise line.build_error("this is no iCalendar file", f"It begins with BEGIN:{_ROOT_COMPONENT}.")
        if line.name == "BEGIN":
            component = CalendarComponent(number, value.upper())
            (open_components[-1].components if open_components else calendars).append(component)
            open_components.append(component)
        elif line.name == "END":
            ended = open_components.pop()
            if value.upper() != ended.name:
                message = f"END:{value[:40]} where {ended.name[:40]} of line {ended.line_number} is to end"
                raise line.build_error(message, _EXPORT_HINT)
        else:
            open_components[-1].properties.append(line)
    if open_components:
        message = f"{open_components[-1].name[:40]} has no end: the file is cut off"
        raise open_components[-1].build_error(message, "Export or download it anew.")
    if not calendars:
        hint = f"It begins with BEGIN:{_ROOT_COMPONENT}."
        raise InventoryError("this is no iCalendar file: it is empty", hint=hint)
    return calendars


def _unfold_lines(text: str) -> Iterator[tuple[int, str]]:
    """Yield each unfolded line with the number of its first line. Only CR and LF end a line, not Unicode separators."""
    first, parts = 0, [""]
    for number, raw in enumerate((*re.split(r"\r\n|\n|\r", text), ""), 1):
        if raw[:1] in {" ", "\t"} and first:
            parts.append(raw[1:])
            continue
        if "".join(parts).strip():
            yield first, "".join(parts)
        first, parts = number, [raw]


def _parse_property(number: int, raw: str) -> CalendarProperty:
    name = _NAME_PATTERN.match(raw)
    position = name.end() if name else 0
    parameters = {}
    while name and (match := _PARAMETER_PATTERN.match(raw, position)):
        parameters[match[1].upper()] = match[2].replace('"', "")
        position = match.end()
    if name is None or raw[position : position + 1] != ":":
        message = "this is no line of an iCalendar file: NAME:VALUE is wanted"
        raise _Located(number, "").build_error(message, _EXPORT_HINT)
    return CalendarProperty(number, name[0].upper(), parameters, raw[position + 1 :])


@dataclass(frozen=True, slots=True)
class CalendarMoment:
    """A day, or a time of a day."""

    wall_time: datetime  # the wall time; midnight for a whole day
    zone: tzinfo | None  # the zone of the wall time; None: the reader's zone
    is_whole_day: bool

    def to_utc(self) -> datetime:
        """Return the instant. A moment without a zone is read as UTC."""
        return to_utc(self.wall_time, self.zone)


@dataclass(frozen=True, slots=True)
class CalendarDuration:
    """A duration: calendar days in wall time, and exact time."""

    days: int
    time: timedelta


ZoneFinder: TypeAlias = Callable[[str, CalendarProperty], tzinfo]
"""Returns the zone with a name that a property gives, or raises InventoryError."""


def to_utc(wall: datetime, zone: tzinfo | None) -> datetime:
    """Return the instant of a wall time. A wall time without a zone is read as UTC."""
    return wall.replace(tzinfo=zone or UTC).astimezone(UTC)


def parse_moment(text: str, line: CalendarProperty, find_zone: ZoneFinder) -> CalendarMoment:
    """Parse a DATE or DATE-TIME. Raise InventoryError if the text is invalid, or its zone is unknown."""
    kind = line.parameters.get("VALUE", "").upper()
    day, match = _DATE_PATTERN.fullmatch(text.strip()), _MOMENT_PATTERN.fullmatch(text.strip())
    try:
        if day and kind != "DATE-TIME":
            return CalendarMoment(datetime(*map(int, day.groups())), None, is_whole_day=True)  # type: ignore[arg-type]  # noqa: DTZ001
        if match and kind != "DATE":
            wall = datetime(*map(int, match.groups()[:6]))  # type: ignore[arg-type]  # noqa: DTZ001
            name = line.parameters.get("TZID")
            zone = UTC if match[7] else find_zone(name, line) if name is not None else None
            return CalendarMoment(wall, zone, is_whole_day=False)
    except ValueError as error:
        message = f"{line.name} {shorten_value(text)} is not in the calendar: {error}"
        raise line.build_error(message, "Correct it.") from error
    hint = "Write 20261224 (with VALUE=DATE), 20261224T180000, or 20261224T180000Z for UTC."
    raise line.build_error(f"{line.name} {shorten_value(text)} is no date or time", hint)


def parse_duration(text: str, line: CalendarProperty) -> CalendarDuration:
    """Parse a DURATION. A text that is none is an InventoryError."""
    match = _DURATION_PATTERN.fullmatch(text.strip().upper())
    if match is None or not any(match.groups()[1:]):
        message = f"{line.name} {shorten_value(text)} is no length of time"
        raise line.build_error(message, "Write P1D, PT12H or P1DT12H.")
    weeks, days, hours, minutes, seconds = (int(part or 0) for part in match.groups()[1:])
    sign = -1 if match[1] == "-" else 1
    return CalendarDuration(sign * (weeks * 7 + days), sign * timedelta(hours=hours, minutes=minutes, seconds=seconds))


def parse_utc_offset(line: CalendarProperty) -> timedelta:
    """Parse a UTC-OFFSET. A text that is none is an InventoryError."""
    match = _OFFSET_PATTERN.fullmatch(line.value.strip())
    if match is None or int(match[2]) > 23:
        raise line.build_error(f"{line.name} {shorten_value(line.value)} is no offset", "Write it as +0100.")
    offset = timedelta(hours=int(match[2]), minutes=int(match[3]), seconds=int(match[4] or 0))
    return -offset if match[1] == "-" else offset


class RecurrenceExpander:
    """Expands the rules of one file. It raises an error if all rules together need too much work."""

    def __init__(self, max_days: int = MAX_EXPANSION_DAYS) -> None:
        self._days_left = max_days

    def expand(
        self, line: CalendarProperty, start: datetime, zone: tzinfo | None, since: datetime, until: datetime
    ) -> Iterator[datetime]:
        """Yield the wall times of an RRULE from ``since`` up to ``until``, which are wall times too.

        ``start`` is the wall time of the first date. An UNTIL in UTC is converted to the zone.

        Raises:
            InventoryError: the rule is invalid, recurs more than once a day, or needs too much work.
        """
        rule = _parse_rule(line, zone)
        last = min((rule.until, until) if rule.until else (until,))
        days = max(0, (last - (start if rule.count else max(start, since))).days) // rule.interval
        if rule.count and _has_date_in_every_period(rule):
            days = min(days, rule.count * _DAYS_PER_PERIOD[rule.frequency])
        self._days_left -= days
        if self._days_left < 0:
            message = "this series, with those before it, takes too long to be spelt out"
            remedy = "end them with UNTIL rather than COUNT, or keep freezes in a file of their own."
            raise line.build_error(message, f"Let series begin later, {remedy}")
        seconds = timedelta(seconds=0 if "BYSECOND" in line.value.upper() else start.second)
        bounded = replace(rule, until=last)
        for wall in iterate_wall_times(bounded, start.replace(second=0), since - timedelta(minutes=1)):
            if since <= wall + seconds < until:
                yield wall + seconds


def _parse_rule(line: CalendarProperty, zone: tzinfo | None) -> RecurrenceRule:
    if _SUBDAILY_PATTERN.search(line.value):
        raise line.build_error("this recurs within a day", "A freeze recurs daily at most.")
    if len(line.value) > _MAX_RULE_CHARACTERS:
        hint = "Write single events, or a simpler rule."
        raise line.build_error(f"an RRULE of more than {_MAX_RULE_CHARACTERS} characters", hint)
    try:
        rule = parse_rrule(line.value)
    except RequestError as error:
        raise line.build_error(error.message, error.hint) from error
    assert isinstance(rule, RecurrenceRule)  # noqa: S101 - for the type checker: hours were refused above
    month_lengths = [_MAX_DAYS_PER_MONTH.get(month, 31) for month in rule.months]
    if month_lengths and rule.month_days and all(abs(day) > max(month_lengths) for day in rule.month_days):
        message = f"{shorten_value(line.value)} names a day that no year has"
        raise line.build_error(message, "Correct the day or the month.")
    if rule.until is None or rule.until.tzinfo is None:
        return rule
    until = rule.until.astimezone(zone) if zone else rule.until
    return replace(rule, until=until.replace(tzinfo=None, fold=0))


def _has_date_in_every_period(rule: RecurrenceRule) -> bool:
    """Return whether every period has a date. Then N dates need at most N periods."""
    if rule.months or rule.month_days or rule.positions:
        return False
    if rule.frequency is Frequency.DAILY:
        return not rule.weekdays
    return all(abs(weekday.nth) <= 4 for weekday in rule.weekdays)
