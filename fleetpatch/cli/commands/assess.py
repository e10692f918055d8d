"""assess: read what is pending on machines, and record it."""

from typing import Annotated

import typer

from fleetpatch.cli.app import (
    ALL_MACHINES,
    InventoryOption,
    JsonOption,
    NoRefreshOption,
    RecordsOption,
    ReportOption,
    ScopeArgument,
    app,
)


@app.command("assess", rich_help_panel="Look")
def assess(
    scope: ScopeArgument = ALL_MACHINES,
    inventory: InventoryOption = None,
    records: RecordsOption = None,
    no_refresh: NoRefreshOption = False,
    at_once: Annotated[int, typer.Option("--at-once", min=1, max=500, help="How many machines at the same time.")] = 50,
    report: ReportOption = None,
    as_flow: Annotated[bool, typer.Option("--flow", help="Run as a Prefect flow. Prefect's UI shows it.")] = False,
    as_json: JsonOption = False,
) -> None:
    """Read pending updates and required reboots of machines. Changes only package lists."""
    from fleetpatch.cli.runtime.machine_selection import load_machines_in_scope
    from fleetpatch.cli.runtime.request_parsing import build_request, remove_unset_values
    from fleetpatch.cli.runtime.run_session import run_request_in_session
    from fleetpatch.cli.views.run_result import print_result
    from flows.request.assess_request import AssessRequest

    tree = {
        "scope": scope,
        "inventory": inventory,
        "refresh": not no_refresh,
        "at_once": at_once,
        "report_directory": report,
    }
    request = build_request(AssessRequest, remove_unset_values(tree), verb="assess")
    _, machines = load_machines_in_scope(request.inventory, request.scope)
    result = run_request_in_session(request, [machine.name for machine in machines], as_flow=as_flow, records=records)
    print_result(result, request.report_directory, as_json=as_json)
    raise typer.Exit(int(result.exit_code))
