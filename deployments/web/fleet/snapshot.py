"""The whole fleet as pages see it: inventory, configurations, and the state of each machine."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime

from deployments.configuration.inventories import Inventories, load_inventories
from deployments.configuration.loader import find_configurations, load_configurations
from deployments.configuration.model import Configurations
from deployments.preview.upcoming_windows import find_upcoming_windows
from deployments.preview.zone_schedules import ZoneSchedule, build_zone_schedules
from deployments.web.settings import WebSettings
from inventory.errors import FleetpatchError
from inventory.loader import find_inventory, load_inventory
from inventory.machine import Inventory, Machine
from tasks.records.queries.fleet.machine_states import MachineState


@dataclass(frozen=True, slots=True)
class NextWindow:
    """The next window of a machine. ``start`` and ``end`` are in UTC."""

    configuration: str
    zone: str
    start: datetime
    end: datetime


@dataclass(frozen=True, slots=True)
class MachineRow:
    """A machine with all that lists show of it.

    Attributes:
        state: None if it was never assessed.
        next_window: None if it has none, or if it is not known.
        configurations: names of the configurations that select it.
    """

    machine: Machine
    state: MachineState | None
    next_window: NextWindow | None
    configurations: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class FleetSnapshot:
    """The fleet at one moment.

    Attributes:
        at: when it was read.
        rows: all machines of the inventory by name, in the order of the inventory.
        inventory: None if it can't be read.
        configurations: None if there are none, or if they can't be read.
        zone_schedules: the windows of the enabled configurations.
        problems: what could not be read, for the pages.
    """

    at: datetime
    rows: Mapping[str, MachineRow]
    inventory: Inventory | None
    configurations: Configurations | None
    zone_schedules: tuple[ZoneSchedule, ...]
    problems: tuple[str, ...]


def build_snapshot(settings: WebSettings, states: Mapping[str, MachineState], now: datetime) -> FleetSnapshot:
    """Read inventory and configurations, and join them with the states of machines."""
    problems: list[str] = []
    inventory = _load_inventory(settings, problems)
    configurations = _load_configurations(settings, now, problems)
    zone_schedules: tuple[ZoneSchedule, ...] = ()
    if configurations is not None:
        inventories: Inventories = load_inventories(configurations, settings.inventory)
        zone_schedules = build_zone_schedules(configurations, inventories)
    windows = _find_next_windows(zone_schedules, now)
    names = _list_configurations(zone_schedules)
    machines = inventory.machines if inventory is not None else ()
    rows = {
        each.name: MachineRow(each, states.get(each.name), windows.get(each.name), names.get(each.name, ()))
        for each in machines
    }
    return FleetSnapshot(now, rows, inventory, configurations, zone_schedules, tuple(problems))


def _load_inventory(settings: WebSettings, problems: list[str]) -> Inventory | None:
    try:
        return load_inventory(find_inventory(settings.inventory))
    except FleetpatchError as error:
        problems.append(f"inventory: {error.message}")
        return None


def _load_configurations(settings: WebSettings, now: datetime, problems: list[str]) -> Configurations | None:
    try:
        return load_configurations(find_configurations(settings.configurations), now.date())
    except FleetpatchError as error:
        if settings.configurations is not None:
            problems.append(f"configurations: {error.message}")
        return None


def _find_next_windows(zone_schedules: tuple[ZoneSchedule, ...], now: datetime) -> dict[str, NextWindow]:
    found: dict[str, NextWindow] = {}
    for each in zone_schedules:
        for upcoming in find_upcoming_windows([each], now, 1):
            window = upcoming.window
            mine = NextWindow(each.configuration.name, each.schedule.zone, window.start, window.end)
            for name in each.machines:
                if name not in found or mine.start < found[name].start:
                    found[name] = mine
    return found


def _list_configurations(zone_schedules: tuple[ZoneSchedule, ...]) -> dict[str, tuple[str, ...]]:
    found: dict[str, dict[str, None]] = {}
    for each in zone_schedules:
        for name in each.machines:
            found.setdefault(name, {})[each.configuration.name] = None
    return {name: tuple(names) for name, names in found.items()}
