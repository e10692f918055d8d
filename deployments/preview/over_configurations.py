"""Which configurations are over: their last window has ended, so they patch nothing any more."""

from collections.abc import Iterable, Sequence
from datetime import datetime

from deployments.configuration.inventories import Inventories
from deployments.configuration.model import Configuration, Configurations
from deployments.preview.zone_schedules import ZoneSchedule
from flows.freezes.time_values import MACHINE_ZONE
from inventory.errors import InventoryError
from tasks.rules.calendar.schedule import has_window_left


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
    """Return whether no schedule patches anything any more, because all windows are over.

    Args:
        configurations: all configurations.
        over: see ``list_over``.
    """
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
    left: dict[str, bool] = {}
    for zone_schedule in zone_schedules:
        name = zone_schedule.configuration.name
        left[name] = left.get(name, False) or has_window_left(zone_schedule.schedule, now)
    return tuple(sorted(name for name, has_left in left.items() if not has_left))
