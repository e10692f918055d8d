"""The machines behind configurations: each inventory that they name is read once."""

from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from deployments.configuration.model import Configuration, Configurations
from inventory.errors import FleetpatchError, InventoryError
from inventory.loader import find_inventory, load_inventory
from inventory.machine import Inventory, Machine


@dataclass(frozen=True, slots=True)
class Inventories:
    """Inventories by the path that configurations name.

    Attributes:
        by_path: what could be read; None is the key of the one that every command finds.
        errors: why the others couldn't be.
    """

    by_path: dict[Path | None, Inventory] = field(default_factory=dict)
    errors: dict[Path | None, FleetpatchError] = field(default_factory=dict)
    _machines_by_scope: dict[tuple[Path | None, str], tuple[Machine, ...] | InventoryError] = field(
        default_factory=dict
    )

    def get_inventory(self, configuration: Configuration) -> Inventory | None:
        """Return the inventory of a configuration, or None when it can't be read."""
        return self.by_path.get(configuration.inventory_path)

    def select_machines(self, configuration: Configuration) -> tuple[Machine, ...]:
        """Return the machines that a configuration is for; none where its inventory can't be read.

        A scope is looked for once: it is asked for again and again, and a fleet may be large.

        Raises:
            InventoryError: there is none, or no machine has the tag that the scope asks for.
        """
        key = (configuration.inventory_path, configuration.scope)
        if key not in self._machines_by_scope:
            inventory = self.get_inventory(configuration)
            try:
                self._machines_by_scope[key] = configuration.select_machines(inventory) if inventory is not None else ()
            except InventoryError as error:
                self._machines_by_scope[key] = error
        found = self._machines_by_scope[key]
        if isinstance(found, InventoryError):
            raise found
        return found

    def iterate_machines(self) -> Iterator[Machine]:
        """Give every machine of every inventory."""
        for inventory in self.by_path.values():
            yield from inventory.machines


def load_inventories(configurations: Configurations, explicit: Path | None = None) -> Inventories:
    """Read the inventories that configurations name.

    Args:
        configurations: those whose machines are wanted.
        explicit: used in place of the one that every command finds.
    """
    inventories = Inventories()
    for path in dict.fromkeys(one.inventory_path for one in configurations.all_configurations):
        try:
            inventories.by_path[path] = load_inventory(find_inventory(path or explicit))
        except FleetpatchError as error:
            inventories.errors[path] = error
    return inventories
