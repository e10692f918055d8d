"""inventory check, list and schema: validate an inventory, and show its machines."""

from pathlib import Path
from typing import Annotated

import typer

from fleetpatch.cli.app import ALL_MACHINES, InventoryOption, JsonOption, ScopeArgument, app, parse_path
from fleetpatch.cli.runtime.exit_codes import ExitCode
from fleetpatch.cli.runtime.output import print_json
from inventory.errors import InvalidInventory

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
    as_json: JsonOption = False,
) -> None:
    """Print every fault of an inventory, with line and remedy."""
    from fleetpatch.cli.views.inventory import build_inventory_check_json, print_problems, print_valid_inventory
    from inventory.loader import find_inventory, load_inventory

    path = find_inventory(file or inventory)
    try:
        loaded_inventory = load_inventory(path)
    except InvalidInventory as faulty:
        if as_json:
            print_json(build_inventory_check_json(path, None, faulty.problems))
        else:
            print_problems(path, faulty.problems)
        raise typer.Exit(int(ExitCode.BAD_INPUT)) from faulty
    if as_json:
        print_json(build_inventory_check_json(path, loaded_inventory, ()))
    else:
        print_valid_inventory(path, loaded_inventory)


@inventory_app.command("list")
def list_inventory_machines(
    scope: ScopeArgument = ALL_MACHINES,
    inventory: InventoryOption = None,
    as_json: JsonOption = False,
) -> None:
    """List the machines of a scope, with their entries in the inventory."""
    from fleetpatch.cli.runtime.machine_selection import load_machines_in_scope
    from fleetpatch.cli.views.inventory import build_inventory_list_json, print_inventory_machines

    loaded_inventory, machines = load_machines_in_scope(inventory, scope)
    if as_json:
        print_json(build_inventory_list_json(loaded_inventory, machines))
    else:
        print_inventory_machines(machines)


@inventory_app.command("schema")
def print_inventory_schema() -> None:
    """Print the JSON Schema of fleet.yaml, for editors."""
    from inventory.schema.entries import build_json_schema

    print_json(build_json_schema())
