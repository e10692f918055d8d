"""Selects the machines of a run from the inventory."""

from collections.abc import Sequence

from flows.request.assess_request import AssessRequest
from flows.request.patch_request import PatchRequest
from inventory.errors import EmptyScopeError
from inventory.machine import Inventory, Machine
from inventory.scope import Scope


def select_machines(request: PatchRequest | AssessRequest, inventory: Inventory) -> Sequence[Machine]:
    """Return the machines of the scope, or those of them that the request names in ``only_machines``.

    A named machine that has left the inventory or the scope meanwhile is not an error: the request may be older.

    Raises:
        InventoryError: no machine is left.
    """
    machines = Scope.parse(request.scope).select_machines(inventory)
    if not request.only_machines:
        return machines
    names = frozenset(request.only_machines)
    selected = [machine for machine in machines if machine.name in names]
    if not selected:
        raise EmptyScopeError(
            f"none of the machines in `only_machines` ({len(names)}) is in the scope {request.scope!r}",
            hint="Correct the names or the scope, or leave `only_machines` out.",
        )
    return selected
