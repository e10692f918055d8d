"""Freezes: times in which nothing may be changed. A freeze has priority over every window. Pure."""

from collections.abc import Iterable
from datetime import UTC, datetime

from inventory.data_class import dataclass
from tasks.domain.errors import RequestError
from tasks.domain.model import Window
from tasks.rules.calendar.local_time import get_time_zone
from tasks.rules.calendar.schedule import Occurrence


@dataclass(frozen=True, slots=True)
class Freeze:
    """A time in which no window opens."""

    start: datetime  # aware
    end: datetime  # aware; the first instant at which windows may be open again. It may be equal to ``start``.
    reason: str = ""  # for display, such as "year-end closing"

    def __post_init__(self) -> None:
        """Refuse invalid times. Raise RequestError if a time has no zone, or the end is before the start."""
        named = f"the freeze {self.reason!r}" if self.reason else "a freeze"
        if self.start.tzinfo is None or self.end.tzinfo is None:
            raise RequestError(f"{named} has a time without a zone", hint="Give its times with their offset or zone.")
        if self.end < self.start:
            raise RequestError(
                f"{named} ends before it begins: {self.start.isoformat()} to {self.end.isoformat()}",
                hint="Give its end later than its start, both with an offset or both without.",
            )


def build_freeze(start: datetime, end: datetime, zone: str, reason: str = "") -> Freeze:
    """Return a freeze. Times without an offset are in the zone; an ambiguous time makes the freeze longer.

    Times are ambiguous when they occur twice or do not exist because of a clock change. All code builds freezes with
    this function, so that deployment, display, checks and runs use the same instants. ``zone`` is an IANA name.

    Raises:
        RequestError: the zone is unknown, or the freeze ends before it begins.
    """
    return Freeze(min(_list_possible_instants(start, zone)), max(_list_possible_instants(end, zone)), reason)


def _list_possible_instants(moment: datetime, zone: str) -> tuple[datetime, ...]:
    try:
        if moment.tzinfo is not None:
            return (moment.astimezone(UTC),)
        time_zone = get_time_zone(zone)
        return tuple(moment.replace(tzinfo=time_zone, fold=fold).astimezone(UTC) for fold in (0, 1))
    except OverflowError:  # year 9999 in a zone where the UTC time is after the last year
        return (moment.replace(tzinfo=UTC),)


def find_freeze(window: Occurrence | Window, freezes: Iterable[Freeze]) -> Freeze | None:
    """Return the freeze that prevents a window, or None; of several freezes, the one that starts first.

    Any overlap counts. A window is never shortened, because people and predictions expect its full length. A freeze
    that ends when the window opens, or starts when the window ends, does not overlap.
    """
    hits = [freeze for freeze in freezes if freeze.start < window.end and window.start < freeze.end]
    return min(hits, key=lambda freeze: freeze.start) if hits else None
