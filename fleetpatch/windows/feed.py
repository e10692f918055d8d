"""The windows as an iCalendar feed (RFC 5545), for calendar programs. Pure.

All times are in UTC, so the feed needs no VTIMEZONE, and a clock change can't move a window in a program that knows
other rules. An event keeps its UID: configuration, zone and start make it. SEQUENCE counts minutes from 1970 to the
last change of the window (of the configurations' files, or what became of it), so it never falls.
"""

import hashlib
from collections.abc import Iterable
from datetime import UTC, datetime, timedelta
from typing import Final

from icalendar import Calendar, Event

from deployments.preview.window_calendar import CalendarFreeze
from inventory.data_class import dataclass
from tasks.domain.rows.windows import WindowKind, WindowRow
from tasks.reports.formatting import format_count
from tasks.reports.sanitizing import sanitize_to_one_line

PAST: Final = timedelta(days=30)
AHEAD: Final = timedelta(days=180)
MAX_WINDOWS: Final = 20_000
"""About 9 MB. With more, the feed is refused: a part of it would look like all of it."""
_REFRESH: Final = "PT1H"
_TEXT_LIMIT: Final = 500
_FALLBACK_MINUTES: Final = 1


@dataclass(frozen=True, slots=True)
class FeedSource:
    """What the feed is about."""

    fleet: str  # name of the fleet, part of each UID
    changed_at: datetime  # the last change of the files of configurations
    url: str = ""  # the address of the pages without a slash at its end, or ""


def build_feed(windows: Iterable[WindowRow], freezes: Iterable[CalendarFreeze], source: FeedSource) -> bytes:
    """Return the feed."""
    feed = Calendar()
    feed.add("prodid", "-//fleetpatch//windows//EN")
    feed.add("version", "2.0")
    feed.add("calscale", "GREGORIAN")
    feed.add("method", "PUBLISH")
    name = f"Patching {source.fleet}".strip()
    feed.add("name", name)
    feed.add("x-wr-calname", name)
    feed.add("refresh-interval", timedelta(hours=1), parameters={"VALUE": "DURATION"})
    feed.add("x-published-ttl", _REFRESH)
    for window in windows:
        feed.add_component(_build_window(window, source))
    for freeze in freezes:
        feed.add_component(_build_freeze(freeze, source))
    return bytes(feed.to_ical())


def _build_window(window: WindowRow, source: FeedSource) -> Event:
    event = _start_event(source, ("window", window.configuration, window.zone, window.start), window.recorded_at)
    event.add("dtstart", window.start.astimezone(UTC))
    # A window whose length is not known any more gets a minute: programs don't show an event without a length.
    event.add("dtend", (window.end or window.start + timedelta(minutes=_FALLBACK_MINUTES)).astimezone(UTC))
    prefix = f"{window.kind.value.capitalize()}: " if window.is_void or window.kind is WindowKind.MISSED else ""
    event.add("summary", _clean(f"{prefix}Patching {window.configuration}"))
    event.add("description", "\n".join(map(_clean, _describe_window(window))))
    event.add("status", "CANCELLED" if window.is_void else "CONFIRMED")
    event.add("categories", ["Patching"])
    if source.url:
        event.add("url", f"{source.url}/runs/{window.run_id}" if window.run_id else f"{source.url}/calendar")
    return event


def _describe_window(window: WindowRow) -> Iterable[str]:
    yield f"{format_count(window.machines, 'machine')}, configuration {window.configuration}"
    if window.zone:
        yield f"Time zone of the window: {window.zone}"
    state = window.run_state if window.kind is WindowKind.RUN else window.kind.value
    yield f"State: {state or 'run'}" + (f": {window.reason}" if window.reason else "")
    if window.run_id:
        yield f"Run {window.run_id}"
    if window.overlaps:
        yield f"Overlaps {', '.join(window.overlaps)} on the same machines"
    if window.note:
        yield window.note


def _build_freeze(freeze: CalendarFreeze, source: FeedSource) -> Event:
    event = _start_event(source, ("freeze", freeze.reason, freeze.end, freeze.start), None)
    event.add("dtstart", freeze.start.astimezone(UTC))
    event.add("dtend", freeze.end.astimezone(UTC))
    event.add("summary", _clean(f"No patching: {freeze.reason or 'freeze'}"))
    whom = "all configurations" if freeze.is_general else ", ".join(freeze.configurations)
    event.add("description", _clean(f"Freeze of {whom}"))
    event.add("status", "CONFIRMED")
    event.add("categories", ["Freeze"])
    return event


def _start_event(source: FeedSource, key: tuple[object, ...], recorded_at: datetime | None) -> Event:
    changed = max(source.changed_at, recorded_at or source.changed_at).astimezone(UTC).replace(microsecond=0)
    text = "\n".join(part.isoformat() if isinstance(part, datetime) else str(part) for part in (source.fleet, *key))
    event = Event()
    event.add("uid", f"{hashlib.sha256(text.encode('utf-8', 'replace')).hexdigest()[:40]}@fleetpatch")
    event.add("dtstamp", changed)
    event.add("last-modified", changed)
    event.add("sequence", int(changed.timestamp()) // 60)
    event.add("transp", "TRANSPARENT")  # the window is for machines: it takes no time of the person
    return event


def _clean(text: str) -> str:
    return sanitize_to_one_line(text, _TEXT_LIMIT)
