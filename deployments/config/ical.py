"""iCalendar files (RFC 5545) as freezes: every event is a time in which nothing may be changed.

Read are DTSTART with DTEND or DURATION, whole days, RRULE, RDATE, EXDATE, changed events of a series (RECURRENCE-ID),
and time zones by their IANA names, by Windows names as Exchange writes them, or as the file defines them. A cancelled
event is none. Times without a zone, and whole days, are read in the window's zone.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, date, datetime, time, timedelta, tzinfo
from itertools import takewhile
from typing import Any, TypeAlias

from dateutil.rrule import rrule, rruleset, rrulestr

from inventory.errors import InventoryError

MAX_EVENTS = 500
Component: TypeAlias = Any
"""A part of a calendar. The library is loaded only when a file is read, so its types aren't known here."""

_TOO_FINE = frozenset({"SECONDLY", "MINUTELY", "HOURLY"})


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
        InventoryError: it is no calendar, an event makes no sense, or there are more than MAX_EVENTS; with a hint.
    """
    try:
        return _read(text, since, until)
    except OverflowError as error:  # year 1, or a duration of a million years
        raise InventoryError(
            "an event lies outside of the calendar", hint="Correct the year of its beginning or its end."
        ) from error


def _read(text: str, since: date, until: date) -> tuple[Event, ...]:
    components = _components(text)
    moved = {_instance(each) for each in components if "RECURRENCE-ID" in each}
    found: list[Event] = []
    for component in components:
        if str(component.get("STATUS", "")).upper() == "CANCELLED":
            continue
        found += [event for event in _times(component, until, moved) if _within(event, since, until)]
        if len(found) > MAX_EVENTS:
            raise InventoryError(
                f"it has more than {MAX_EVENTS} events between {since} and {until}",
                hint="Keep freezes in a calendar of their own, and make one long event of many short ones.",
            )
    return tuple(sorted(found, key=lambda event: (event.start.replace(tzinfo=None), event.summary)))


def _components(text: str) -> list[Component]:
    import icalendar  # noqa: PLC0415 - takes a while, and most configurations have no such file

    try:
        calendars = icalendar.Calendar.from_ical(text, multiple=True)
        components = [event for calendar in calendars for event in calendar.walk("VEVENT")]
        for component in components:
            if component.errors:
                raise ValueError("; ".join(f"{name}: {why}" for name, why in component.errors))
    except (ValueError, KeyError, IndexError) as error:
        raise InventoryError(f"this is no iCalendar file: {error}", hint="Export it anew as .ics.") from error
    if not calendars:
        raise InventoryError("this is no iCalendar file", hint="It begins with BEGIN:VCALENDAR.")
    return components


def _times(component: Component, until: date, moved: set[tuple[str, datetime]]) -> Iterator[Event]:
    summary = " ".join(str(component.get("SUMMARY", "")).split())[:200]
    start = component.decoded("DTSTART", None)
    if start is None:
        raise InventoryError(f"the event {summary!r} has no DTSTART", hint="Give it a beginning.")
    length = _length(component, start, summary)
    first, zone = _wall(start)
    for wall in _walls(component, first, zone, until, summary):
        if "RECURRENCE-ID" not in component and (str(component.get("UID", "")), _utc(wall, zone)) in moved:
            continue
        if zone is None:
            yield Event(wall, wall + length, summary)
        else:
            begins = _utc(wall, zone)
            yield Event(begins, begins + length, summary)


def _length(component: Component, start: date | datetime, summary: str) -> timedelta:
    end, duration = component.decoded("DTEND", None), component.decoded("DURATION", None)
    if end is not None and isinstance(end, datetime) is isinstance(start, datetime):
        first, zone = _wall(start)
        last, other = _wall(end)
        if (zone is None) is (other is None):
            length: timedelta = _utc(last, other) - _utc(first, zone)
        else:
            length = timedelta(0)
    elif end is None and duration is not None:
        length = duration
    elif end is None and not isinstance(start, datetime):
        length = timedelta(days=1)
    else:
        length = timedelta(0)
    if length <= timedelta(0):
        hint = "Give DTSTART and DTEND (or DURATION) of one kind, the end after the start."
        raise InventoryError(f"the event {summary!r} at {start} has no length", hint=hint)
    return length


def _walls(component: Component, first: datetime, zone: tzinfo | None, until: date, summary: str) -> Iterator[datetime]:
    """Yield the wall times at which an event begins; a series is followed by the clocks of its own zone."""
    if not {"RRULE", "RDATE"} & set(component):
        yield first
        return
    series = rruleset()
    series.rdate(first)
    for rule in _every(component, "RRULE"):
        if _TOO_FINE & set(rule.get("FREQ", ())):
            raise InventoryError(f"the event {summary!r} recurs within a day", hint="A freeze recurs daily at most.")
        read = rrulestr(_with_wall_until(rule, zone), dtstart=first)
        series.rrule(read) if isinstance(read, rrule) else series.rdate(first)
    for name, add in (("RDATE", series.rdate), ("EXDATE", series.exdate)):
        for listed in _every(component, name):
            for each in listed.dts:
                wall, other = _wall(each.dt)
                add(_utc(wall, other).astimezone(zone).replace(tzinfo=None) if zone and other else wall)
    last = datetime.combine(until, time())
    yield from takewhile(lambda wall: wall < last, series)


def _with_wall_until(rule: Component, zone: tzinfo | None) -> str:
    """Return a rule as text, with its UNTIL by the same clocks as its start."""
    ends = rule.get("UNTIL", [])
    text = ";".join(part for part in rule.to_ical().decode().split(";") if not part.startswith("UNTIL="))
    if not ends:
        return text
    end = ends[0]
    if not isinstance(end, datetime):
        wall = datetime.combine(end, time(23, 59, 59))
    else:
        wall = (end.astimezone(zone) if end.tzinfo and zone else end).replace(tzinfo=None)
    return f"{text};UNTIL={wall:%Y%m%dT%H%M%S}"


def _every(component: Component, name: str) -> list[Component]:
    found = component.get(name, [])
    return found if isinstance(found, list) else [found]


def _instance(component: Component) -> tuple[str, datetime]:
    wall, zone = _wall(component.decoded("RECURRENCE-ID"))
    return str(component.get("UID", "")), _utc(wall, zone)


def _wall(moment: date | datetime) -> tuple[datetime, tzinfo | None]:
    if isinstance(moment, datetime):
        return moment.replace(tzinfo=None), moment.tzinfo
    return datetime.combine(moment, time()), None


def _utc(wall: datetime, zone: tzinfo | None) -> datetime:
    return wall.replace(tzinfo=zone or UTC).astimezone(UTC)


def _within(event: Event, since: date, until: date) -> bool:
    return event.end.date() >= since and event.start.date() < until
