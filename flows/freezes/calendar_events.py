"""Reads iCalendar files (RFC 5545) as freezes: each event is a time in which nothing may be changed.

It reads DTSTART with DTEND or DURATION, whole days, RRULE, RDATE, EXDATE, changed events of a series (RECURRENCE-ID),
and time zones: definitions in the file, IANA names, and Windows names (from Exchange). It skips cancelled events. Times
without a zone, and whole days, are in the window's zone. Anything that it can't read exactly is an error: a missed
freeze would allow changes in a forbidden night, and in a wrong zone it would start and end at wrong times.
"""

from bisect import bisect_right
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import date, datetime, time, timedelta, timezone, tzinfo
from zoneinfo import ZoneInfo

from pydantic_core import PydanticCustomError

from flows.freezes.calendar_format import (
    CalendarComponent,
    CalendarDuration,
    CalendarMoment,
    CalendarProperty,
    RecurrenceExpander,
    parse_calendars,
    parse_duration,
    parse_moment,
    parse_utc_offset,
    shorten_value,
    to_utc,
)
from flows.freezes.time_values import MACHINE_ZONE, parse_time_zone
from inventory.data_class import dataclass
from inventory.errors import InventoryError

MAX_EVENTS = 500
MAX_ZONE_CHANGES = 2000
"""Maximum number of clock changes in a zone. The zone with the most changes has about two a year."""
MAX_ZONE_EXPANSION_DAYS = 2_000_000
"""Days to search for the clock changes of all zones of a file: some fifty zones with a rule for summer and winter."""

_MAX_DATES = 100_000
_DAY = timedelta(days=1)
_EPOCH = datetime(1970, 1, 1)  # noqa: DTZ001 - wall time
_ZONE_MARGIN = timedelta(days=3 * 366)
_TOO_MANY_HINT = "Keep freezes in a calendar of their own, and make one long event of many short ones."


@dataclass(frozen=True, slots=True)
class CalendarEvent:
    """The start and end of one event."""

    start: datetime  # naive if it is in the reader's zone; otherwise in UTC
    end: datetime  # exclusive; naive or in UTC like ``start``
    summary: str


def parse_events(text: str, since: date, until: date) -> tuple[CalendarEvent, ...]:
    """Return the events of an iCalendar text between two days. Recurring events are expanded.

    Events that end before the day ``since``, or start on the day ``until`` or later, are skipped.

    Raises:
        InventoryError: the text is not a calendar, has no event or more than MAX_EVENTS, has an invalid event or an
            unknown zone, or its series need too much work. The error has the line, the event and a hint.
    """
    parts = [part for calendar in parse_calendars(text) for part in calendar.components]
    components = [part for part in parts if part.name == "VEVENT"]
    if not components:
        hint = "Put events into it, or take the freeze out: a file without any is most often a failed export."
        raise InventoryError("this calendar has no event", hint=hint)
    expander = RecurrenceExpander()
    zones = TimeZoneRegistry([part for part in parts if part.name == "VTIMEZONE"], datetime.combine(until, time()))
    return _EventReader(zones, expander, since, until).read_events(components)


@contextmanager
def _name_event(component: CalendarComponent) -> Iterator[None]:
    """Add the name of the event to an error."""
    try:
        yield
    except (InventoryError, OverflowError) as error:
        fault = error
        if isinstance(fault, OverflowError):  # year 1, or a duration of a million years
            fault = component.build_error("lies outside of the calendar", "Correct its beginning or its end.")
        message = f"the event {shorten_value(_get_summary(component))}: {fault.message}"
        raise InventoryError(message, hint=fault.hint) from error


