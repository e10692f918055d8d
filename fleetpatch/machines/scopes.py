"""Expresses machines as a scope, for links that act on them: one machine, a filtered list, those of a window. Pure."""

from collections.abc import Iterable, Sequence
from typing import Final

from deployments.preview.zone_schedules import ZoneSchedule
from fleetpatch.machines.machine_list import NO_VALUE, MachineFilters
from inventory.errors import InventoryError
from inventory.machine import Inventory
from inventory.scope import Scope
from tasks.domain.rows.machines import MachineRow

MAX_SCOPE_LENGTH: Final = 1500
"""Characters of a scope in a link. A request may have 2000, but a URL writes some characters as three."""

_KEYS: Final = {"environment": "env", "location": "location", "owner": "owner"}
"""The filters that a scope has as well, and their keys."""


def build_machine_scope(name: str, inventory: Inventory | None) -> str:
    """Return the scope of one machine; "" if there is none, because its name means something else in a scope."""
    return find_exact_scope([f"name={name}"], {name}, inventory)


def build_list_scope(filters: MachineFilters, machines: Sequence[MachineRow], inventory: Inventory | None) -> str:
    """Return a scope that selects exactly the machines of a list.

    The filters are written as terms, so that the link stays short and says what it means. Where a scope has no such
    term (the state of a machine, a part of its name), the scope names the machines.

    ``machines``: the machines that they leave.

    Returns:
        The scope; "" if no scope that fits a link selects exactly these machines.
    """
    if not machines:
        return ""
    names = [machine.name for machine in machines]
    return find_exact_scope([_write_terms(filters), f"name={'|'.join(names)}"], set(names), inventory)


def _write_terms(filters: MachineFilters) -> str:
    """Return the filters as a scope; "" if one of them is none."""
    given_filters = filters.given
    scope = given_filters.pop("scope", "")
    if not set(given_filters) <= set(_KEYS):
        return ""
    terms = [
        f"!{_KEYS[name]}=*" if value == NO_VALUE else f"{_KEYS[name]}={value}" for name, value in given_filters.items()
    ]
    try:
        parts = str(Scope.parse(scope)).split(" or ") if scope else []
    except InventoryError:
        return ""
    if not terms:
        return " or ".join(parts) or "*"
    return " or ".join(",".join([part, *terms]) for part in parts) if parts else ",".join(terms)


def find_exact_scope(scopes: Sequence[str], names: set[str], inventory: Inventory | None) -> str:
    """Return the first scope that selects just these machines: a name or a place may contain a mask, or a comma."""
    if inventory is None:
        return ""
    for scope in scopes:
        if not scope or len(scope) > MAX_SCOPE_LENGTH:
            continue
        if scope == "*" and names == {machine.name for machine in inventory.machines}:
            return scope  # the list without filters, which is opened most: there is nothing to match
        try:
            selected = Scope.parse(scope).select_machines(inventory)
        except InventoryError:
            continue
        if {machine.name for machine in selected} == names:
            return scope
    return ""


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
    chosen_configuration = chosen[0].configuration
    requests = " or ".join(
        chosen_configuration.build_request(zone_schedule.schedule.zone).scope for zone_schedule in chosen
    )
    scope = chosen_configuration.scope if len(chosen) == len(mine) else requests
    if chosen_configuration.inventory_path is None:
        return scope
    return find_exact_scope([scope], {name for zone_schedule in chosen for name in zone_schedule.machines}, inventory)
