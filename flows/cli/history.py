"""history: where it is, how large, and how long it is kept."""

from typing import Annotated

import typer

from flows.cli.app import app
from flows.cli.options import JsonOption, RecordsOption

FOREVER = "forever"


def _days(text: str) -> str:
    if text != FOREVER and not text.isdecimal():
        raise typer.BadParameter(f"give a number of days, or {FOREVER}")
    return text


@app.command("history", rich_help_panel="Set up")
def history(
    keep_assessments: Annotated[
        str | None,
        typer.Option(
            metavar="DAYS", parser=_days, help="Keep runs that only looked at machines so long, or `forever`."
        ),
    ] = None,
    keep_runs: Annotated[
        str | None,
        typer.Option(
            metavar="DAYS", parser=_days, help="Keep all other runs and their outcomes so long, or `forever`."
        ),
    ] = None,
    records: RecordsOption = None,
    as_json: JsonOption = False,
) -> None:
    """Show how long history is kept, or change it. What is older is forgotten when a run ends."""
    from flows.cli.history_view import history_document, tell_history
    from flows.cli.screen import print_json
    from tasks.errors import RequestError
    from tasks.records.history import History
    from tasks.records.opening import open_records
    from tasks.records.retention import keep, retention_of
    from tasks.rules.retention import FEWEST_DAYS, Retention

    with open_records(records) as opened:
        kept = retention_of(opened)
        if keep_assessments is not None or keep_runs is not None:
            kept = Retention(_asked(keep_assessments, kept.assessments_days), _asked(keep_runs, kept.runs_days))
            if fault := kept.fault():
                raise RequestError(fault, hint=f"Give {FEWEST_DAYS} days or more, and runs no fewer than assessments.")
            keep(opened, kept)
        oldest = History(opened).oldest_run()
        if as_json:
            print_json(history_document(opened.place, kept, oldest))
        else:
            tell_history(opened.place, kept, oldest)


def _asked(days: str | None, now: int | None) -> int | None:
    if days is None:
        return now
    return None if days == FOREVER else int(days)