class _EventReader:
    """Reader for the events of one file."""

    def __init__(self, zones: "TimeZoneRegistry", expander: RecurrenceExpander, since: date, until: date) -> None:
        self._zones = zones
        self._expander = expander
        self._since = since
        self._until = until
        self._overridden_instances: set[tuple[str, datetime]] = set()  # UID and start

    def read_events(self, components: list[CalendarComponent]) -> tuple[CalendarEvent, ...]:
        """Return the events of all components."""
        for component in components:
            with _name_event(component):
                if component.find_properties("RECURRENCE-ID"):
                    self._overridden_instances.add(self._build_instance_key(component))
        events: list[CalendarEvent] = []
        for component in components:
            with _name_event(component):
                events += self._read_component(component)
            if len(events) > MAX_EVENTS:
                message = f"it has more than {MAX_EVENTS} events between {self._since} and {self._until}"
                raise InventoryError(message, hint=_TOO_MANY_HINT)
        return tuple(sorted(events, key=lambda event: (event.start.replace(tzinfo=None), event.summary)))

    def _read_component(self, component: CalendarComponent) -> list[CalendarEvent]:
        status = component.find_property("STATUS")
        if status and status.decode_text().upper() == "CANCELLED":
            return []
        occurrences = []
        for event in self._iterate_event_times(component, _get_summary(component)):
            if event.end.date() >= self._since and event.start.date() < self._until:
                occurrences.append(event)
                if len(occurrences) > MAX_EVENTS:
                    break
        return occurrences

    def _iterate_event_times(self, component: CalendarComponent, summary: str) -> Iterator[CalendarEvent]:
        line = component.find_property("DTSTART")
        if line is None:
            raise component.build_error("it has no DTSTART", "Give it a beginning.")
        start = self._parse_moment(line.value, line)
        length = self._read_duration(component, start)
        uid, changed = _get_uid(component), bool(component.find_properties("RECURRENCE-ID"))
        for wall, duration in self._iterate_starts(component, start, length):
            if not changed and (uid, to_utc(wall, start.zone)) in self._overridden_instances:
                continue
            end = wall + timedelta(days=duration.days)
            if start.zone is None:
                yield CalendarEvent(wall, end + duration.time, summary)
            else:
                yield CalendarEvent(to_utc(wall, start.zone), to_utc(end, start.zone) + duration.time, summary)

    def _read_duration(self, component: CalendarComponent, start: CalendarMoment) -> CalendarDuration:
        end_property, duration_property = component.find_property("DTEND"), component.find_property("DURATION")
        if end_property and duration_property:
            raise duration_property.build_error("DTEND and DURATION exclude each other", "Leave one of them out.")
        length = CalendarDuration(0, timedelta(0))
        if end_property:
            end = self._parse_moment(end_property.value, end_property)
            if end.is_whole_day is start.is_whole_day and (end.zone is None) is (start.zone is None):
                length = CalendarDuration(0, end.to_utc() - start.to_utc())
        elif duration_property:
            length = parse_duration(duration_property.value, duration_property)
        elif start.is_whole_day:
            length = CalendarDuration(1, timedelta(0))
        if length.days * _DAY + length.time <= timedelta(0):
            hint = "Give DTSTART and DTEND (or DURATION) of one kind, the end after the start."
            raise component.build_error(f"at {start.wall_time} it has no length", hint)
        return length

    def _iterate_starts(
        self, component: CalendarComponent, start: CalendarMoment, length: CalendarDuration
    ) -> Iterator[tuple[datetime, CalendarDuration]]:
        """Yield the wall times at which an event starts. A series uses the clocks of its own zone."""
        for line in component.find_properties("EXRULE"):
            raise line.build_error("EXRULE is not read", "List the dates under EXDATE.")
        since, until = (datetime.combine(day, time()) for day in (self._since, self._until))
        if start.wall_time < since:
            lookback = timedelta(days=length.days + 3) + length.time
            since -= min(lookback, since - start.wall_time)
        else:
            since -= 2 * _DAY
        until += 2 * _DAY  # two zones can differ by more than a day
        durations_by_start = {start.wall_time: length, **dict(self._iterate_added_dates(component, start, length))}
        excluded_starts = {
            self._to_wall_time(start.zone, self._parse_moment(text, line))
            for line in component.find_properties("EXDATE")
            for text in _split_values(line)
        }
        for line in component.find_properties("RRULE"):
            for wall in self._expander.expand(line, start.wall_time, start.zone, since, until):
                durations_by_start.setdefault(wall, length)
                if len(durations_by_start) > _MAX_DATES:
                    raise line.build_error(f"this series has more than {_MAX_DATES:,} dates", _TOO_MANY_HINT)
        yield from (
            (wall, durations_by_start[wall]) for wall in sorted(durations_by_start) if wall not in excluded_starts
        )

    def _iterate_added_dates(
        self, component: CalendarComponent, start: CalendarMoment, length: CalendarDuration
    ) -> Iterator[tuple[datetime, CalendarDuration]]:
        """Yield the dates of RDATE. A period has its own duration."""
        for line in component.find_properties("RDATE"):
            for text in _split_values(line):
                first, slash, end_text = text.partition("/")
                moment, duration = self._parse_moment(first, line, period=bool(slash)), length
                if "P" in end_text.upper():
                    duration = parse_duration(end_text, line)
                elif slash:
                    end = self._parse_moment(end_text, line, period=True)
                    duration = CalendarDuration(0, end.to_utc() - moment.to_utc())
                yield self._to_wall_time(start.zone, moment), duration

    def _parse_moment(self, text: str, line: CalendarProperty, *, period: bool = False) -> CalendarMoment:
        if period:
            other_parameters = {name: value for name, value in line.parameters.items() if name != "VALUE"}
            line = CalendarProperty(line.line_number, line.name, other_parameters, line.value)
        return parse_moment(text, line, self._zones)

    @staticmethod
    def _to_wall_time(zone: tzinfo | None, moment: CalendarMoment) -> datetime:
        """Return the wall time of a date in the zone of a series."""
        return (
            moment.to_utc().astimezone(zone).replace(tzinfo=None, fold=0) if zone and moment.zone else moment.wall_time
        )

    def _build_instance_key(self, component: CalendarComponent) -> tuple[str, datetime]:
        line = component.find_property("RECURRENCE-ID")
        assert line is not None  # noqa: S101 - for the type checker: who asks has looked
        if "RANGE" in line.parameters:
            message = "RECURRENCE-ID changes all that follow (RANGE), which is not read"
            raise line.build_error(message, "Export the calendar from a program that makes two series of it.")
        return _get_uid(component), self._parse_moment(line.value, line).to_utc()


