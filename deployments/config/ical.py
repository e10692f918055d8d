"""iCalendar files (RFC 5545) as freezes: every event is a time in which nothing may be changed.

Read are DTSTART with DTEND or DURATION, whole days, RRULE, RDATE, EXDATE, changed events of a series (RECURRENCE-ID),
and time zones by their IANA names, by Windows names as Exchange writes them, or as the file defines them. A cancelled
event is none. Times without a zone, and whole days, are read in the window's zone. What can't be read as it is meant is
refused: a freeze that is missed is a night in which machines are changed.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import date, datetime, time, timedelta, tzinfo
from typing import TypeVar

from deployments.config.ical_lines import Component, Line, cut, read_calendars, refused
from deployments.config.ical_values import Length, Moment, Series, length_of, moment_of, utc_of
from deployments.config.ical_zones import Zones
from inventory.errors import InventoryError

MAX_EVENTS = 500

_MOST_DATES = 100_000
_DAY = timedelta(days=1)
_TOO_MANY = "Keep freezes in a calendar of their own, and make one long event of many short ones."
_NO_LENGTH = "Give DTSTART and DTEND (or DURATION) of one kind, the end after the start."
_Instance = tuple[str, datetime]
_Read = TypeVar("_Read")


@dataclass(frozen=True, slots=True)
class Event:
    """One time that something lasts.

    Attributes:
        start: naive when it is meant in whatever zone the reader is in; else in UTC.
        end: the same; the first moment after it.
        summary: what it is called.
    """

    start: datetime
    end: datetime
    summary: str


def read_events(text: str, since: date, until: date) -> tuple[Event, ...]:
    """Return the events of an iCalendar text that lie between two days, those that recur spelt out.

    Args:
        text: the file's content.
        since: events that end before this day are left out.
        until: events that start on this day or later are left out.

    Raises:
        InventoryError: it is no calendar, it has no event or more than MAX_EVENTS, an event is wrong or its zone is
            unknown, or its series take too much work. The error has the line, the event and a hint.
    """
    calendars = read_calendars(text)
    components = [part for each in calendars for part in each.parts if part.name == "VEVENT"]
    if not components:
        hint = "Put events into it, or take the freeze out: a file without any is most often a failed export."
        raise InventoryError("this calendar has no event", hint=hint)
    series = Series()
    zones = [part for each in calendars for part in each.parts if part.name == "VTIMEZONE"]
    reader = _Reader(Zones(zones, datetime.combine(until, time()), series), series, since, until)
    return reader.events(components)


class _Reader:
    """Reads the events of one file."""

    def __init__(self, zones: Zones, series: Series, since: date, until: date) -> None:
        self._zones = zones
        self._series = series
        self._since = since
        self._until = until
        self._moved: set[_Instance] = set()

    def events(self, components: list[Component]) -> tuple[Event, ...]:
        """Return those of all components."""
        self._moved = {self._named(each, self._instance) for each in components if each.every("RECURRENCE-ID")}
        found: list[Event] = []
        for component in components:
            found += self._named(component, self._events_of)
            if len(found) > MAX_EVENTS:
                message = f"it has more than {MAX_EVENTS} events between {self._since} and {self._until}"
                raise InventoryError(message, hint=_TOO_MANY)
        return tuple(sorted(found, key=lambda event: (event.start.replace(tzinfo=None), event.summary)))

    def _named(self, component: Component, read: Callable[[Component], _Read]) -> _Read:
        """Read something of an event, and name that event in what is wrong with it."""
        try:
            return read(component)
        except OverflowError as error:  # year 1, or a duration of a million years
            problem = refused(component.number, "lies outside of the calendar", "Correct its beginning or its end.")
            raise _about(component, problem) from error
        except InventoryError as error:
            raise _about(component, error) from error

    def _events_of(self, component: Component) -> list[Event]:
        status = component.one("STATUS")
        if status and status.text().upper() == "CANCELLED":
            return []
        summary = _summary(component)
        found = []
        for event in self._times(component, summary):
            if event.end.date() >= self._since and event.start.date() < self._until:
                found.append(event)
                if len(found) > MAX_EVENTS:
                    break
        return found

    def _times(self, component: Component, summary: str) -> Iterator[Event]:
        line = component.one("DTSTART")
        if line is None:
            raise refused(component.number, "it has no DTSTART", "Give it a beginning.")
        start = self._moment(line.value, line)
        length = self._length(component, start)
        uid, changed = _uid(component), bool(component.every("RECURRENCE-ID"))
        back = timedelta(days=length.days + 3) + length.time
        for wall, lasts in self._walls(component, start, length, back):
            if not changed and (uid, utc_of(wall, start.zone)) in self._moved:
                continue
            end = wall + timedelta(days=lasts.days)
            if start.zone is None:
                yield Event(wall, end + lasts.time, summary)
            else:
                yield Event(utc_of(wall, start.zone), utc_of(end, start.zone) + lasts.time, summary)

    def _length(self, component: Component, start: Moment) -> Length:
        ends, lasts = component.one("DTEND"), component.one("DURATION")
        if ends and lasts:
            raise refused(lasts.number, "DTEND and DURATION exclude each other", "Leave one of them out.")
        length = Length(0, timedelta(0))
        if ends:
            end = self._moment(ends.value, ends)
            if end.whole_day is start.whole_day and (end.zone is None) is (start.zone is None):
                length = Length(0, end.utc() - start.utc())
        elif lasts:
            length = length_of(lasts.value, lasts)
        elif start.whole_day:
            length = Length(1, timedelta(0))
        if length.days * _DAY + length.time <= timedelta(0):
            raise refused(component.number, f"at {start.wall} it has no length", _NO_LENGTH)
        return length

    def _walls(
        self, component: Component, start: Moment, length: Length, back: timedelta
    ) -> Iterator[tuple[datetime, Length]]:
        """Yield the wall times at which an event begins; a series is followed by the clocks of its own zone."""
        if component.every("EXRULE"):
            raise refused(component.every("EXRULE")[0].number, "EXRULE is not read", "List the dates under EXDATE.")
        since, until = (datetime.combine(day, time()) for day in (self._since, self._until))
        since = max(start.wall, since - min(back, since - start.wall)) if start.wall < since else since - 2 * _DAY
        until += 2 * _DAY  # zones are apart by more than a day
        begins = {start.wall: length, **dict(self._added(component, start, length))}
        gone = {self._by(start.zone, each) for line in component.every("EXDATE") for each in self._moments(line)}
        for line in component.every("RRULE"):
            for wall in self._series.walls(line, start.wall, start.zone, since, until):
                begins.setdefault(wall, length)
                if len(begins) > _MOST_DATES:
                    raise refused(line.number, f"this series has more than {_MOST_DATES:,} dates", _TOO_MANY)
        yield from ((wall, begins[wall]) for wall in sorted(begins) if wall not in gone)

    def _added(self, component: Component, start: Moment, length: Length) -> Iterator[tuple[datetime, Length]]:
        """Give what RDATE adds; a period has a length of its own."""
        for line in component.every("RDATE"):
            for text in _listed(line):
                first, slash, rest = text.partition("/")
                moment = self._moment(first, line, period=bool(slash))
                if not slash:
                    yield self._by(start.zone, moment), length
                elif "P" in rest.upper():
                    yield self._by(start.zone, moment), length_of(rest, line)
                else:
                    end = self._moment(rest, line, period=True)
                    yield self._by(start.zone, moment), Length(0, end.utc() - moment.utc())

    def _moments(self, line: Line) -> Iterator[Moment]:
        return (self._moment(text, line) for text in _listed(line))

    def _moment(self, text: str, line: Line, *, period: bool = False) -> Moment:
        if period:
            kept = {name: value for name, value in line.parameters.items() if name != "VALUE"}
            line = Line(line.number, line.name, kept, line.value)
        return moment_of(text, line, self._zones)

    @staticmethod
    def _by(zone: tzinfo | None, moment: Moment) -> datetime:
        """Return the wall time of a moment by the clocks of a series."""
        return moment.utc().astimezone(zone).replace(tzinfo=None, fold=0) if zone and moment.zone else moment.wall

    def _instance(self, component: Component) -> _Instance:
        line = component.one("RECURRENCE-ID")
        assert line is not None  # noqa: S101 - for the type checker: who asks has looked
        if "RANGE" in line.parameters:
            hint = "Export the calendar from a program that makes two series of it."
            raise refused(line.number, "RECURRENCE-ID changes all that follow (RANGE), which is not read", hint)
        return _uid(component), self._moment(line.value, line).utc()


def _about(component: Component, error: InventoryError) -> InventoryError:
    return InventoryError(f"the event {cut(_summary(component))}: {error.message}", hint=error.hint)


def _listed(line: Line) -> list[str]:
    return line.value.split(",") if line.value.strip() else []  # some programs write an EXDATE without any date


def _summary(component: Component) -> str:
    found = component.every("SUMMARY")
    return found[0].text()[:200] if found else ""


def _uid(component: Component) -> str:
    line = component.one("UID")
    return line.value.strip() if line else ""
