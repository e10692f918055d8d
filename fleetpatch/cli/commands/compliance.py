"""compliance and compliance-report: who misses a deadline, and the compliance document of a month."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from fleetpatch.cli.app import (
    ALL_MACHINES,
    ConfigurationsOption,
    InventoryOption,
    JsonOption,
    RecordsOption,
    ScopeArgument,
    app,
    parse_path,
)
from fleetpatch.cli.commands.automatic import read_status
from fleetpatch.cli.commands.runs import ReportFormat
from fleetpatch.cli.runtime.completion import complete_scope
from fleetpatch.cli.runtime.output import print_json, print_to_stderr, print_to_stdout

if TYPE_CHECKING:
    from datetime import date


@app.command("compliance", rich_help_panel="Look")
def show_deadline_compliance(
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
    from tasks.rules.automatic.forecast import forecast as forecast_machines

    status = read_status(config, inventory, records)
    _, machines = load_machines_in_scope(inventory or status.request.inventory, scope)
    names = {machine.name for machine in machines}
    days = max(30.0, status.policy.due_days)
    forecasts = forecast_machines(status.policy, status.view, status.now, days)
    view = build_compliance_view(status, [forecast for forecast in forecasts if forecast.machine in names])
    if as_json:
        print_json(build_compliance_json(view))
    else:
        print_compliance(view, show_all=show_all)
        print_feed_problems(status)
    if code := to_compliance_exit_code(view):
        raise typer.Exit(int(code))


@app.command("compliance-report", rich_help_panel="Look back")
def write_compliance_report(
    month: Annotated[
        str, typer.Argument(metavar="MONTH", help="As in 2026-11. Default: the last month that is over.")
    ] = "",
    scope: Annotated[
        str, typer.Option("--scope", "-s", metavar="SCOPE", help="The machines.", autocompletion=complete_scope)
    ] = ALL_MACHINES,
    sla_days: Annotated[
        str,
        typer.Option(
            "--sla-days",
            metavar="DAYS",
            help="Days until a fix must be installed. Default: those of automatic patching, or critical=7,security=30.",
        ),
    ] = "",
    to: Annotated[
        Path,
        typer.Option("--to", metavar="DIR", parser=parse_path, help="Target folder. The files are in a subfolder."),
    ] = Path(),
    formats: Annotated[
        list[ReportFormat] | None,
        typer.Option("--format", "-f", help="html, csv or parquet. Repeatable. Default: all three."),
    ] = None,
    send: Annotated[
        list[str] | None,
        typer.Option(
            "--send",
            metavar="REFERENCE",
            help="Send it to an Apprise URL: env:NAME, file:/path, block:NAME. Repeatable.",
        ),
    ] = None,
    config: ConfigurationsOption = None,
    inventory: InventoryOption = None,
    records: RecordsOption = None,
    as_json: JsonOption = False,
) -> None:
    """Write the compliance of a month for auditors: HTML to read and print, CSV and Parquet. Contacts no machine."""
    from dataclasses import asdict

    from fleetpatch.cli.runtime.machine_selection import load_inventory_or_warn
    from flows.compliance.document import find_sla_days, make_compliance_document, send_compliance_document
    from flows.composition import read_credential
    from tasks.domain.errors import ReportError, RequestError
    from tasks.domain.protocols.clock import SystemClock
    from tasks.records.setup import open_records
    from tasks.reports.compliance.files import FORMATS, write_compliance_files
    from tasks.rules.compliance.model import Month

    now = SystemClock().now()
    chosen_month = Month.parse(month) if month else Month.of(now).previous
    chosen = [report_format.value for report_format in formats] if formats else list(FORMATS)
    if "json" in chosen:
        raise RequestError("this document has no format json", hint="--json prints its figures.")
    sla = find_sla_days(sla_days, None if sla_days.strip() else _read_policy_days(config, now.date()))
    with open_records(records) as database:
        # All machines of the records need no inventory.
        known_inventory = load_inventory_or_warn(inventory, is_required=scope.strip() != ALL_MACHINES)
        document = make_compliance_document(database, known_inventory, scope, chosen_month, sla, now)
    written = write_compliance_files(document, to, chosen)
    unsent: list[str] = []
    if send:
        html = next((path for name, path in written.items() if name.endswith(".html")), None)
        unsent = send_compliance_document(document, html, send, "", read_credential, print_to_stderr)
    if as_json:
        figures = [asdict(report_format) for report_format in document.sla]
        files = {name: str(path) for name, path in written.items()}
        print_json(
            {"month": str(chosen_month), "scope": scope, "sla": figures, "gaps": list(document.gaps), "files": files}
        )
    else:
        for name, path in written.items():
            if name.endswith(".html"):
                print_to_stdout(f"html: {path}")
        print_to_stdout(f"directory: {next(iter(written.values())).parent}")
        for gap in document.gaps:
            print_to_stderr(gap)
    if unsent:
        raise ReportError("the document is written, but was not sent to everybody")


def _read_policy_days(config: Path | None, today: "date") -> float | None:
    """Return the days of automatic patching; None without it. With faulty configurations, other days would be wrong."""
    from deployments.configuration.loader import NoConfigurations, find_configurations, load_configurations

    try:
        automatic = load_configurations(find_configurations(config), today).automatic
    except NoConfigurations:
        return None
    return automatic.to_policy().due_days if automatic is not None else None
