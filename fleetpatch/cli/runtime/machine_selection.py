"""Loads the inventory, selects the machines in a scope, and opens the ports to them."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from fleetpatch.cli.runtime.output import print_to_stderr
from fleetpatch.cli.runtime.progress import build_display
from inventory.errors import FleetpatchError
from inventory.loader import find_inventory, load_inventory
from inventory.machine import Inventory, Machine
from inventory.scope import Scope

if TYPE_CHECKING:
    from flows.ports.ports import Ports


def load_machines_in_scope(inventory: Path | None, scope: str) -> tuple[Inventory, tuple[Machine, ...]]:
    """Return the inventory, and the machines in a scope of it.

    Raises:
        InventoryError: either is not valid, or the scope selects no machine.
    """
    loaded_inventory = load_inventory(find_inventory(inventory))
    return loaded_inventory, Scope.parse(scope).select_machines(loaded_inventory)


def load_inventory_or_warn(path: Path | None, *, is_required: bool) -> Inventory | None:
    """Return the inventory. One that is neither named nor required may fail with a message, and is None then."""
    try:
        return load_inventory(find_inventory(path))
    except FleetpatchError as error:
        if path is not None or is_required:
            raise
        print_to_stderr(f"without the inventory: {error.message}")
        return None


@contextmanager
def open_machines(
    machines: Sequence[Machine], inventory: Path | None, scope: str, records: str | None, title: str
) -> "Iterator[tuple[Ports, list[Machine]]]":
    """Give ports to reach machines of a scope, with a progress display of them, and these machines of the ports."""
    from flows.composition import open_ports
    from flows.ports.caller import Caller
    from flows.request.read_requests import AssessRequest

    names = [machine.name for machine in machines]
    request = AssessRequest(scope=scope, inventory=inventory)
    with (
        build_display(names, None, title) as listener,
        open_ports(request, Caller(listener=listener, records_url=records)) as ports,
    ):
        in_scope = Scope.parse(scope).select_machines(ports.inventory)
        yield ports, [machine for machine in in_scope if machine.name in set(names)]
