"""Which machines a recorded run may change. Pure."""

from inventory.errors import EmptyScopeError, InventoryError
from inventory.machine import Inventory
from inventory.scope import Scope
from tasks.domain.model import RunInfo


def find_machines_of_run(run: RunInfo, inventory: Inventory) -> tuple[str, ...]:
    """Return the names of the machines that a run may change.

    A scope that can't be resolved any more could mean every machine.
    """
    try:
        names = tuple(machine.name for machine in Scope.parse(run.scope).select_machines(inventory))
    except EmptyScopeError:
        return ()
    except InventoryError:
        names = tuple(machine.name for machine in inventory.machines)
    only = run.request.get("only_machines")
    return tuple(name for name in names if name in only) if isinstance(only, list) and only else names
