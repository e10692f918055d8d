"""Reads iCalendar files (RFC 5545) as freezes: each event is a time in which nothing may be changed.

It reads DTSTART with DTEND or DURATION, whole days, RRULE, RDATE, EXDATE, changed events of a series (RECURRENCE-ID),
and time zones: IANA names, Windows names (from Exchange), and definitions in the file. It skips cancelled events. Times
without a zone, and whole days, are in the window's zone. Anything that it can't read exactly is an error: a missed
freeze would allow changes in a forbidden night.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import date, datetime, time, timedelta, tzinfo
from typing import TypeVar

from flows.freezes.icalendar.components import (
    CalendarComponent,
    CalendarProperty,
    build_line_error,
    parse_calendars,
    shorten_value,
)
from flows.freezes.icalendar.recurrences import RecurrenceExpander
from flows.freezes.icalendar.time_zones import TimeZoneRegistry
from flows.freezes.icalendar.values import (
    CalendarDuration,
    CalendarMoment,
    parse_duration,
    parse_moment,
    to_utc,
)
from inventory.errors import InventoryError

MAX_EVENTS = 500

_MAX_DATES = 100_000
_DAY = timedelta(days=1)
_TOO_MANY_HINT = "Keep freezes in a calendar of their own, and make one long event of many short ones."
_NO_LENGTH_HINT = "Give DTSTART and DTEND (or DURATION) of one kind, the end after the start."
_InstanceKey = tuple[str, datetime]
_ReadType = TypeVar("_ReadType")


@dataclass(frozen=True, slots=True)
class CalendarEvent:
    """The start and end of one event.

    Attributes:
        start: naive if it is in the reader's zone; otherwise in UTC.
        end: exclusive; naive or in UTC like ``start``.
        summary: the title of the event.
    """

    start: datetime
    end: datetime
    summary: str


def parse_events(text: str, since: date, until: date) -> tuple[CalendarEvent, ...]:
    """Return the events of an iCalendar text between two days. Recurring events are expanded.

    Args:
        text: the content of the file.
        since: events that end before this day are skipped.
        until: events that start on this day or later are skipped.

    Raises:
        InventoryError: the text is not a calendar, has no event or more than MAX_EVENTS, has an invalid event or an
            unknown zone, or its series need too much work. The error has the line, the event and a hint.
    """
    calendars = parse_calendars(text)
    components = [part for calendar in calendars for part in calendar.components if part.name == "VEVENT"]
    if not components:
        hint = "Put events into it, or take the freeze out: a file without any is most often a failed export."
        raise InventoryError("this calendar has no event", hint=hint)
    expander = RecurrenceExpander()
    zones = [part for calendar in calendars for part in calendar.components if part.name == "VTIMEZONE"]
    reader = _EventReader(TimeZoneRegistry(zones, datetime.combine(until, time()), expander), expander, since, until)
    return reader.read_events(components)


class _EventReader:
    """Reader for the events of one file."""

    def __init__(self, zones: TimeZoneRegistry, expander: RecurrenceExpander, since: date, until: date) -> None:
        self._zones = zones
        self._expander = expander
        self._since = since
        self._until = until
        self._overridden_instances: set[_InstanceKey] = set()

    def read_events(self, components: list[CalendarComponent]) -> tuple[CalendarEvent, ...]:
        """Return the events of all components."""
        self._overridden_instances = {
            self._read_with_event_name(each, self._build_instance_key)
            for each in components
            if each.find_properties("RECURRENCE-ID")
        }
        events: list[CalendarEvent] = []
        for component in components:
            events += self._read_with_event_name(component, self._read_component)
            if len(events) > MAX_EVENTS:
                message = f"it has more than {MAX_EVENTS} events between {self._since} and {self._until}"
                raise InventoryError(message, hint=_TOO_MANY_HINT)
        return tuple(sorted(events, key=lambda event: (event.start.replace(tzinfo=None), event.summary)))

    def _read_with_event_name(
        self, component: CalendarComponent, read: Callable[[CalendarComponent], _ReadType]
    ) -> _ReadType:
        """Read a part of an event. Add the name of the event to an error."""
        try:
            return read(component)
        except OverflowError as error:  # year 1, or a duration of a million years
            problem = build_line_error(
                component.line_number, "lies outside of the calendar", "Correct its beginning or its end."
            )
            raise _add_event_to_error(component, problem) from error
        except InventoryError as error:
            raise _add_event_to_error(component, error) from error

    def _read_component(self, component: CalendarComponent) -> list[CalendarEvent]:
        status = component.find_property("STATUS")
        if status and status.decode_text().upper() == "CANCELLED":
            return []
        summary = _get_summary(component)
        occurrences = []
        for event in self._iterate_event_times(component, summary):
            if event.end.date() >= self._since and event.start.date() < self._until:
                occurrences.append(event)
                if len(occurrences) > MAX_EVENTS:
                    break
        return occurrences

    def _iterate_event_times(self, component: CalendarComponent, summary: str) -> Iterator[CalendarEvent]:
        line = component.find_property("DTSTART")
        if line is None:
            raise build_line_error(component.line_number, "it has no DTSTART", "Give it a beginning.")
        start = self._parse_moment(line.value, line)
        length = self._read_duration(component, start)
        uid, changed = _get_uid(component), bool(component.find_properties("RECURRENCE-ID"))
        lookback = timedelta(days=length.days + 3) + length.time
        for wall, duration in self._iterate_starts(component, start, length, lookback):
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
            raise build_line_error(
                duration_property.line_number, "DTEND and DURATION exclude each other", "Leave one of them out."
            )
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
            raise build_line_error(component.line_number, f"at {start.wall_time} it has no length", _NO_LENGTH_HINT)
        return length

    def _iterate_starts(
        self, component: CalendarComponent, start: CalendarMoment, length: CalendarDuration, lookback: timedelta
    ) -> Iterator[tuple[datetime, CalendarDuration]]:
        """Yield the wall times at which an event starts. A series uses the clocks of its own zone."""
        if component.find_properties("EXRULE"):
            raise build_line_error(
                component.find_properties("EXRULE")[0].line_number, "EXRULE is not read", "List the dates under EXDATE."
            )
        since, until = (datetime.combine(day, time()) for day in (self._since, self._until))
        since = (
            max(start.wall_time, since - min(lookback, since - start.wall_time))
            if start.wall_time < since
            else since - 2 * _DAY
        )
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
                    raise build_line_error(
                        line.line_number, f"this series has more than {_MAX_DATES:,} dates", _TOO_MANY_HINT
                    )
        yield from (
            (wall, durations_by_start[wall]) for wall in sorted(durations_by_start) if wall not in excluded_starts
        )

    def _iterate_added_dates(
        self, component: CalendarComponent, start: CalendarMoment, length: CalendarDuration
    ) -> Iterator[tuple[datetime, CalendarDuration]]:
        """Yield the dates of RDATE. A period has its own duration."""
        for line in component.find_properties("RDATE"):
            for text in _split_values(line):
                first, slash, duration_text = text.partition("/")
                moment = self._parse_moment(first, line, period=bool(slash))
                if not slash:
                    yield self._to_wall_time(start.zone, moment), length
                elif "P" in duration_text.upper():
                    yield self._to_wall_time(start.zone, moment), parse_duration(duration_text, line)
                else:
                    end = self._parse_moment(duration_text, line, period=True)
                    yield self._to_wall_time(start.zone, moment), CalendarDuration(0, end.to_utc() - moment.to_utc())

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

    def _build_instance_key(self, component: CalendarComponent) -> _InstanceKey:
        line = component.find_property("RECURRENCE-ID")
        assert line is not None  # noqa: S101 - for the type checker: who asks has looked
        if "RANGE" in line.parameters:
            hint = "Export the calendar from a program that makes two series of it."
            raise build_line_error(
                line.line_number, "RECURRENCE-ID changes all that follow (RANGE), which is not read", hint
            )
        return _get_uid(component), self._parse_moment(line.value, line).to_utc()


def _add_event_to_error(component: CalendarComponent, error: InventoryError) -> InventoryError:
    return InventoryError(f"the event {shorten_value(_get_summary(component))}: {error.message}", hint=error.hint)


def _split_values(line: CalendarProperty) -> list[str]:
    return line.value.split(",") if line.value.strip() else []  # some programs write an EXDATE without a date


def _get_summary(component: CalendarComponent) -> str:
    properties = component.find_properties("SUMMARY")
    return properties[0].decode_text()[:200] if properties else ""


def _get_uid(component: CalendarComponent) -> str:
    line = component.find_property("UID")
    return line.value.strip() if line else ""
