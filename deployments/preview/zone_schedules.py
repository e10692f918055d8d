"""Zone schedules: the windows of a configuration in one zone, with its machines in that zone."""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import field
from datetime import datetime

from deployments.configuration.model import Configuration, Configurations, Inventories
from flows.freezes.time_values import MACHINE_ZONE
from inventory.data_class import dataclass
from inventory.errors import InventoryError
from inventory.machine import Inventory
from tasks.rules.calendar.freezes import Freeze, find_freeze
from tasks.rules.calendar.schedule import Occurrence, Schedule, find_occurrences, has_window_left


@dataclass(frozen=True, slots=True)
class ZoneSchedule:
    """The windows of one configuration in one zone."""

    configuration: Configuration
    schedule: Schedule
    freezes: tuple[Freeze, ...]
    machines: tuple[str, ...]  # names of the machines; empty if they are unknown
    # The inventory of the machines; None if it can't be read.
    inventory: Inventory | None = field(default=None, compare=False, repr=False)

    def find_windows(self, since: datetime, until: datetime) -> list[Occurrence]:
        """Return the windows between two moments, without those that a freeze cancels."""
        windows = find_occurrences(self.schedule, since, until)
        return [window for window in windows if find_freeze(window, self.freezes) is None]


def build_zone_schedules(
    configurations: Configurations, inventories: Inventories, *, enabled: bool = True
) -> tuple[ZoneSchedule, ...]:
    """Return the zone schedules of the enabled or of the disabled configurations, whose windows opened in the past.

    A configuration with each machine's own zone has none if its machines are unknown.
    """
    return tuple(
        zone_schedule
        for configuration in configurations.all_configurations
        if configuration.is_enabled is enabled
        for zone_schedule in _build_configuration_schedules(configuration, inventories)
    )


def _build_configuration_schedules(configuration: Configuration, inventories: Inventories) -> Iterator[ZoneSchedule]:
    by_zone: dict[str, list[str]] = {} if configuration.zone == MACHINE_ZONE else {configuration.zone: []}
    try:
        machines = inventories.select_machines(configuration)
    except InventoryError:
        machines = ()  # checks/configuration_checks.py reports it
    for machine in machines:
        by_zone.setdefault(machine.zone if configuration.zone == MACHINE_ZONE else configuration.zone, []).append(
            machine.name
        )
    for zone, names in sorted(by_zone.items()):
        yield ZoneSchedule(
            configuration,
            configuration.build_schedule(zone),
            configuration.build_freezes(zone),
            tuple(names),
            inventories.get_inventory(configuration),
        )


def is_over(configuration: Configuration, inventories: Inventories, now: datetime) -> bool:
    """Return whether the last window of a configuration has ended, in each of its zones."""
    zones = find_known_zones(configuration, inventories)
    return not any(has_window_left(configuration.build_schedule(zone), now) for zone in zones)


def list_over(configurations: Configurations, inventories: Inventories, now: datetime) -> tuple[str, ...]:
    """Return the names of the enabled configurations whose windows are over."""
    return tuple(
        configuration.name
        for configuration in configurations.enabled_configurations
        if is_over(configuration, inventories, now)
    )


def is_all_over(configurations: Configurations, over: Sequence[str]) -> bool:
    """Return whether no schedule patches anything any more, because all windows are over (see ``list_over``)."""
    automatic = configurations.automatic
    is_automatic = automatic is not None and automatic.enabled
    return bool(over) and len(over) == len(configurations.enabled_configurations) and not is_automatic


def find_known_zones(configuration: Configuration, inventories: Inventories) -> tuple[str, ...]:
    """Return the zones of the configuration's windows. If its machines are unknown, return UTC for their zones."""
    if configuration.zone != MACHINE_ZONE:
        return (configuration.zone,)
    try:
        zones = {machine.zone for machine in inventories.select_machines(configuration)}
    except InventoryError:
        zones = set()  # another check reports that there are no machines
    return tuple(sorted(zones)) or ("UTC",)


def list_over_schedules(zone_schedules: Iterable[ZoneSchedule], now: datetime) -> tuple[str, ...]:
    """Return the names of the configurations whose last window has ended, in each of their zones."""
    has_windows_left: dict[str, bool] = {}
    for zone_schedule in zone_schedules:
        name = zone_schedule.configuration.name
        has_windows_left[name] = has_windows_left.get(name, False) or has_window_left(zone_schedule.schedule, now)
    return tuple(sorted(name for name, has_left in has_windows_left.items() if not has_left))
