"""The selection of machines in a list with a box in each row, and what a form does with it."""

from collections.abc import Mapping, Sequence
from typing import Annotated, Final

from fastapi import Depends, Request

from fleetpatch.machines.machine_list import MachineFilters, filter_machines
from fleetpatch.machines.snapshot import FleetSnapshot
from fleetpatch.pages.patch import read_form
from inventory.name_lists import join_first_names
from tasks.domain.errors import RequestError

MAX_SELECTED: Final = 500
"""Machines of one form. More are a matter for the command, which takes a scope."""
MACHINE: Final = "machine"
WHOLE_LIST: Final = "all"
"""The box that selects all machines of the list, also those of its other parts."""

Form = Annotated[dict[str, list[str]], Depends(read_form)]


def read_value(values: Mapping[str, Sequence[str]], name: str) -> str:
    """Return the one value of a field; "" without it."""
    given = values.get(name, ())
    return given[0].strip() if given else ""


def read_selection(values: Mapping[str, Sequence[str]], snapshot: FleetSnapshot) -> tuple[str, ...]:
    """Return the names of the selected machines, in the order of the inventory.

    Raises:
        InventoryError: the scope of the list is not valid.
        RequestError: none is selected, too many are, or one is not in the inventory any more.
    """
    names = set(values.get(MACHINE, ()))
    if read_value(values, WHOLE_LIST):
        given = {name: read_value(values, name) for name in MachineFilters.__dataclass_fields__}
        names = {machine.name for machine in filter_machines(snapshot, MachineFilters(**given))}
    gone = sorted(names - snapshot.rows.keys())
    if gone:
        message = f"not in the inventory any more: {join_first_names(gone)}"
        raise RequestError(message, hint="Open the list again: they were renamed, moved or removed.")
    if not names:
        raise RequestError("no machine is selected", hint="Tick the machines, or the box for the whole list.")
    if len(names) > MAX_SELECTED:
        message = f"{len(names)} machines are selected, and {MAX_SELECTED} is the most"
        raise RequestError(message, hint="Filter the list, or use the command with a scope.")
    return tuple(name for name in snapshot.rows if name in names)


def list_filter_fields(request: Request) -> dict[str, str]:
    """Return the filters of a list's address, for hidden fields of its form."""
    names = MachineFilters.__dataclass_fields__
    return {name: value for name, value in request.query_params.items() if name in names and value.strip()}
