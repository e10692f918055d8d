"""Lanes: the windows of a configuration by the clocks of one zone, and the machines that go by them."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from itertools import combinations
from pathlib import Path

from deployments.config.configuration import Configuration, Configurations
from deployments.config.fleets import Fleets
from deployments.config.zones import MACHINE
from inventory.errors import InventoryError
from tasks.rules.calendar.freezes import Freeze, frozen
from tasks.rules.calendar.schedule import Occurrence, Schedule, windows_between


@dataclass(frozen=True, slots=True)
class Lane:
    """The windows of one configuration in one zone.

    Attributes:
        configuration: whose they are.
        schedule: the windows.
        freezes: take windows away.
        machines: names; empty when they aren't known.
    """

    configuration: Configuration
    schedule: Schedule
    freezes: tuple[Freeze, ...]
    machines: tuple[str, ...]

    def opening(self, since: datetime, until: datetime) -> list[Occurrence]:
        """Return the windows between two moments that no freeze takes away."""
        windows = windows_between(self.schedule, since, until)
        return [window for window in windows if frozen(window, self.freezes) is None]


@dataclass(frozen=True, slots=True)
class Crossing:
    """Two configurations whose windows overlap on machines that both are for.

    Attributes:
        first: name of the one that stands first in the files.
        second: name of the other.
        machines: names of the machines.
        start: when they overlap for the first time, UTC.
        count: how often a machine sees that, at most.
    """

    first: str
    second: str
    machines: tuple[str, ...]
    start: datetime
    count: int


def lanes_of(configurations: Configurations, fleets: Fleets) -> tuple[Lane, ...]:
    """Return the lanes of the configurations that are switched on.

    One for each machine's own zone, whose machines aren't known, has none: nobody can say when it opens.
    """
    return tuple(lane for one in configurations.enabled for lane in _lanes(one, fleets))


def _lanes(one: Configuration, fleets: Fleets) -> Iterator[Lane]:
    by_zone: dict[str, list[str]] = {} if one.zone == MACHINE else {one.zone: []}
    try:
        machines = fleets.machines_of(one)
    except InventoryError:
        machines = ()  # told by findings.py, where scopes are looked at
    for machine in machines:
        by_zone.setdefault(machine.zone if one.zone == MACHINE else one.zone, []).append(machine.name)
    for zone, names in sorted(by_zone.items()):
        yield Lane(one, one.schedule(zone), one.frozen_times(zone), tuple(names))


def crossings(lanes: tuple[Lane, ...], since: datetime, until: datetime) -> tuple[Crossing, ...]:
    """Return every pair of configurations that meet on a machine between two moments (aware)."""
    windows: dict[int, list[Occurrence]] = {}
    found: dict[tuple[str, str], Crossing] = {}
    for (first, second), common in _meeting(lanes).items():
        for number in (first, second):
            if number not in windows:
                windows[number] = lanes[number].opening(since, until)
        met = list(meetings(windows[first], windows[second]))
        if met:
            names = (lanes[first].configuration.name, lanes[second].configuration.name)
            known = found.get(names, Crossing(*names, (), met[0], 0))
            found[names] = Crossing(
                *names, (*known.machines, *common), min(known.start, met[0]), max(known.count, len(met))
            )
    return tuple(found.values())


def _meeting(lanes: Sequence[Lane]) -> dict[tuple[int, int], list[str]]:
    """Return the pairs of lanes of two configurations that share machines, in order, and those machines.

    Machines that are in the same lanes are looked at together: most of a large fleet is in few combinations of them.
    """
    numbers: dict[tuple[Path | None, str], list[int]] = {}
    for number, lane in enumerate(lanes):
        for name in lane.machines:
            numbers.setdefault((lane.configuration.inventory, name), []).append(number)
    alike: dict[tuple[int, ...], list[str]] = {}
    for (_, name), those in numbers.items():
        alike.setdefault(tuple(those), []).append(name)
    pairs: dict[tuple[int, int], list[str]] = {}
    for together, names in alike.items():
        for pair in combinations(together, 2):
            pairs.setdefault(pair, []).extend(names)
    apart = {pair for pair in pairs if lanes[pair[0]].configuration.name != lanes[pair[1]].configuration.name}
    return {pair: pairs[pair] for pair in sorted(apart)}


def common_machines(one: Lane, other: Lane) -> tuple[str, ...]:
    """Return the machines that two configurations share. Two inventories are taken for two fleets."""
    if one.configuration.name == other.configuration.name:
        return ()
    if one.configuration.inventory != other.configuration.inventory:
        return ()
    theirs = set(other.machines)
    return tuple(name for name in one.machines if name in theirs)


def meetings(ours: list[Occurrence], theirs: list[Occurrence]) -> Iterator[datetime]:
    """Give the moments from which on a window of ours and one of theirs are open at once. Both are in order."""
    first = 0
    for window in ours:
        while first < len(theirs) and theirs[first].end <= window.start:
            first += 1
        number = first
        while number < len(theirs) and theirs[number].start < window.end:  # no slice: it would copy the rest of a year
            if theirs[number].end > window.start:
                yield max(window.start, theirs[number].start)
            number += 1
