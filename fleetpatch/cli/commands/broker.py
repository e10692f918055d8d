"""broker: print what installs, on one machine, a program that runs as root only what this controller has signed."""

import sys
from typing import Annotated

import typer

from fleetpatch.cli.app import InventoryOption, MachineArgument, app
from inventory.name_lists import format_count


@app.command("broker", rich_help_panel="Set up")
def print_installer(
    machine: MachineArgument,
    user: Annotated[
        str, typer.Option("--user", help="The login that may call it. Default: the user in the inventory.")
    ] = "",
    inventory: InventoryOption = None,
) -> None:
    """Print a script that installs the broker on a machine. Read it, and run it there as root."""
    from fleetpatch.cli.runtime.machine_selection import load_machines_in_scope
    from tasks.domain.errors import RequestError
    from tasks.machines.transport.broker.signing import build_installer

    machines = load_machines_in_scope(inventory, machine)[1]
    login = user or (machines[0].user or "" if len(machines) == 1 else "")
    if len(machines) != 1 or not login:
        raise RequestError(
            f"{machine!r} names {format_count(len(machines), 'machine')}, and no login"
            if not login
            else f"{machine!r} is not one machine",
            hint="Each machine has its own broker. Name one machine, and its login with --user.",
        )
    sys.stdout.write(build_installer(machines[0].name, login))
