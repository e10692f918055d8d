"""Lanes: the windows of a configuration by the clocks of one zone, and the machines that go by them."""

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime
from itertools import combinations

from deployments.config.configuration import Configuration, Configurations
from deployments.config.fleets import Fleets
from deployments.config.zones import MACHINE
from inventory.errors import InventoryError
from tasks.rules.calendar.freezes import Freeze, frozen
from tasks.rules.calendar.schedule import Occurrence, Schedule, occurrences


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
        windows = occurrences(self.schedule, since, until=until)
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
    inventory = fleets.of(one)
    try:
        machines = one.machines(inventory) if inventory is not None else ()
    except InventoryError:
        machines = ()  # told by findings.py, where scopes are looked at
    for machine in machines:
        by_zone.setdefault(machine.zone if one.zone == MACHINE else one.zone, []).append(machine.name)
    for zone, names in sorted(by_zone.items()):
        yield Lane(one, one.schedule(zone), one.frozen_times(zone), tuple(names))


def crossings(lanes: tuple[Lane, ...], since: datetime, until: datetime) -> tuple[Crossing, ...]:
    """Return every pair of configurations that meet on a machine between two moments (aware)."""
    windows = {id(lane): lane.opening(since, until) for lane in lanes}
    found: dict[tuple[str, str], Crossing] = {}
    for one, other in combinations(lanes, 2):
        names = (one.configuration.name, other.configuration.name)
        common = common_machines(one, other)
        met = list(meetings(windows[id(one)], windows[id(other)])) if common else []
        if met:
            known = found.get(names, Crossing(*names, (), met[0], 0))
            found[names] = Crossing(
                *names, (*known.machines, *common), min(known.start, met[0]), max(known.count, len(met))
            )
    return tuple(found.values())


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
        for other in theirs[first:]:
            if other.start >= window.end:
                break
            if other.end > window.start:
                yield max(window.start, other.start)
