"""The next windows of all configurations: when they open, when their runs start, and what is in their way."""

import heapq
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from deployments.preview.window_overlaps import find_common_machines
from deployments.preview.zone_schedules import ZoneSchedule
from tasks.rules.calendar.freezes import Freeze, find_freeze
from tasks.rules.calendar.prefect_schedule import build_prefect_schedule, iterate_prefect_starts
from tasks.rules.calendar.schedule import Occurrence, iterate_occurrences

SEARCH_HORIZON = timedelta(days=5 * 366)


@dataclass(frozen=True, slots=True)
class UpcomingWindow:
    """One window.

    Attributes:
        zone_schedule: whose it is.
        window: UTC.
        run_start: when its run should start: so much before as the configuration's lead says; UTC.
        is_started_by_prefect: whether what Prefect is told now starts a run just then.
        is_start_past: whether that moment is over.
        freeze: what takes the window away, or None.
        overlapping_configurations: names of configurations whose windows are open at the same time on a machine of this
            one.
        is_open: whether it is open already.
    """

    zone_schedule: ZoneSchedule
    window: Occurrence
    run_start: datetime
    is_started_by_prefect: bool
    is_start_past: bool
    freeze: Freeze | None
    overlapping_configurations: tuple[str, ...]
    is_open: bool


def find_upcoming_windows(
    zone_schedules: Sequence[ZoneSchedule], now: datetime, count: int
) -> tuple[UpcomingWindow, ...]:
    """Return the next windows, those that are open now first.

    Args:
        zone_schedules: what to look at.
        now: aware.
        count: so many, those that a freeze takes away included.
    """
    now = now.astimezone(UTC)
    streams = [_iterate_windows(zone_schedule, number, now) for number, zone_schedule in enumerate(zone_schedules)]
    merged = heapq.merge(*streams, key=lambda pair: (pair[0].start, pair[1]))
    chosen = [(zone_schedules[number], window) for (window, number), _ in zip(merged, range(count), strict=False)]
    schedules_by_id = {id(zone_schedule): zone_schedule for zone_schedule, _ in chosen}
    starts = {key: _find_prefect_starts(zone_schedule, now, chosen) for key, zone_schedule in schedules_by_id.items()}
    others = {
        key: [other for other in zone_schedules if find_common_machines(zone_schedule, other)]
        for key, zone_schedule in schedules_by_id.items()
    }
    return tuple(
        _build_upcoming_window(zone_schedule, window, now, starts[id(zone_schedule)], others[id(zone_schedule)])
        for zone_schedule, window in chosen
    )


def _iterate_windows(zone_schedule: ZoneSchedule, number: int, now: datetime) -> Iterator[tuple[Occurrence, int]]:
    length = timedelta(minutes=zone_schedule.schedule.minutes)
    for window in iterate_occurrences(zone_schedule.schedule, now - length, until=now + SEARCH_HORIZON):
        if window.end > now:
            yield window, number


def _find_prefect_starts(
    zone_schedule: ZoneSchedule, now: datetime, chosen: Sequence[tuple[ZoneSchedule, Occurrence]]
) -> frozenset[datetime]:
    lead = timedelta(minutes=zone_schedule.configuration.lead_minutes)
    last = max(window.start for other, window in chosen if other is zone_schedule)
    prefect_schedule = build_prefect_schedule(zone_schedule.schedule, now, lead, zone_schedule.freezes)
    return frozenset(iterate_prefect_starts(prefect_schedule, now, last - lead + timedelta(minutes=1)))


def _build_upcoming_window(
    zone_schedule: ZoneSchedule,
    window: Occurrence,
    now: datetime,
    starts: frozenset[datetime],
    others: Iterable[ZoneSchedule],
) -> UpcomingWindow:
    run_start = window.start - timedelta(minutes=zone_schedule.configuration.lead_minutes)
    freeze = find_freeze(window, zone_schedule.freezes)
    overlapping = [other.configuration.name for other in others if freeze is None and _has_overlap(window, other)]
    return UpcomingWindow(
        zone_schedule=zone_schedule,
        window=window,
        run_start=run_start,
        is_started_by_prefect=run_start in starts,
        is_start_past=run_start < now,
        freeze=freeze,
        overlapping_configurations=tuple(dict.fromkeys(overlapping)),
        is_open=window.start <= now,
    )


def _has_overlap(window: Occurrence, other: ZoneSchedule) -> bool:
    before = window.start - timedelta(minutes=other.schedule.minutes)
    return any(each.end > window.start for each in other.find_windows(before, window.end))
