"""Time zones of iCalendar files: by IANA's names, as the file defines them (VTIMEZONE), or by Windows' names.

A name that none of these knows is refused: read by other clocks, a freeze would begin and end at other times.
"""

from bisect import bisect_right
from collections.abc import Sequence
from datetime import datetime, timedelta, tzinfo
from zoneinfo import ZoneInfo

from pydantic_core import PydanticCustomError

from deployments.config.ical_lines import Component, Line, cut, refused
from deployments.config.ical_values import Series, moment_of, offset_of
from deployments.config.zones import MACHINE, zone_of
from inventory.errors import InventoryError

_SINCE = datetime(1970, 1, 1)  # noqa: DTZ001 - wall time
_REACH = timedelta(days=3 * 366)
MAX_CHANGES = 2000
"""Changes of the clocks in a zone; in the busiest one there were two a year."""


class DefinedZone(tzinfo):
    """A zone as a file defines it."""

    def __init__(self, name: str, changes: Sequence[tuple[datetime, timedelta, timedelta]]) -> None:
        """Take the changes of the clocks, in order: the wall time by the old ones, the old offset, the new one."""
        self._name = name
        self._walls = [wall for wall, _, _ in changes]
        self._instants = [wall - old for wall, old, _ in changes]
        self._offsets = [changes[0][1], *(new for _, _, new in changes)]

    def utcoffset(self, moment: datetime | None) -> timedelta:
        """Return by how much the clock on the wall is ahead of UTC."""
        wall = moment.replace(tzinfo=None) if moment is not None else _SINCE
        return self._offsets[bisect_right(self._walls, wall)]

    def dst(self, _moment: datetime | None) -> timedelta:
        """Return nothing: files say what the offset is, not what part of it is summer time."""
        return timedelta()

    def tzname(self, _moment: datetime | None) -> str:
        """Return the file's own name."""
        return self._name

    def fromutc(self, moment: datetime) -> datetime:
        """Return what the clock on the wall shows; the moment bears this zone and UTC's time."""
        return moment + self._offsets[bisect_right(self._instants, moment.replace(tzinfo=None))]


class Zones:
    """The zones that a file's events may name."""

    def __init__(self, defined: Sequence[Component], until: datetime, series: Series) -> None:
        """Take the file's VTIMEZONEs. One is read when it is asked for: what is wrong with others does no harm."""
        self._defined: dict[str, Component] = {}
        for each in defined:
            name = each.one("TZID")
            if name is None:
                raise refused(each.number, "this VTIMEZONE has no TZID", "Give it the name that events use.")
            self._defined.setdefault(name.value.strip(), each)
        self._until = until
        self._series = series
        self._read: dict[str, tzinfo] = {}

    def __call__(self, name: str, line: Line) -> tzinfo:
        """Return the zone of a name that stands in a line.

        Raises:
            InventoryError: the zone is unknown, or the file defines it wrongly.
        """
        name = name.strip()
        if name not in self._read:
            self._read[name] = self._found(name, line)
        return self._read[name]

    def _found(self, name: str, line: Line) -> tzinfo:
        iana = _known(name)
        if iana == name:
            return ZoneInfo(name)
        if name in self._defined:
            return self._zone(name, self._defined[name])
        if iana is None and name.startswith("/"):  # "/vendor/Europe/Berlin" (RFC 5545, section 3.2.19)
            parts = name.strip("/").split("/")
            iana = next(filter(None, (_known("/".join(parts[start:])) for start in range(min(len(parts), 10)))), None)
        if iana is not None:
            return ZoneInfo(iana)
        message = f"{line.name} names the time zone {cut(name)}, which is not known and which the file does not define"
        hint = "Export the calendar with its time zones (VTIMEZONE), or name an IANA zone such as Europe/Berlin."
        raise refused(line.number, message, hint)

    def _zone(self, name: str, component: Component) -> tzinfo:
        parts = [part for part in component.parts if part.name in {"STANDARD", "DAYLIGHT"}]
        changes = sorted((change for part in parts for change in self._changes(part)), key=lambda change: change[0])
        if not changes:
            hint = "Export the calendar anew, or name an IANA zone such as Europe/Berlin."
            raise refused(component.number, f"the time zone {cut(name)} has neither STANDARD nor DAYLIGHT", hint)
        if len(changes) > MAX_CHANGES:
            message = f"the time zone {cut(name)} changes its clocks more than {MAX_CHANGES} times"
            raise refused(component.number, message, "Correct its RRULE.")
        return DefinedZone(name, changes)

    def _changes(self, part: Component) -> list[tuple[datetime, timedelta, timedelta]]:
        lines = {name: part.one(name) for name in ("DTSTART", "TZOFFSETFROM", "TZOFFSETTO")}
        start, old, new = lines.values()
        if start is None or old is None or new is None:
            missing = next(name for name, line in lines.items() if line is None)
            raise refused(part.number, f"this {part.name} has no {missing}", "Export the calendar anew.")
        first = _by_the_wall(start.value, start)
        before, after = offset_of(old), offset_of(new)
        walls = {first}
        for line in part.every("RDATE"):
            walls |= {_by_the_wall(each, line) for each in line.value.split(",")}
        for line in part.every("RRULE"):
            clocks = DefinedZone("", [(first, before, before)])  # an UNTIL in UTC is read by the clocks before it
            walls |= set(self._series.walls(line, first, clocks, _SINCE - _REACH, self._until + _REACH))
        return [(wall, before, after) for wall in walls]


def _known(name: str) -> str | None:
    try:
        zone = zone_of(name)
    except PydanticCustomError:
        return None
    return None if zone == MACHINE else zone


def _by_the_wall(text: str, line: Line) -> datetime:
    """Return a time that has to stand without a zone."""

    def none(_name: str, line: Line) -> tzinfo:
        raise refused(line.number, f"{line.name} of a time zone names a zone itself", "Leave TZID out of it.")

    moment = moment_of(text, line, none)
    if moment.zone is not None:
        raise InventoryError(f"line {line.number}: {line.name} of a time zone is in UTC", hint="Write it by the wall.")
    return moment.wall
