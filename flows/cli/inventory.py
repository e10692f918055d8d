"""inventory check, list and schema: is the file right, and what does it say?"""

from pathlib import Path
from typing import Annotated

import typer

from flows.cli.app import app
from flows.cli.options import EVERYTHING, InventoryOption, JsonOption, ScopeArgument, some_path

group = typer.Typer(help="The inventory: check it, list it, describe it to an editor.", no_args_is_help=True)
app.add_typer(group, name="inventory", rich_help_panel="Set up")


@group.command("check")
def check(
    file: Annotated[
        Path | None,
        typer.Argument(metavar="FILE", parser=some_path, help="File or folder; else what other verbs would use."),
    ] = None,
    inventory: InventoryOption = None,
    as_json: JsonOption = False,
) -> None:
    """Read an inventory and say everything that is wrong with it."""
    from flows.cli.exits import Code
    from flows.cli.inventory_view import check_document, tell_checked, tell_problems
    from flows.cli.screen import print_json
    from inventory.errors import InvalidInventory
    from inventory.load import find_inventory, load_inventory

    place = find_inventory(file or inventory)
    try:
        found = load_inventory(place)
    except InvalidInventory as faulty:
        if as_json:
            print_json(check_document(place, None, faulty.problems))
        else:
            tell_problems(place, faulty.problems)
        raise typer.Exit(int(Code.USAGE)) from faulty
    if as_json:
        print_json(check_document(place, found, ()))
    else:
        tell_checked(place, found)


@group.command("list")
def listing(
    scope: ScopeArgument = EVERYTHING,
    inventory: InventoryOption = None,
    as_json: JsonOption = False,
) -> None:
    """List the machines of a scope as the inventory has them."""
    from flows.cli.asking import machines_of
    from flows.cli.inventory_view import list_document, tell_list
    from flows.cli.screen import print_json

    found, machines = machines_of(inventory, scope)
    if as_json:
        print_json(list_document(found, machines))
    else:
        tell_list(machines)


@group.command("schema")
def schema() -> None:
    """Print the JSON Schema of fleet.yaml, for editors."""
    from flows.cli.screen import print_json
    from inventory.schema import json_schema

    print_json(json_schema())
