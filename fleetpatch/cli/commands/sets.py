"""sets and sets release: who of the machine sets is out of service, and that people have brought a member back."""

from collections.abc import Collection
from contextlib import suppress
from pathlib import Path
from typing import Annotated

import typer

from fleetpatch.cli.app import InventoryOption, JsonOption, MachineArgument, RecordsOption, app
from fleetpatch.cli.runtime.acting_command import ActingCommand
from fleetpatch.cli.runtime.output import ask, can_ask, print_json, print_to_stderr, print_unwrapped
from flows.ports.caller import Caller
from inventory.errors import FleetpatchError
from inventory.files.problems import did_you_mean
from tasks.domain.errors import RequestError

sets_app = typer.Typer(help="Show machine sets, and who of them is out of service.")
app.add_typer(sets_app, name="sets", rich_help_panel="Look")

YesOption = Annotated[bool, typer.Option("--yes", "-y", help="Do not ask before it is recorded.")]


@sets_app.callback(invoke_without_command=True)
def show_sets(
    context: typer.Context,
    inventory: InventoryOption = None,
    records: RecordsOption = None,
    as_json: JsonOption = False,
) -> None:
    """List the machine sets: members, limits, and who is out of service since when, by which run and why."""
    if context.invoked_subcommand is None:
        _show(inventory, records, as_json=as_json)


def _show(inventory: Path | None, records: str | None, *, as_json: bool) -> None:
    from fleetpatch.cli.views.machine_sets import build_sets_json, print_sets
    from inventory.loader import find_inventory, load_inventory
    from tasks.records.set_slots import SqlSetSlots
    from tasks.records.setup import open_records

    loaded_inventory = load_inventory(find_inventory(inventory))
    with open_records(records) as database:
        slots = SqlSetSlots(database.database).find()
    if as_json:
        print_json(build_sets_json(loaded_inventory, slots))
    else:
        print_sets(loaded_inventory, slots)


@sets_app.command("release", cls=ActingCommand)
def release(
    machine: MachineArgument,
    yes: YesOption = False,
    records: RecordsOption = None,
    as_json: JsonOption = False,
) -> None:
    """Record that you have brought back a member that a run left drained. Refused while that run is not over."""
    from fleetpatch.cli.views.machine_sets import build_slots_json, print_slots
    from flows.recovery.releases import release_member, require_releasable
    from tasks.domain.protocols.clock import SystemClock
    from tasks.records.queries.history import History
    from tasks.records.set_slots import SqlSetSlots
    from tasks.records.setup import open_records

    is_released = False
    with open_records(records) as database:
        all_slots = SqlSetSlots(database.database).find()
        slots = [slot for slot in all_slots if slot.machine == machine]
        if not slots:
            _require_known(machine, {slot.machine for slot in all_slots}, History(database).read_known_machines())
        if not as_json:
            if slots:
                print_slots(slots)
            else:
                print_unwrapped(f"No run has {machine} out of service.")
        if slots:
            require_releasable(slots, database.leases)
            is_released = yes or _confirm(machine)
            if is_released:
                release_member(slots, database, Caller(records_url=records), SystemClock())
            print_to_stderr(f"{machine} counts as in service." if is_released else "Nothing was done.")
    if as_json:
        print_json({"machineName": machine, "released": is_released, "slots": build_slots_json(slots)})


def _require_known(machine: str, out_of_service: Collection[str], recorded: Collection[str]) -> None:
    """Raise an error if nobody knows a machine: a typing error would leave the right one out of service.

    Raises:
        RequestError: neither the records nor the inventory have it.
    """
    from inventory.loader import find_inventory, load_inventory

    with suppress(FleetpatchError):  # without an inventory, the records alone tell
        recorded = {*recorded, *(each.name for each in load_inventory(find_inventory(None)).machines)}
    if machine not in recorded:
        hint = f"{did_you_mean(machine, out_of_service or recorded)}`fleetpatch sets` shows who is out of service."
        raise RequestError(f"neither the records nor the inventory have a machine {machine!r}", hint=hint)


def _confirm(machine: str) -> bool:
    """Ask the person at the terminal.

    Raises:
        RequestError: there is no terminal.
    """
    if not can_ask():
        raise RequestError(
            f"recording that {machine} is back needs a confirmation, and there is no terminal", hint="Add --yes."
        )
    return ask(f"Does {machine} serve again, and get requests?")
