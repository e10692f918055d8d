"""deploy: put the maintenance configurations into Prefect, see what was changed there by hand, and mend it."""

import os
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from flows.cli.app import app
from flows.cli.options import InventoryOption, JsonOption, some_path

if TYPE_CHECKING:
    from collections.abc import Sequence

    from deployments.deploying.model import Change

ConfigurationsArgument = Annotated[
    Path | None,
    typer.Argument(
        metavar="PATH",
        parser=some_path,
        help="File or folder of configurations. Default: $FLEETPATCH_CONFIGURATIONS, ./configurations, or the user's.",
    ),
]


@app.command("deploy", rich_help_panel="Schedule")
def deploy(
    path: ConfigurationsArgument = None,
    inventory: InventoryOption = None,
    fleet: Annotated[
        str, typer.Option("--fleet", metavar="NAME", help="Names this set of configurations on its Prefect server.")
    ] = "default",
    pool: Annotated[str, typer.Option("--pool", metavar="NAME", help="Work pool whose workers do it.")] = "fleetpatch",
    check: Annotated[
        bool, typer.Option("--check", help="Only say what differs; exit code 3 when something does.")
    ] = False,
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Don't ask before changing anything.")] = False,
    prune: Annotated[bool, typer.Option("--prune/--no-prune", help="Remove what no configuration wants any more.")] = (
        True
    ),
    serve: Annotated[
        bool, typer.Option("--serve", help="Stay, and carry the runs out on this machine until stopped.")
    ] = False,
    as_json: JsonOption = False,
) -> None:
    """Put maintenance configurations into Prefect: deployments, schedules, work pool, automations."""
    os.environ.setdefault("DO_NOT_TRACK", "1")  # before Prefect is loaded, which else tells its makers so
    from prefect.settings import get_current_settings

    from deployments.cli import deploy_view as view
    from deployments.deploying.ahead import standings
    from deployments.deploying.deploy import RETRIES, checked_fleet, examine
    from deployments.deploying.worker import work
    from deployments.server.asking import client_of_server
    from flows.cli.exits import Code
    from flows.cli.screen import print_json
    from tasks.seams.clock import SystemClock

    with client_of_server(RETRIES) as client:
        examined = examine(client, path, inventory, fleet=checked_fleet(fleet), pool=pool, prune=prune)
        faults = examined.faults()
        if as_json:
            print_json(view.deploy_document(examined, faults))
        else:
            view.tell_changes(examined.changes)
            view.tell_faults(faults)
        if check:
            raise typer.Exit(int(Code.GOOD if examined.settled and not faults else Code.WARNINGS))
        if not examined.settled:
            examined.refuse_faults(faults)
            if not yes:
                view.ask(_counted(examined.changes))
            with view.told_how_far(_counted(examined.changes)) as tell:
                examined.apply(client, tell)
        if not as_json:
            now = SystemClock().now()
            found = examined.ahead(now)
            view.tell_next(examined, found, standings(client, found, SystemClock().now), now)
            view.tell_where(pool, get_current_settings().ui_url, serve=serve)
    if serve:
        code = work(pool, examined.inventory)
        view.tell_stopped()
        raise typer.Exit(code)


def _counted(todo: "Sequence[Change]") -> int:
    from deployments.deploying.model import Doing

    return sum(change.doing is not Doing.KEEP for change in todo)
