"""Finds the next windows of all configurations: when they open, when their runs start, what prevents them."""

import heapq
from collections.abc import Iterable, Iterator, Sequence
from datetime import UTC, datetime, timedelta
from functools import cache
from itertools import combinations
from pathlib import Path

from deployments.preview.zone_schedules import ZoneSchedule
from inventory.data_class import dataclass
from tasks.rules.calendar.freezes import Freeze, find_freeze
from tasks.rules.calendar.prefect_schedule import build_prefect_schedule, iterate_prefect_starts
from tasks.rules.calendar.schedule import Occurrence, iterate_occurrences


@dataclass(frozen=True, slots=True)
class WindowOverlap:
    """Two configurations whose windows overlap on shared machines."""

    first: str  # name of the configuration that is first in the files
    second: str
    machines: tuple[str, ...]
    start: datetime  # start of the first overlap, in UTC
    count: int  # maximum number of overlaps on one machine


def find_overlaps(
    zone_schedules: tuple[ZoneSchedule, ...], since: datetime, until: datetime
) -> tuple[WindowOverlap, ...]:
    """Return each pair of configurations with an overlap on a machine between two moments (aware)."""
    windows: list[list[Occurrence]] = []
    alike: dict[tuple[Occurrence, ...], int] = {}  # many configurations open at the same times

    @cache
    def find_windows(number: int) -> int:
        found_windows = zone_schedules[number].find_windows(since, until)
        index = alike.setdefault(tuple(found_windows), len(windows))
        if index == len(windows):
            windows.append(found_windows)
        return index

    @cache
    def find_starts(ours: int, theirs: int) -> tuple[datetime, ...]:
        return tuple(find_overlap_starts(windows[ours], windows[theirs]))

    overlaps: dict[tuple[str, str], WindowOverlap] = {}
    for (first, second), common in _find_shared_machines(zone_schedules).items():
        overlap_starts = find_starts(find_windows(first), find_windows(second))
        if overlap_starts:
            names = (zone_schedules[first].configuration.name, zone_schedules[second].configuration.name)
            previous = overlaps.get(names, WindowOverlap(*names, (), overlap_starts[0], 0))
            overlaps[names] = WindowOverlap(
                *names,
                (*previous.machines, *common),
                min(previous.start, overlap_starts[0]),
                max(previous.count, len(overlap_starts)),
            )
    return tuple(overlaps.values())


def _find_shared_machines(zone_schedules: Sequence[ZoneSchedule]) -> dict[tuple[int, int], list[str]]:
    """Return the pairs of zone schedules from different configurations with shared machines, and these machines.

    It compares groups of machines with the same zone schedules, because a large fleet has only a few such groups.
    """
    numbers: dict[tuple[Path | None, str], list[int]] = {}
    for number, zone_schedule in enumerate(zone_schedules):
        for name in zone_schedule.machines:
            numbers.setdefault((zone_schedule.configuration.inventory_path, name), []).append(number)
    names_by_numbers: dict[tuple[int, ...], list[str]] = {}
    for (_, name), schedule_numbers in numbers.items():
        names_by_numbers.setdefault(tuple(schedule_numbers), []).append(name)
    pairs: dict[tuple[int, int], list[str]] = {}
    for together, names in names_by_numbers.items():
        for pair in combinations(together, 2):
            pairs.setdefault(pair, []).extend(names)
    different_pairs = {
        pair
        for pair in pairs
        if zone_schedules[pair[0]].configuration.name != zone_schedules[pair[1]].configuration.name
    }
    return {pair: pairs[pair] for pair in sorted(different_pairs)}


def find_common_machines(one: ZoneSchedule, other: ZoneSchedule) -> tuple[str, ...]:
    """Return the machines that two configurations share. Machines of different inventories are different machines."""
    if one.configuration.name == other.configuration.name:
        return ()
    if one.configuration.inventory_path != other.configuration.inventory_path:
        return ()
    other_machines = set(other.machines)
    return tuple(name for name in one.machines if name in other_machines)


def find_overlap_starts(ours: list[Occurrence], theirs: list[Occurrence]) -> Iterator[datetime]:
    """Yield the start of each overlap of a window in one list with a window in the other. Both lists are sorted."""
    first = 0
    for window in ours:
        while first < len(theirs) and theirs[first].end <= window.start:
            first += 1
        number = first
        while number < len(theirs) and theirs[number].start < window.end:  # a slice would copy the rest of the list
            if theirs[number].end > window.start:
                yield max(window.start, theirs[number].start)
            number += 1


SEARCH_HORIZON = timedelta(days=5 * 366)


@dataclass(frozen=True, slots=True)
class UpcomingWindow:
    """A window that is open or will open."""

    zone_schedule: ZoneSchedule
    window: Occurrence  # start and end, in UTC
    run_start: datetime  # when its run should start (the window's start minus the lead), in UTC
    is_started_by_prefect: bool  # whether the present Prefect schedule starts a run at that time
    is_start_past: bool
    freeze: Freeze | None
    # Names of configurations with a window at the same time on a machine of this configuration.
    overlapping_configurations: tuple[str, ...]
    is_open: bool


def find_upcoming_windows(
    zone_schedules: Sequence[ZoneSchedule], now: datetime, count: int
) -> tuple[UpcomingWindow, ...]:
    """Return the next windows, at most ``count``, windows in a freeze included. Open windows come first."""
    now = now.astimezone(UTC)
    streams = [_iterate_windows(zone_schedule, number, now) for number, zone_schedule in enumerate(zone_schedules)]
    merged = heapq.merge(*streams, key=lambda pair: (pair[0].start, pair[1]))
    chosen = [(zone_schedules[number], window) for (window, number), _ in zip(merged, range(count), strict=False)]
    schedules_by_id = {id(zone_schedule): zone_schedule for zone_schedule, _ in chosen}
    starts = {key: _find_prefect_starts(zone_schedule, now, chosen) for key, zone_schedule in schedules_by_id.items()}
    sharing_schedules = {
        key: [
            other_schedule for other_schedule in zone_schedules if find_common_machines(zone_schedule, other_schedule)
        ]
        for key, zone_schedule in schedules_by_id.items()
    }
    return tuple(
        _build_upcoming_window(
            zone_schedule, window, now, starts[id(zone_schedule)], sharing_schedules[id(zone_schedule)]
        )
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
    last = max(window.start for other_schedule, window in chosen if other_schedule is zone_schedule)
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
    overlapping = [
        other.configuration.name
        for other in (others if freeze is None else ())
        for earliest in [window.start - timedelta(minutes=other.schedule.minutes)]
        if any(other_window.end > window.start for other_window in other.find_windows(earliest, window.end))
    ]
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
