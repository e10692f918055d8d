"""What the key `automatic` of a configuration file means for its fleet, in words and figures. Pure."""

from flows.request.automatic_request import AutomaticRequest
from inventory.errors import InventoryError
from inventory.machine import Inventory, PatchOwner
from inventory.scope import Scope


def describe_off_peak(request: AutomaticRequest) -> str:
    """Return when machines are patched: "22:00 to 06:00 by each machine's clock"."""
    start, end = request.off_peak.start, request.off_peak.end
    hours = "all day" if start == end else f"{start:%H:%M} to {end:%H:%M}"
    return f"{hours} by each machine's clock"


def count_managed_machines(request: AutomaticRequest, inventory: Inventory | None) -> int | None:
    """Return how many machines are patched automatically; None: it is unknown."""
    if inventory is None:
        return None
    try:
        machines = Scope.parse(request.scope).select_machines(inventory)
    except InventoryError:
        return None
    return sum(machine.owner is PatchOwner.MANAGED for machine in machines)
