"""report and compliance-report: write the report of a run again, and the compliance document of a month."""

from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from fleetpatch.cli.app import ALL_MACHINES, InventoryOption, JsonOption, RecordsOption, RunArgument, app, parse_path
from fleetpatch.cli.commands.automatic import ConfigurationsOption
from fleetpatch.cli.runtime.completion import complete_scope
from fleetpatch.cli.runtime.output import print_json, print_to_stderr, print_to_stdout

if TYPE_CHECKING:
    from datetime import date

    from inventory.machine import Inventory


class ReportFormat(StrEnum):
    """The formats of reports."""

    HTML = "html"
    CSV = "csv"
    PARQUET = "parquet"
    JSON = "json"


@app.command("report", rich_help_panel="Look back")
def write_run_report(
    run: RunArgument = "last",
    to: Annotated[
        Path,
        typer.Option(
            "--to",
            metavar="DIR",
            parser=parse_path,
            help="Target folder. The report is in a subfolder with the id of the run.",
        ),
    ] = Path(),
    formats: Annotated[
        list[ReportFormat] | None,
        typer.Option("--format", "-f", help="Format of the report. Repeatable. Default: all."),
    ] = None,
    records: RecordsOption = None,
    as_json: JsonOption = False,
) -> None:
    """Write the report of a recorded run again, as HTML, CSV, Parquet and JSON."""
    from fleetpatch.cli.runtime.run_lookup import find_run, open_history, read_full_report
    from tasks.domain.protocols.clock import SystemClock
    from tasks.records.automatic.rollout_progress import read_rollout_progress
    from tasks.records.setup import open_records
    from tasks.reports.writer import write_report

    history = open_history(records)
    full_report = read_full_report(history, find_run(history, run).id)
    logs = history.open_job_logs(full_report.run.id)
    with open_records(records) as database:
        rollout = read_rollout_progress(database.database, full_report, SystemClock().now())
    written = write_report(
        full_report, to, logs, [report_format.value for report_format in formats or ReportFormat], rollout=rollout
    )
    if as_json:
        print_json({"maintenanceRunId": full_report.run.id, "files": {key: str(path) for key, path in written.items()}})
    for key in ("html", "json", "directory") if not as_json else ():
        if key in written:
            print_to_stdout(f"{key}: {written[key]}")
    logs.require_readable()


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

    from flows.compliance.document import find_sla_days, make_compliance_document, send_compliance_document
    from flows.composition import read_credential
    from tasks.domain.errors import ReportError, RequestError
    from tasks.domain.protocols.clock import SystemClock
    from tasks.records.setup import open_records
    from tasks.reports.compliance.files import FORMATS, write_compliance_files
    from tasks.rules.compliance.model import Month

    now = SystemClock().now()
    asked = Month.parse(month) if month else Month.of(now).previous
    chosen = [report_format.value for report_format in formats] if formats else list(FORMATS)
    if "json" in chosen:
        raise RequestError("this document has no format json", hint="--json prints its figures.")
    sla = find_sla_days(sla_days, None if sla_days.strip() else _read_policy_days(config, now.date()))
    with open_records(records) as database:
        document = make_compliance_document(database, _load_inventory(inventory, scope), scope, asked, sla, now)
    written = write_compliance_files(document, to, chosen)
    unsent: list[str] = []
    if send:
        html = next((path for name, path in written.items() if name.endswith(".html")), None)
        unsent = send_compliance_document(document, html, send, "", read_credential, print_to_stderr)
    if as_json:
        figures = [asdict(report_format) for report_format in document.sla]
        files = {name: str(path) for name, path in written.items()}
        print_json({"month": str(asked), "scope": scope, "sla": figures, "gaps": list(document.gaps), "files": files})
    else:
        for name, path in written.items():
            if name.endswith(".html"):
                print_to_stdout(f"html: {path}")
        print_to_stdout(f"directory: {next(iter(written.values())).parent}")
        for gap in document.gaps:
            print_to_stderr(gap)
    if unsent:
        raise ReportError("the document is written, but was not sent to everybody")


def _load_inventory(path: Path | None, scope: str) -> "Inventory | None":
    """Return the inventory. All machines of the records need none."""
    from inventory.errors import FleetpatchError
    from inventory.loader import find_inventory, load_inventory

    try:
        return load_inventory(find_inventory(path))
    except FleetpatchError as error:
        if path is not None or scope.strip() != ALL_MACHINES:
            raise
        print_to_stderr(f"without the inventory: {error.message}")
        return None


def _read_policy_days(config: Path | None, today: "date") -> float | None:
    """Return the days of automatic patching; None without it.

    Raises:
        FleetpatchError: there are configurations, but they can't be read: other days would make another document.
    """
    from deployments.configuration.loader import NoConfigurations, find_configurations, load_configurations

    try:
        automatic = load_configurations(find_configurations(config), today).automatic
    except NoConfigurations:
        return None
    return automatic.to_policy().due_days if automatic is not None else None
