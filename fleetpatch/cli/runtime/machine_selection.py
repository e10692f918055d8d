"""Loads the inventory, and selects the machines in a scope."""

from pathlib import Path

from fleetpatch.cli.runtime.output import print_to_stderr
from inventory.errors import FleetpatchError
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


def load_inventory_if_any(path: Path | None, *, is_required: bool) -> Inventory | None:
    """Return the inventory. One that is neither named nor required may fail with a message, and is None then."""
    try:
        return load_inventory(find_inventory(path))
    except FleetpatchError as error:
        if path is not None or is_required:
            raise
        print_to_stderr(f"without the inventory: {error.message}")
        return None
