"""Finds the jump hosts that lead to a machine, in order."""

from inventory.errors import InventoryError
from inventory.machine import Inventory, Machine, TransportKind


def find_route(machine: Machine, inventory: Inventory) -> tuple[Machine, ...]:
    """Return the jump hosts of a machine, nearest first. A jump host may have jump hosts itself.

    Raises:
        InventoryError: a jump host is not in the inventory, goes through itself, or is not reached by SSH.
    """
    return _find_hops(machine, inventory, (machine.name,))


def _find_hops(machine: Machine, inventory: Inventory, seen: tuple[str, ...]) -> tuple[Machine, ...]:
    hops: list[Machine] = []
    for position, name in enumerate(machine.jump):
        if name in seen or name in {hop.name for hop in hops}:
            path = " → ".join((*seen, name))
            raise InventoryError(f"its jump hosts go round in a circle: {path}", machine=seen[0], key="jump")
        try:
            hop = inventory.find_machine(name)
        except KeyError:
            raise InventoryError(
                f"its jump host '{name}' is not in the inventory", machine=seen[0], key="jump", file=inventory.source
            ) from None
        if hop.transport is not TransportKind.SSH:
            raise InventoryError(f"its jump host '{name}' is not reached by SSH", machine=seen[0], key="jump")
        if position == 0:  # only the first of a list can have its own route; the others are behind it
            hops += _find_hops(hop, inventory, (*seen, name))
        hops.append(hop)
    return tuple(hops)
