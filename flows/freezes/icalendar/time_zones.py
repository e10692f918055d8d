"""Time zones of iCalendar files: IANA names, definitions in the file (VTIMEZONE), and Windows names.

An unknown name is an error. In a wrong zone, a freeze would start and end at wrong times.
"""

from bisect import bisect_right
from collections.abc import Sequence
from datetime import datetime, timedelta, tzinfo
from zoneinfo import ZoneInfo

from pydantic_core import PydanticCustomError

from flows.freezes.icalendar.components import (
    CalendarComponent,
    CalendarProperty,
    build_line_error,
    shorten_value,
)
from flows.freezes.icalendar.recurrences import RecurrenceExpander
from flows.freezes.icalendar.values import parse_moment, parse_utc_offset
from flows.freezes.time_zones import MACHINE_ZONE, parse_time_zone
from inventory.errors import InventoryError

_EPOCH = datetime(1970, 1, 1)  # noqa: DTZ001 - wall time
_EXPANSION_MARGIN = timedelta(days=3 * 366)
MAX_ZONE_CHANGES = 2000
"""Maximum number of clock changes in a zone. The zone with the most changes has about two a year."""


class FileTimeZone(tzinfo):
    """A time zone that a file defines."""

    def __init__(self, name: str, changes: Sequence[tuple[datetime, timedelta, timedelta]]) -> None:
        """Store the clock changes, in order: the wall time before the change, the old offset, the new offset."""
        self._name = name
        self._walls = [wall for wall, _, _ in changes]
        self._instants = [wall - old for wall, old, _ in changes]
        self._offsets = [changes[0][1], *(new for _, _, new in changes)]

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
    """The zones that the events of a file may use."""

    def __init__(self, definitions: Sequence[CalendarComponent], until: datetime, expander: RecurrenceExpander) -> None:
        """Store the VTIMEZONE components. A zone is parsed at its first use, so errors in unused zones do no harm."""
        self._definitions: dict[str, CalendarComponent] = {}
        for definition in definitions:
            name = definition.find_property("TZID")
            if name is None:
                raise build_line_error(
                    definition.line_number, "this VTIMEZONE has no TZID", "Give it the name that events use."
                )
            self._definitions.setdefault(name.value.strip(), definition)
        self._until = until
        self._expander = expander
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
        if iana == name:
            return ZoneInfo(name)
        if name in self._definitions:
            return self._build_zone(name, self._definitions[name])
        if iana is None and name.startswith("/"):  # "/vendor/Europe/Berlin" (RFC 5545, section 3.2.19)
            parts = name.strip("/").split("/")
            iana = next(
                filter(None, (_find_iana_name("/".join(parts[start:])) for start in range(min(len(parts), 10)))), None
            )
        if iana is not None:
            return ZoneInfo(iana)
        message = (
            f"{line.name} names the time zone {shorten_value(name)}: it is unknown, and the file does not define it"
        )
        hint = "Export the calendar with its time zones (VTIMEZONE), or name an IANA zone such as Europe/Berlin."
        raise build_line_error(line.line_number, message, hint)

    def _build_zone(self, name: str, component: CalendarComponent) -> tzinfo:
        parts = [part for part in component.components if part.name in {"STANDARD", "DAYLIGHT"}]
        changes = sorted(
            (change for part in parts for change in self._read_changes(part)), key=lambda change: change[0]
        )
        if not changes:
            hint = "Export the calendar anew, or name an IANA zone such as Europe/Berlin."
            raise build_line_error(
                component.line_number, f"the time zone {shorten_value(name)} has neither STANDARD nor DAYLIGHT", hint
            )
        if len(changes) > MAX_ZONE_CHANGES:
            message = f"the time zone {shorten_value(name)} changes its clocks more than {MAX_ZONE_CHANGES} times"
            raise build_line_error(component.line_number, message, "Correct its RRULE.")
        return FileTimeZone(name, changes)

    def _read_changes(self, part: CalendarComponent) -> list[tuple[datetime, timedelta, timedelta]]:
        lines = {name: part.find_property(name) for name in ("DTSTART", "TZOFFSETFROM", "TZOFFSETTO")}
        start, old, new = lines.values()
        if start is None or old is None or new is None:
            missing = next(name for name, line in lines.items() if line is None)
            raise build_line_error(part.line_number, f"this {part.name} has no {missing}", "Export the calendar anew.")
        first = _parse_wall_time(start.value, start)
        before, after = parse_utc_offset(old), parse_utc_offset(new)
        walls = {first}
        for line in part.find_properties("RDATE"):
            walls |= {_parse_wall_time(text, line) for text in line.value.split(",")}
        for line in part.find_properties("RRULE"):
            clocks = FileTimeZone("", [(first, before, before)])  # an UNTIL in UTC uses the offset before the change
            walls |= set(
                self._expander.expand(line, first, clocks, _EPOCH - _EXPANSION_MARGIN, self._until + _EXPANSION_MARGIN)
            )
        return [(wall, before, after) for wall in walls]


def _find_iana_name(name: str) -> str | None:
    try:
        zone = parse_time_zone(name)
    except PydanticCustomError:
        return None
    return None if zone == MACHINE_ZONE else zone


def _parse_wall_time(text: str, line: CalendarProperty) -> datetime:
    """Return a wall time. A time with a zone is an error."""

    def refuse_zone(_name: str, line: CalendarProperty) -> tzinfo:
        raise build_line_error(
            line.line_number, f"{line.name} of a time zone names a zone itself", "Leave TZID out of it."
        )

    moment = parse_moment(text, line, refuse_zone)
    if moment.zone is not None:
        raise InventoryError(
            f"line {line.line_number}: {line.name} of a time zone is in UTC", hint="Write it by the wall."
        )
    return moment.wall_time
