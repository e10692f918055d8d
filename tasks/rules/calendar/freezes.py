"""Freezes: times at which nothing may be patched. They win over every window."""

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import date, datetime, time, timedelta

from tasks.errors import RequestError
from tasks.rules.calendar.clocks import instant
from tasks.rules.calendar.schedule import Occurrence


@dataclass(frozen=True, slots=True)
class Freeze:
    """A time without windows.

    Attributes:
        start: aware.
        end: aware; the first instant at which windows may be open again.
        reason: for people: "year-end closing".
    """

    start: datetime
    end: datetime
    reason: str = ""

    def __post_init__(self) -> None:
        """Refuse what can't be meant.

        Raises:
            RequestError: a time without a zone, or an end that is not after the start.
        """
        named = f"the freeze {self.reason!r}" if self.reason else "a freeze"
        if self.start.tzinfo is None or self.end.tzinfo is None:
            raise RequestError(f"{named} has a time without a zone", hint="Give its times with their offset or zone.")
        if self.end <= self.start:
            raise RequestError(
                f"{named} ends at {self.end.isoformat()}, which is not after its start {self.start.isoformat()}",
                hint="Give an end that lies after the start; for whole days the last day itself.",
            )


def frozen(occurrence: Occurrence, freezes: Iterable[Freeze]) -> Freeze | None:
    """Return the freeze that a window may not open for, or None; of several the one that begins first.

    Any overlap counts: a window is not shortened, since people and budgets reckon with its whole length. A freeze that
    ends when the window opens, or begins when it ends, does no harm.
    """
    hits = [freeze for freeze in freezes if freeze.start < occurrence.end and occurrence.start < freeze.end]
    return min(hits, key=lambda freeze: freeze.start, default=None)


def all_day(first: date, last: date, zone: str, reason: str = "") -> Freeze:
    """Return the freeze of whole days in a zone.

    Args:
        first: the first day that is frozen.
        last: the last one; it may be the same. (iCalendar's DTEND of an all-day event is the day *after* the last.)
        zone: IANA name. Where the clocks jump over midnight the day begins with its first instant.
        reason: for people.

    Raises:
        RequestError: the zone is unknown, or the last day lies before the first.
    """
    begins, _ = instant(datetime.combine(first, time()), zone)
    ends, _ = instant(datetime.combine(last + timedelta(days=1), time()), zone)
    return Freeze(begins, ends, reason)
