"""Zone schedules: the windows of a configuration in one zone, with its machines in that zone."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from datetime import datetime

from deployments.configuration.inventories import Inventories
from deployments.configuration.model import Configuration, Configurations
from flows.freezes.time_values import MACHINE_ZONE
from inventory.errors import InventoryError
from inventory.machine import Inventory
from tasks.rules.calendar.freezes import Freeze, find_freeze
from tasks.rules.calendar.schedule import Occurrence, Schedule, find_occurrences


@dataclass(frozen=True, slots=True)
class ZoneSchedule:
    """The windows of one configuration in one zone.

    Attributes:
        configuration: the configuration.
        schedule: the windows.
        freezes: freezes that cancel windows.
        machines: names of the machines; empty if they are unknown.
        inventory: the inventory of the machines; None if it can't be read.
    """

    configuration: Configuration
    schedule: Schedule
    freezes: tuple[Freeze, ...]
    machines: tuple[str, ...]
    inventory: Inventory | None = field(default=None, compare=False, repr=False)

    def find_windows(self, since: datetime, until: datetime) -> list[Occurrence]:
        """Return the windows between two moments, without those that a freeze cancels."""
        windows = find_occurrences(self.schedule, since, until)
        return [window for window in windows if find_freeze(window, self.freezes) is None]


def build_zone_schedules(configurations: Configurations, inventories: Inventories) -> tuple[ZoneSchedule, ...]:
    """Return the zone schedules of the enabled configurations.

    A configuration with each machine's own zone has none if its machines are unknown.
    """
    return _build_schedules(configurations.enabled_configurations, inventories)


def build_disabled_schedules(configurations: Configurations, inventories: Inventories) -> tuple[ZoneSchedule, ...]:
    """Return the zone schedules of the disabled configurations: their windows don't open, but past ones did."""
    return _build_schedules([one for one in configurations.all_configurations if not one.is_enabled], inventories)


def _build_schedules(configurations: Iterable[Configuration], inventories: Inventories) -> tuple[ZoneSchedule, ...]:
    return tuple(
        configuration_schedule
        for one in configurations
        for configuration_schedule in _build_configuration_schedules(one, inventories)
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
