"""Loads the inventory, and selects the machines in a scope."""

from pathlib import Path

from inventory.loader import find_inventory, load_inventory
from inventory.machine import Inventory, Machine
from inventory.scope import Scope


def load_machines_in_scope(inventory: Path | None, scope: str) -> tuple[Inventory, tuple[Machine, ...]]:
    """Return the inventory, and the machines in a scope of it.

    Raises:
        InventoryError: either is not valid, or the scope selects no machine.
    """
    loaded_inventory = load_inventory(find_inventory(inventory))
    return loaded_inventory, Scope.parse(scope).select_machines(loaded_inventory)
