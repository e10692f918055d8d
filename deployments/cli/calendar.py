"""calendar: the next windows of all configurations."""

from pathlib import Path
from typing import Annotated

import typer

from flows.cli.app import app
from flows.cli.options import InventoryOption, JsonOption, some_path


@app.command("calendar", rich_help_panel="Schedule")
def calendar(
    machine: Annotated[
        str | None, typer.Option("--machine", "-m", metavar="NAME", help="Only windows that this machine is in.")
    ] = None,
    count: Annotated[int, typer.Option("--next", "-n", min=1, max=1000, help="How many windows.")] = 24,
    config: Annotated[
        Path | None,
        typer.Option(
            "--config",
            "-c",
            metavar="PATH",
            parser=some_path,
            help="Configurations. Default: $FLEETPATCH_CONFIGURATIONS, ./configurations, or the user's.",
        ),
    ] = None,
    inventory: InventoryOption = None,
    as_json: JsonOption = False,
) -> None:
    """List the next windows, when their runs start, and what is in their way. Changes nothing."""
    from deployments.cli.calendar_view import calendar_document, tell_calendar
    from deployments.config.agenda import agenda_of
    from deployments.config.fleets import read_fleets
    from deployments.config.load import find_configurations, load_configurations
    from flows.cli.screen import print_json
    from tasks.seams.clock import SystemClock

    now = SystemClock().now()
    found = load_configurations(find_configurations(config), now.date())
    agenda = agenda_of(found, read_fleets(found, inventory), now, count, machine)
    if as_json:
        print_json(calendar_document(agenda))
    else:
        tell_calendar(agenda)
