"""history: show or change how long runs are kept."""

from typing import Annotated

import typer
from rich.text import Text

from fleetpatch.cli.app import JsonOption, RecordsOption, app
from fleetpatch.cli.runtime.acting_command import KeepingCommand
from fleetpatch.cli.runtime.output import print_json, print_to_stdout, to_safe_text
from inventory.name_lists import format_count
from tasks.domain.errors import RequestError
from tasks.domain.model import RunInfo
from tasks.reports.formatting import format_iso_utc
from tasks.rules.retention import MIN_RETENTION_DAYS, Retention

FOREVER = "forever"


def _parse_days(text: str) -> str:
    if text != FOREVER and not text.isdecimal():
        raise typer.BadParameter(f"give a number of days, or {FOREVER}")
    return text


@app.command("history", cls=KeepingCommand, rich_help_panel="Set up")
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
            print_json(_build_history_json(records_database.display_name, retention, oldest))
        else:
            _print_history_settings(records_database.display_name, retention, oldest)


def _resolve_days(days: str | None, current_days: int | None) -> int | None:
    if days is None:
        return current_days
    return None if days == FOREVER else int(days)


def _build_history_json(place: str, retention: Retention, oldest: RunInfo | None) -> dict[str, object]:
    """Return how long history is kept as JSON data; null days: forever."""
    return {
        "records": place,
        "keepAssessmentsDays": retention.assessments_days,
        "keepRunsDays": retention.runs_days,
        "oldestRunStartDateTime": format_iso_utc(oldest.started_at) if oldest else None,
    }


def _print_history_settings(place: str, retention: Retention, oldest: RunInfo | None) -> None:
    """Print how long history is kept."""
    print_to_stdout(Text.assemble(("Records ", "bold"), to_safe_text(place)))
    assessments_kept = _format_retention_days(retention.assessments_days)
    print_to_stdout(f"Runs that only read machines, and superseded assessments: kept {assessments_kept}.")
    print_to_stdout(f"All other runs, with outcomes and journal: kept {_format_retention_days(retention.runs_days)}.")
    print_to_stdout("The newest assessment and the measured speed of each machine are always kept.")
    if oldest is not None:
        print_to_stdout(f"The oldest run began at {oldest.started_at:%Y-%m-%d %H:%M} UTC.")
    if retention.is_forever:
        print_to_stdout(
            "", "Nothing is ever deleted. To change this: fleetpatch history --keep-assessments 90 --keep-runs 730"
        )


def _format_retention_days(days: int | None) -> str:
    return "forever" if days is None else f"for {format_count(days, 'day')}"