def _split_values(line: CalendarProperty) -> list[str]:
    return line.value.split(",") if line.value.strip() else []  # some programs write an EXDATE without a date


def _get_summary(component: CalendarComponent) -> str:
    properties = component.find_properties("SUMMARY")
    return properties[0].decode_text()[:200] if properties else ""


def _get_uid(component: CalendarComponent) -> str:
    line = component.find_property("UID")
    return line.value.strip() if line else ""


class FileTimeZone(tzinfo):
    """A time zone that a file defines."""

    def __init__(self, name: str, changes: Sequence[tuple[datetime, timedelta, timedelta]]) -> None:
        """Store the clock changes, in order: the wall time before the change, the old offset, the new offset."""
        self._name = name
        self._changes = list(changes)
        self._walls = [wall for wall, _, _ in changes]
        self._instants = [wall - old for wall, old, _ in changes]
        self._offsets = [changes[0][1], *(new for _, _, new in changes)]

    def is_like(self, other: "FileTimeZone") -> bool:
        """Return whether both have the same clock changes."""
        return self._changes == other._changes  # noqa: SLF001

    def utcoffset(self, moment: datetime | None) -> timedelta:
        """Return the offset from UTC."""
        wall = moment.replace(tzinfo=None) if moment is not None else _EPOCH
        return self._offsets[bisect_right(self._walls, wall)]

    def dst(self, _moment: datetime | None) -> timedelta:
        """Return zero. A file has the total offset, not its daylight saving part."""
        return timedelta()

    def tzname(self, _moment: datetime | None) -> str:
        """Return the name from the file."""
        return self._name

    def fromutc(self, moment: datetime) -> datetime:
        """Return the wall time of a moment in UTC. As ``tzinfo`` requires, the moment has this zone as its tzinfo."""
        return moment + self._offsets[bisect_right(self._instants, moment.replace(tzinfo=None))]


