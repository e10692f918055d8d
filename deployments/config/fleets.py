"""The machines behind configurations: each inventory that they name is read once."""

from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from deployments.config.configuration import Configuration, Configurations
from inventory.errors import FleetpatchError, InventoryError
from inventory.load import find_inventory, load_inventory
from inventory.machine import Inventory, Machine


@dataclass(frozen=True, slots=True)
class Fleets:
    """Inventories by the path that configurations name.

    Attributes:
        by_path: what could be read; None is the key of the one that every command finds.
        faults: why the others couldn't be.
    """

    by_path: dict[Path | None, Inventory] = field(default_factory=dict)
    faults: dict[Path | None, FleetpatchError] = field(default_factory=dict)
    _selected: dict[tuple[Path | None, str], tuple[Machine, ...] | InventoryError] = field(default_factory=dict)

    def of(self, configuration: Configuration) -> Inventory | None:
        """Return the inventory of a configuration, or None when it can't be read."""
        return self.by_path.get(configuration.inventory)

    def machines_of(self, configuration: Configuration) -> tuple[Machine, ...]:
        """Return the machines that a configuration is for; none where its inventory can't be read.

        A scope is looked for once: it is asked for again and again, and a fleet may be large.

        Raises:
            InventoryError: there is none, or no machine has the tag that the scope asks for.
        """
        key = (configuration.inventory, configuration.scope)
        if key not in self._selected:
            inventory = self.of(configuration)
            try:
                self._selected[key] = configuration.machines(inventory) if inventory is not None else ()
            except InventoryError as error:
                self._selected[key] = error
        found = self._selected[key]
        if isinstance(found, InventoryError):
            raise found
        return found

    def machines(self) -> Iterator[Machine]:
        """Give every machine of every inventory."""
        for inventory in self.by_path.values():
            yield from inventory.machines


def read_fleets(configurations: Configurations, explicit: Path | None = None) -> Fleets:
    """Read the inventories that configurations name.

    Args:
        configurations: those whose machines are wanted.
        explicit: used in place of the one that every command finds.
    """
    fleets = Fleets()
    for path in dict.fromkeys(one.inventory for one in configurations.every):
        try:
            fleets.by_path[path] = load_inventory(find_inventory(path or explicit))
        except FleetpatchError as error:
            fleets.faults[path] = error
    return fleets
