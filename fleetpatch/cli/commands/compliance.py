"""compliance: which machines miss a deadline of automatic patching, and when. Contacts no machine."""

from typing import Annotated

import typer

from fleetpatch.cli.app import ALL_MACHINES, InventoryOption, JsonOption, RecordsOption, ScopeArgument, app
from fleetpatch.cli.commands.automatic import ConfigurationsOption, read_status
from fleetpatch.cli.runtime.output import print_json


@app.command("compliance", rich_help_panel="Look")
def show_compliance(
    scope: ScopeArgument = ALL_MACHINES,
    show_all: Annotated[bool, typer.Option("--all", help="List every machine that has due updates.")] = False,
    config: ConfigurationsOption = None,
    inventory: InventoryOption = None,
    records: RecordsOption = None,
    as_json: JsonOption = False,
) -> None:
    """List who misses a deadline of automatic patching, or will at the present pace, and why. Contacts no machine."""
    from fleetpatch.cli.runtime.machine_selection import load_machines_in_scope
    from fleetpatch.cli.views.automatic import print_feed_problems
    from fleetpatch.cli.views.compliance import (
        build_compliance_json,
        build_compliance_view,
        print_compliance,
        to_compliance_exit_code,
    )
    from tasks.rules.automatic.forecast import forecast

    status = read_status(config, inventory, records)
    _, machines = load_machines_in_scope(inventory or status.request.inventory, scope)
    names = {machine.name for machine in machines}
    days = max(30.0, status.policy.due_days)
    forecasts = [
        machine_forecast
        for machine_forecast in forecast(status.policy, status.view, status.now, days)
        if machine_forecast.machine in names
    ]
    view = build_compliance_view(status, forecasts)
    if as_json:
        print_json(build_compliance_json(view))
    else:
        print_compliance(view, show_all=show_all)
        print_feed_problems(status)
    if code := to_compliance_exit_code(view):
        raise typer.Exit(int(code))
