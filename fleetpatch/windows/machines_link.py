"""Expresses the machines of a calendar's entry as a scope, for the link to their list. Pure."""

from collections.abc import Iterable

from deployments.preview.zone_schedules import ZoneSchedule
from fleetpatch.machines.list_scope import find_exact_scope
from inventory.machine import Inventory


def find_window_scope(
    schedules: Iterable[ZoneSchedule], inventory: Inventory | None, configuration: str, zones: frozenset[str]
) -> str:
    """Return a scope that selects just the machines of windows in the inventory of the pages.

    Args:
        schedules: the windows of all configurations.
        inventory: the inventory that lists of machines show.
        configuration: the name of the configuration of the windows.
        zones: the time zones of the windows.

    Returns:
        The scope; "" if there is none, because the machines are in another inventory or not known any more.
    """
    mine = [schedule for schedule in schedules if schedule.configuration.name == configuration]
    chosen = [zone_schedule for zone_schedule in mine if zone_schedule.schedule.zone in zones]
    if not chosen:
        return ""
    found = chosen[0].configuration
    requests = " or ".join(found.build_request(zone_schedule.schedule.zone).scope for zone_schedule in chosen)
    scope = found.scope if len(chosen) == len(mine) else requests
    if found.inventory_path is None:
        return scope
    return find_exact_scope([scope], {name for zone_schedule in chosen for name in zone_schedule.machines}, inventory)
