"""report: write the report of a recorded run again."""

from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from fleetpatch.cli.app import JsonOption, RecordsOption, RunArgument, app, parse_path
from fleetpatch.cli.runtime.output import print_json, print_to_stdout


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
