"""report: write a recorded run's report again."""

from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from flows.cli.app import app
from flows.cli.options import JsonOption, RecordsOption, some_path


class Format(StrEnum):
    """What reports can be written as."""

    HTML = "html"
    CSV = "csv"
    PARQUET = "parquet"
    JSON = "json"


@app.command("report", rich_help_panel="Look back")
def report(
    run: Annotated[str, typer.Argument(metavar="RUN", help="A run's id, a beginning of it, or `last`.")] = "last",
    to: Annotated[
        Path, typer.Option("--to", metavar="DIR", parser=some_path, help="Where; in a folder named for the run.")
    ] = Path(),
    formats: Annotated[
        list[Format] | None, typer.Option("--format", "-f", help="Again for more. Default: all.")
    ] = None,
    records: RecordsOption = None,
    as_json: JsonOption = False,
) -> None:
    """Write the report of a recorded run: HTML for people, CSV, Parquet and JSON for programs."""
    from flows.cli.run_pick import history, picked, whole
    from flows.cli.screen import print_json, say
    from tasks.reporting.write import write_report

    past = history(records)
    found = whole(past, picked(past, run).id)
    logs = past.logs(found.run.id)
    written = write_report(found, to, logs, [each.value for each in formats or Format])
    if as_json:
        print_json({"maintenanceRunId": found.run.id, "files": {key: str(path) for key, path in written.items()}})
    for key in ("html", "json", "directory") if not as_json else ():
        if key in written:
            say(f"{key}: {written[key]}")
    logs.check()
