"""history: show or change how long runs are kept."""

from typing import Annotated

import typer

from flows.cli.app import JsonOption, RecordsOption, app
from flows.cli.runtime.output import print_json
from flows.cli.views.history import build_history_json, print_history_settings
from tasks.errors import RequestError
from tasks.rules.retention import MIN_RETENTION_DAYS, Retention

FOREVER = "forever"


def _parse_days(text: str) -> str:
    if text != FOREVER and not text.isdecimal():
        raise typer.BadParameter(f"give a number of days, or {FOREVER}")
    return text


@app.command("history", rich_help_panel="Set up")
def configure_history(
    keep_assessments: Annotated[
        str | None,
        typer.Option(
            metavar="DAYS", parser=_parse_days, help="How long to keep runs that only read machines, or `forever`."
        ),
    ] = None,
    keep_runs: Annotated[
        str | None,
        typer.Option(
            metavar="DAYS", parser=_parse_days, help="How long to keep all other runs and their outcomes, or `forever`."
        ),
    ] = None,
    records: RecordsOption = None,
    as_json: JsonOption = False,
) -> None:
    """Show or change how long history is kept. The end of each run deletes what is older."""
    from tasks.records.queries.history import History
    from tasks.records.retention import read_retention, save_retention
    from tasks.records.setup import open_records

    with open_records(records) as records_database:
        retention = read_retention(records_database)
        if keep_assessments is not None or keep_runs is not None:
            retention = Retention(
                _resolve_days(keep_assessments, retention.assessments_days),
                _resolve_days(keep_runs, retention.runs_days),
            )
            if fault := retention.find_fault():
                raise RequestError(
                    fault, hint=f"Give {MIN_RETENTION_DAYS} days or more. Keep runs at least as long as assessments."
                )
            save_retention(records_database, retention)
        oldest = History(records_database).find_oldest_run()
        if as_json:
            print_json(build_history_json(records_database.display_name, retention, oldest))
        else:
            print_history_settings(records_database.display_name, retention, oldest)


def _resolve_days(days: str | None, current_days: int | None) -> int | None:
    if days is None:
        return current_days
    return None if days == FOREVER else int(days)
