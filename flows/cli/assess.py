"""assess: look at machines and remember what is pending."""

from typing import Annotated

import typer

from flows.cli.app import app
from flows.cli.options import (
    EVERYTHING,
    InventoryOption,
    JsonOption,
    NoRefreshOption,
    RecordsOption,
    ReportOption,
    ScopeArgument,
)


@app.command("assess", rich_help_panel="Look")
def assess(
    scope: ScopeArgument = EVERYTHING,
    inventory: InventoryOption = None,
    records: RecordsOption = None,
    no_refresh: NoRefreshOption = False,
    at_once: Annotated[int, typer.Option("--at-once", min=1, max=500, help="Machines asked side by side.")] = 50,
    report: ReportOption = None,
    as_flow: Annotated[bool, typer.Option("--flow", help="As a Prefect flow, to be seen in its UI.")] = False,
    as_json: JsonOption = False,
) -> None:
    """Ask machines what is pending on them. Changes nothing but their package lists."""
    from flows.cli.asking import given, machines_of, validated
    from flows.cli.conduct import conduct
    from flows.cli.ending import tell_assess
    from flows.request import AssessRequest

    tree = {
        "scope": scope,
        "inventory": inventory,
        "refresh": not no_refresh,
        "at_once": at_once,
        "report_directory": report,
    }
    request = validated(AssessRequest, given(tree), verb="assess")
    _, machines = machines_of(request.inventory, request.scope)
    ended = conduct(request, [machine.name for machine in machines], as_flow=as_flow, records=records)
    tell_assess(ended, request.report_directory, as_json=as_json)
    raise typer.Exit(int(ended.code))