class TimeZoneRegistry:
    """The zones that the events of a file may use. The file's own definition of a name holds, also if IANA has it."""

    def __init__(self, definitions: Sequence[CalendarComponent], until: datetime) -> None:
        """Store the VTIMEZONE components. A zone is parsed at its first use, so errors in unused zones do no harm."""
        self._definitions: dict[str, list[CalendarComponent]] = {}
        for definition in definitions:
            name = definition.find_property("TZID")
            if name is None:
                raise definition.build_error("this VTIMEZONE has no TZID", "Give it the name that events use.")
            self._definitions.setdefault(name.value.strip(), []).append(definition)
        self._until = until
        self._expander = RecurrenceExpander(MAX_ZONE_EXPANSION_DAYS)
        self._zones: dict[str, tzinfo] = {}

    def __call__(self, name: str, line: CalendarProperty) -> tzinfo:
        """Return the zone with this name. ``line`` is the property that names it.

        Raises:
            InventoryError: the zone is unknown, or its definition in the file is invalid.
        """
        name = name.strip()
        if name not in self._zones:
            self._zones[name] = self._find_zone(name, line)
        return self._zones[name]

    def _find_zone(self, name: str, line: CalendarProperty) -> tzinfo:
        iana = _find_iana_name(name)
        definitions = [part for part in self._definitions.get(name, ()) if part.components or iana is None]
        zones = [self._build_zone(name, definition) for definition in definitions]
        if any(not zone.is_like(zones[0]) for zone in zones):
            message = f"this file defines the time zone {shorten_value(name)} in two ways"
            raise definitions[1].build_error(message, "Keep each calendar in a file of its own.")
        if zones:
            return zones[0]
        if iana is None and name.startswith("/"):  # "/vendor/Europe/Berlin" (RFC 5545, section 3.2.19)
            parts = name.strip("/").split("/")
            suffixes = ("/".join(parts[start:]) for start in range(min(len(parts), 10)))
            iana = next(filter(None, map(_find_iana_name, suffixes)), None)
        if iana is not None:
            return ZoneInfo(iana)
        raise line.build_error(
            f"{line.name} names the time zone {shorten_value(name)}: it is unknown, and the file does not define it",
            "Export the calendar with its time zones (VTIMEZONE), or name an IANA zone such as Europe/Berlin.",
        )

    def _build_zone(self, name: str, component: CalendarComponent) -> FileTimeZone:
        parts = [part for part in component.components if part.name in {"STANDARD", "DAYLIGHT"}]
        changes = sorted(
            (change for part in parts for change in self._read_changes(part)), key=lambda change: change[0]
        )
        title = f"the time zone {shorten_value(name)}"
        if not changes:
            hint = "Export the calendar anew, or name an IANA zone such as Europe/Berlin."
            raise component.build_error(f"{title} has neither STANDARD nor DAYLIGHT", hint)
        if len(changes) > MAX_ZONE_CHANGES:
            message = f"{title} changes its clocks more than {MAX_ZONE_CHANGES} times"
            raise component.build_error(message, "Correct its RRULE.")
        return FileTimeZone(name, changes)

    def _read_changes(self, part: CalendarComponent) -> list[tuple[datetime, timedelta, timedelta]]:
        lines = {name: part.find_property(name) for name in ("DTSTART", "TZOFFSETFROM", "TZOFFSETTO")}
        start, old, new = lines.values()
        if start is None or old is None or new is None:
            missing = next(name for name, line in lines.items() if line is None)
            raise part.build_error(f"this {part.name} has no {missing}", "Export the calendar anew.")
        first = _parse_wall_time(start.value, start)
        before, after = parse_utc_offset(old), parse_utc_offset(new)
        walls = {first}
        for line in part.find_properties("RDATE"):
            walls |= {_parse_wall_time(text, line) for text in line.value.split(",")}
        since, until = _EPOCH - _ZONE_MARGIN, self._until + _ZONE_MARGIN
        for line in part.find_properties("RRULE"):  # an UNTIL in UTC uses the offset before the change
            walls |= set(self._expander.expand(line, first, timezone(before), since, until))
        return [(wall, before, after) for wall in walls]


def _find_iana_name(name: str) -> str | None:
    try:
        zone = parse_time_zone(name)
    except PydanticCustomError:
        return None
    return None if zone == MACHINE_ZONE else zone


def _parse_wall_time(text: str, line: CalendarProperty) -> datetime:
    """Return a wall time of a zone's definition. A time with a zone is an error."""

    def refuse_zone(_name: str, line: CalendarProperty) -> tzinfo:
        raise line.build_error(f"{line.name} of a time zone names a zone itself", "Leave TZID out of it.")

    moment = parse_moment(text, line, refuse_zone)
    if moment.zone is not None:
        raise line.build_error(f"{line.name} of a time zone is in UTC", "Write it by the wall.")
    return moment.wall_time
