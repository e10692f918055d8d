"""Finds the next windows of all configurations: when they open, when their runs start, what prevents them."""

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
    """A window that is open or will open.

    Attributes:
        zone_schedule: the configuration and zone of the window.
        window: start and end, in UTC.
        run_start: when its run should start (the window's start minus the lead), in UTC.
        is_started_by_prefect: whether the present Prefect schedule starts a run at that time.
        is_start_past: whether that time is past.
        freeze: the freeze that cancels the window, or None.
        overlapping_configurations: names of configurations with a window at the same time on a machine of this
            configuration.
        is_open: whether the window is open now.
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
    """Return the next windows. Open windows come first.

    Args:
        zone_schedules: the zone schedules to search.
        now: the present time, aware.
        count: maximum number of windows, windows in a freeze included.
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


def find_next_window(zone_schedule: ZoneSchedule, now: datetime) -> Occurrence | None:
    """Return the window that is open or comes next, also if a freeze cancels it; None if there is none for years.

    It costs much less than ``find_upcoming_windows``, which says also whether a run will start.
    """
    return next((window for window, _ in _iterate_windows(zone_schedule, 0, now.astimezone(UTC))), None)


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
    return any(other_window.end > window.start for other_window in other.find_windows(before, window.end))
