"""inventory and sets: check an inventory, show its machines and machine sets, and who of these is out of service."""

from collections.abc import Collection
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Annotated

import typer

from fleetpatch.cli.app import (
    ALL_MACHINES,
    InventoryOption,
    JsonOption,
    MachineArgument,
    RecordsOption,
    ScopeArgument,
    YesOption,
    app,
    parse_path,
)
from fleetpatch.cli.runtime.acting_command import ActingCommand
from fleetpatch.cli.runtime.exit_codes import ExitCode
from fleetpatch.cli.runtime.output import (
    confirm,
    print_json,
    print_json_or_text,
    print_to_stderr,
    print_unwrapped,
    shorten_list,
)
from flows.ports.caller import Caller
from inventory.errors import FleetpatchError, InvalidInventory
from inventory.files.problems import did_you_mean
from inventory.machine import PatchOwner
from inventory.name_lists import format_count
from tasks.domain.errors import RequestError

inventory_app = typer.Typer(help="Check the inventory, list its machines, print its JSON Schema.", no_args_is_help=True)
app.add_typer(inventory_app, name="inventory", rich_help_panel="Set up")


@inventory_app.command("check")
def check_inventory(
    file: Annotated[
        Path | None,
        typer.Argument(
            metavar="FILE", parser=parse_path, help="File or folder. Default: the inventory that other verbs use."
        ),
    ] = None,
    inventory: InventoryOption = None,
    providers: Annotated[
        bool,
        typer.Option("--providers", help="Also ask machines and their providers whether they mean the same machines."),
    ] = False,
    records: RecordsOption = None,
    as_json: JsonOption = False,
) -> None:
    """Print every fault of an inventory, with line and remedy."""
    from fleetpatch.cli.views.inventory import (
        build_faulty_inventory_json,
        build_valid_inventory_json,
        print_problems,
        print_valid_inventory,
    )
    from inventory.loader import find_inventory, load_inventory

    path = find_inventory(file or inventory)
    try:
        loaded_inventory = load_inventory(path)
    except InvalidInventory as faulty:
        print_json_or_text(as_json, build_faulty_inventory_json, print_problems, path, faulty.problems)
        raise typer.Exit(int(ExitCode.BAD_INPUT)) from faulty
    if not providers:
        print_json_or_text(as_json, build_valid_inventory_json, print_valid_inventory, path, loaded_inventory)
        return
    from fleetpatch.cli.runtime.machine_selection import open_machines
    from fleetpatch.cli.runtime.row_table import build_list_json
    from fleetpatch.cli.views.doctor import MACHINE_FACTS, print_findings, to_doctor_exit_code
    from flows.doctor import check_identities

    machines = [machine for machine in loaded_inventory.machines if machine.provider]
    with open_machines(machines, path, "*", records, "Providers") as (ports, opened):
        readiness = check_identities(opened, ports, at_once=20)
    if as_json:
        document = build_valid_inventory_json(path, loaded_inventory)
        print_json({**document, "providers": build_list_json(MACHINE_FACTS, readiness)})
    else:
        print_valid_inventory(path, loaded_inventory)
        print_findings([replace(finding, check=one.machine) for one in readiness for finding in one.findings])
        if not readiness:
            print_unwrapped("No machine has a provider.")
    raise typer.Exit(int(to_doctor_exit_code((), readiness) if readiness else ExitCode.WARNINGS))


@inventory_app.command("list")
def list_inventory_machines(
    scope: ScopeArgument = ALL_MACHINES, inventory: InventoryOption = None, as_json: JsonOption = False
) -> None:
    """List the machines of a scope, with their entries in the inventory."""
    from fleetpatch.cli.runtime.machine_selection import load_machines_in_scope
    from fleetpatch.cli.views.inventory import build_inventory_list_json, print_inventory_machines

    loaded_inventory, machines = load_machines_in_scope(inventory, scope)
    print_json_or_text(as_json, build_inventory_list_json, print_inventory_machines, loaded_inventory, machines)


@inventory_app.command("schema")
def print_inventory_schema() -> None:
    """Print the JSON Schema of fleet.yaml, for editors."""
    from inventory.schema.entries import build_json_schema

    print_json(build_json_schema())


