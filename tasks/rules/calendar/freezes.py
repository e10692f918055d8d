"""Freezes: times at which nothing may be patched. They win over every window."""

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import UTC, datetime

from tasks.errors import RequestError
from tasks.model import Window
from tasks.rules.calendar.local_time import get_time_zone
from tasks.rules.calendar.schedule import Occurrence


@dataclass(frozen=True, slots=True)
class Freeze:
    """A time without windows.

    Attributes:
        start: aware.
        end: aware; the first instant at which windows may be open again. The same as the start: a moment.
        reason: for people: "year-end closing".
    """

    start: datetime
    end: datetime
    reason: str = ""

    def __post_init__(self) -> None:
        """Refuse what can't be meant.

        Raises:
            RequestError: a time without a zone, or an end before the start.
        """
        named = f"the freeze {self.reason!r}" if self.reason else "a freeze"
        if self.start.tzinfo is None or self.end.tzinfo is None:
            raise RequestError(f"{named} has a time without a zone", hint="Give its times with their offset or zone.")
        if self.end < self.start:
            raise RequestError(
                f"{named} ends before it begins: {self.start.isoformat()} to {self.end.isoformat()}",
                hint="Give its end later than its start, both with an offset or both without.",
            )


def build_freeze(start: datetime, end: datetime, zone: str, reason: str = "") -> Freeze:
    """Return a freeze; times without an offset are read in the zone, and in doubt so that it lasts longer.

    In doubt are times that happen twice, and those that the clocks jump over. This is the one reader of freezes: what
    is deployed, shown, checked and kept to by a run are the same instants.

    Args:
        start: from when.
        end: until when.
        zone: IANA name.
        reason: for people.

    Raises:
        RequestError: the zone is unknown, or the freeze ends before it begins.
    """
    return Freeze(min(_list_possible_instants(start, zone)), max(_list_possible_instants(end, zone)), reason)


def _list_possible_instants(moment: datetime, zone: str) -> tuple[datetime, ...]:
    try:
        if moment.tzinfo is not None:
            return (moment.astimezone(UTC),)
        here = get_time_zone(zone)
        return tuple(moment.replace(tzinfo=here, fold=fold).astimezone(UTC) for fold in (0, 1))
    except OverflowError:  # "until the end of time", in a zone that is not there yet
        return (moment.replace(tzinfo=UTC),)


def find_freeze(window: Occurrence | Window, freezes: Iterable[Freeze]) -> Freeze | None:
    """Return the freeze that a window may not open for, or None; of several the one that begins first.

    Any overlap counts: a window is not shortened, since people and budgets reckon with its whole length. A freeze that
    ends when the window opens, or begins when it ends, does no harm.
    """
    hits = [freeze for freeze in freezes if freeze.start < window.end and window.start < freeze.end]
    return min(hits, key=lambda freeze: freeze.start) if hits else None
