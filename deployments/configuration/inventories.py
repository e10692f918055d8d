"""Loads the inventories that configurations name, each one once."""

from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from deployments.configuration.model import Configuration, Configurations
from inventory.errors import FleetpatchError, InventoryError
from inventory.loader import find_inventory, load_inventory
from inventory.machine import Inventory, Machine


@dataclass(frozen=True, slots=True)
class Inventories:
    """Inventories by the path in the configurations.

    Attributes:
        by_path: the loaded inventories; None is the key of the default inventory of all commands.
        errors: the errors of the others.
    """

    by_path: dict[Path | None, Inventory] = field(default_factory=dict)
    errors: dict[Path | None, FleetpatchError] = field(default_factory=dict)
    _machines_by_scope: dict[tuple[Path | None, str], tuple[Machine, ...] | InventoryError] = field(
        default_factory=dict
    )

    def get_inventory(self, configuration: Configuration) -> Inventory | None:
        """Return the inventory of a configuration, or None if it can't be read."""
        return self.by_path.get(configuration.inventory_path)

    def select_machines(self, configuration: Configuration) -> tuple[Machine, ...]:
        """Return the machines of a configuration; none if its inventory can't be read.

        The result is cached, because checks ask for the same scope many times and a fleet may be large.

        Raises:
            InventoryError: no machine matches, or no machine has a tag of the scope.
        """
        key = (configuration.inventory_path, configuration.scope)
        if key not in self._machines_by_scope:
            inventory = self.get_inventory(configuration)
            try:
                self._machines_by_scope[key] = configuration.select_machines(inventory) if inventory is not None else ()
            except InventoryError as error:
                self._machines_by_scope[key] = error
        machines = self._machines_by_scope[key]
        if isinstance(machines, InventoryError):
            raise machines
        return machines

    def iterate_machines(self) -> Iterator[Machine]:
        """Yield each machine of each inventory."""
        for inventory in self.by_path.values():
            yield from inventory.machines


def load_inventories(configurations: Configurations, explicit: Path | None = None) -> Inventories:
    """Load the inventories that configurations name.

    Args:
        configurations: the configurations whose machines are needed.
        explicit: replaces the default inventory.
    """
    inventories = Inventories()
    paths = [one.inventory_path for one in configurations.all_configurations]
    paths += [configurations.automatic.inventory] if configurations.automatic is not None else []
    for path in dict.fromkeys(paths or [None]):  # freezes alone hold for the machines of every command
        try:
            inventories.by_path[path] = load_inventory(find_inventory(path or explicit))
        except FleetpatchError as error:
            inventories.errors[path] = error
    return inventories