@inventory_app.command("owner", cls=ActingCommand)
def change_owner(
    scope: ScopeArgument,
    owner: Annotated[PatchOwner, typer.Argument(metavar="OWNER", help=f"One of: {', '.join(PatchOwner)}.")],
    yes: YesOption = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Print the change of the files as a diff.")] = False,
    inventory: InventoryOption = None,
    records: RecordsOption = None,
    as_json: JsonOption = False,
) -> None:
    """Write into the inventory who patches machines. Nothing else in its files changes."""
    from fleetpatch.cli.runtime.exit_codes import to_act_exit_code
    from fleetpatch.cli.runtime.machine_selection import load_machines_in_scope
    from fleetpatch.cli.views.inventory import build_owner_change_json, print_owner_change
    from flows.owner_change import OwnerOrder, change_owners
    from flows.ports.caller import read_os_actor
    from inventory.loader import find_inventory
    from tasks.domain.protocols.clock import SystemClock
    from tasks.domain.states import ChangeState
    from tasks.records.audit.deployed_policies import read_deployed_policies
    from tasks.records.audit.log import SqlAuditLog
    from tasks.records.setup import open_records

    machines = load_machines_in_scope(inventory, scope)[1]
    names = tuple(machine.name for machine in machines)
    whom = f"{format_count(len(names), 'machine')} ({', '.join(shorten_list(names, MAX_NAMES))})"
    question = f"Write `owner: {owner}` into the inventory, for {whom}?"
    if not (yes or dry_run or confirm(question, "inventory owner changes files and", "Add --yes, or --dry-run.")):
        return
    with open_records(records) as database:
        log = SqlAuditLog(database.database)
        order = OwnerOrder(
            find_inventory(inventory), names, owner, read_os_actor(), log.append, SystemClock(), dry_run=dry_run
        )
        deployed = () if dry_run else read_deployed_policies(log)
        report = change_owners(replace(order, deployed=deployed))
    print_json_or_text(as_json, build_owner_change_json, print_owner_change, report, dry_run=dry_run)
    results = [row.result for row in report.rows]
    raise typer.Exit(int(to_act_exit_code(results, [ChangeState.FAILED], ChangeState.REFUSED)))


MAX_NAMES = 5
sets_app = typer.Typer(help="Show machine sets, and who of them is out of service.")
app.add_typer(sets_app, name="sets", rich_help_panel="Look")


@sets_app.callback(invoke_without_command=True)
def show_sets(
    context: typer.Context,
    inventory: InventoryOption = None,
    records: RecordsOption = None,
    as_json: JsonOption = False,
) -> None:
    """List the machine sets: members, limits, and who is out of service since when, by which run and why."""
    if context.invoked_subcommand is not None:
        return
    from fleetpatch.cli.views.inventory import build_sets_json, print_sets
    from inventory.loader import find_inventory, load_inventory
    from tasks.records.set_slots import SqlSetSlots
    from tasks.records.setup import open_records

    loaded_inventory = load_inventory(find_inventory(inventory))
    with open_records(records) as database:
        slots = SqlSetSlots(database.database).find()
    print_json_or_text(as_json, build_sets_json, print_sets, loaded_inventory, slots)


@sets_app.command("release", cls=ActingCommand)
def release_set_member(
    machine: MachineArgument, yes: YesOption = False, records: RecordsOption = None, as_json: JsonOption = False
) -> None:
    """Record that you have brought back a member that a run left drained. Refused while that run is not over."""
    from fleetpatch.cli.runtime.row_table import build_list_json
    from fleetpatch.cli.views.inventory import SLOT_FACTS, print_set_slots
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
        if not as_json and slots:
            print_set_slots(slots)
        elif not as_json:
            print_unwrapped(f"No run has {machine} out of service.")
        if slots:
            require_releasable(slots, database.leases)
            question = f"Does {machine} serve again, and get requests?"
            is_released = yes or confirm(question, f"recording that {machine} is back")
            if is_released:
                release_member(slots, database, Caller(records_url=records), SystemClock())
                print_to_stderr(f"{machine} counts as in service.")
    if as_json:
        print_json({"machineName": machine, "released": is_released, "slots": build_list_json(SLOT_FACTS, slots)})


def _require_known(machine: str, out_of_service: Collection[str], recorded: Collection[str]) -> None:
    """Raise RequestError for an unknown machine: after a typing error, the right one would stay out of service."""
    from inventory.loader import find_inventory, load_inventory

    with suppress(FleetpatchError):  # without an inventory, the records alone tell
        recorded = {
            *recorded,
            *(inventory_machine.name for inventory_machine in load_inventory(find_inventory(None)).machines),
        }
    if machine not in recorded:
        hint = f"{did_you_mean(machine, out_of_service or recorded)}`fleetpatch sets` shows who is out of service."
        raise RequestError(f"neither the records nor the inventory have a machine {machine!r}", hint=hint)
