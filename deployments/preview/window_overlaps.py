"""Finds windows of two configurations that are open at the same time on the same machines."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from functools import cache
from itertools import combinations
from pathlib import Path

from deployments.preview.zone_schedules import ZoneSchedule
from tasks.rules.calendar.schedule import Occurrence


@dataclass(frozen=True, slots=True)
class WindowOverlap:
    """Two configurations whose windows overlap on shared machines.

    Attributes:
        first: name of the configuration that is first in the files.
        second: name of the other configuration.
        machines: names of the shared machines.
        start: start of the first overlap, in UTC.
        count: maximum number of overlaps on one machine.
    """

    first: str
    second: str
    machines: tuple[str, ...]
    start: datetime
    count: int


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
    for (_, name), those in numbers.items():
        names_by_numbers.setdefault(tuple(those), []).append(name)
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
    theirs = set(other.machines)
    return tuple(name for name in one.machines if name in theirs)


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
