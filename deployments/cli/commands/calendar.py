"""calendar: the next windows of all configurations."""

from pathlib import Path
from typing import Annotated

import typer

from flows.cli.app import InventoryOption, JsonOption, app, parse_path


@app.command("calendar", rich_help_panel="Schedule")
def show_calendar(
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
            parser=parse_path,
            help="Configurations. Default: $FLEETPATCH_CONFIGURATIONS, ./configurations, or the user's.",
        ),
    ] = None,
    inventory: InventoryOption = None,
    as_json: JsonOption = False,
) -> None:
    """List the next windows, when their runs start, and what prevents them. Changes nothing."""
    from deployments.cli.views.calendar import build_calendar_json, print_calendar
    from deployments.configuration.inventories import load_inventories
    from deployments.configuration.loader import find_configurations, load_configurations
    from deployments.preview.window_calendar import build_calendar
    from flows.cli.runtime.output import print_json
    from tasks.protocols.clock import SystemClock

    now = SystemClock().now()
    configurations = load_configurations(find_configurations(config), now.date())
    window_calendar = build_calendar(configurations, load_inventories(configurations, inventory), now, count, machine)
    if as_json:
        print_json(build_calendar_json(window_calendar))
    else:
        print_calendar(window_calendar)
