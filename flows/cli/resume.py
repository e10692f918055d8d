"""resume, cancel and reconcile: runs that were left, and runs that are to stop."""

from typing import TYPE_CHECKING, Annotated

import typer

from flows.cli.app import app
from flows.cli.options import JsonOption, RecordsOption

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from flows.cli.conduct import Conducted
    from tasks.model import RunInfo
    from tasks.records.history import History

PANEL = "Patch"
RunArgument = Annotated[
    str, typer.Argument(metavar="RUN", help="A run's id, a beginning that no other has, or `last`.")
]
Plain = Annotated[bool, typer.Option("--plain", help="Without Prefect: quicker to start, not seen in its UI.")]


@app.command("resume", rich_help_panel=PANEL)
def resume(
    run: RunArgument,
    settle: Annotated[
        bool,
        typer.Option("--settle", help="Begin nothing new; see what runs to its end, and record what became of it."),
    ] = False,
    plain: Plain = False,
    records: RecordsOption = None,
    as_json: JsonOption = False,
) -> None:
    """Go on with a run whose process died, where it was left and within its own window. Nothing is done twice."""
    from flows.cli.ending import tell_patch
    from flows.cli.run_pick import history, picked
    from flows.past import resumable

    past = history(records)
    found = resumable(picked(past, run))
    why = "it was resumed only to be settled" if settle else ""
    ended = _take_up(past, found, settle=why, plain=plain, records=records)
    tell_patch(ended, _reports(found), as_json=as_json, details=False)
    raise typer.Exit(int(ended.code))


@app.command("cancel", rich_help_panel=PANEL)
def cancel(
    run: RunArgument,
    reason: Annotated[
        str, typer.Option("--reason", metavar="TEXT", help="Why; it stands in the report.")
    ] = "cancelled",
    wait: Annotated[
        bool, typer.Option("--wait", help="Watch until the run has ended, and say what became of it.")
    ] = False,
    now: Annotated[bool, typer.Option("--now", hidden=True)] = False,
    records: RecordsOption = None,
    as_json: JsonOption = False,
) -> None:
    """Ask a run to begin nothing more. What runs on machines is left to end; nothing is ever killed."""
    from flows.cli.cancelling import asked_document, tell_asked, watch_to_its_end
    from flows.cli.ending import tell_patch
    from flows.cli.run_pick import history, picked
    from flows.cli.screen import print_json
    from flows.context import Caller
    from flows.recovery import cancel_run
    from tasks.errors import RequestError

    if now:
        raise RequestError(
            "there is no --now: a package transaction that is killed leaves a machine half patched",
            hint="A cancelled run ends after the transactions that it is in; --wait watches that.",
        )
    past = history(records)
    found = picked(past, run)
    asked = cancel_run(found.id, reason, Caller(records_url=records))
    if not as_json:
        tell_asked(asked, wait=wait)
    if not wait:
        if as_json:
            print_json(asked_document(asked))
        return
    ended = watch_to_its_end(past, asked, records) or _take_up(past, found, settle=reason, plain=True, records=records)
    tell_patch(ended, _reports(found), as_json=as_json, details=False)
    raise typer.Exit(int(ended.code))


@app.command("reconcile", rich_help_panel=PANEL)
def reconcile(
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only say which runs those are.")] = False,
    plain: Plain = False,
    records: RecordsOption = None,
    as_json: JsonOption = False,
) -> None:
    """Take up every run that nobody carries out: resume it while its window is open, settle it when that is over.

    One that was suspended in Prefect is left alone until its window is over.

    All are taken up at once: none waits for another one's end.
    """
    from flows.cli.cancelling import code_of_taking, left_document, tell_left, tell_taken
    from flows.cli.conduct import conduct_all
    from flows.cli.run_pick import history
    from flows.cli.screen import print_json
    from flows.recovery import left_runs

    found = left_runs(records)
    if not as_json:
        tell_left(found)
    due = [left for left in found if not left.waits]
    if dry_run or not due:
        if as_json:
            print_json({"runs": [left_document(each, None) for each in found], "exitCode": 0})
        return
    names = dict.fromkeys(name for left in due for name in _names(history(records), left.run))
    done = conduct_all(due, list(names), as_flow=not plain, records=records)
    for left, result in done:
        tell_taken(left, result)
    code = max(code_of_taking(result) for _, result in done)
    if as_json:
        left_alone = [left_document(left, None) for left in found if left.waits]
        documents = [left_document(left, result) for left, result in done]
        print_json({"runs": [*documents, *left_alone], "exitCode": code})
    raise typer.Exit(code)


def _take_up(past: "History", run: "RunInfo", *, settle: str, plain: bool, records: str | None) -> "Conducted":
    from flows.cli.conduct import conduct_again
    from flows.cli.screen import note
    from flows.recovery import wait_for_lease
    from tasks.records.opening import open_records

    with open_records(records) as kept:
        wait_for_lease(kept.leases, run.id, say=note)
    return conduct_again(run, _names(past, run), settle=settle, as_flow=not plain, records=records)


def _names(past: "History", run: "RunInfo") -> "Sequence[str]":
    """Return the names of a run's machines, for the display; none where they can't be told."""
    from inventory.errors import FleetpatchError

    try:
        return [name for wave in past.report(run.id).waves for name in wave.machines] or _in_scope(run)
    except FleetpatchError:  # taking the run up says why
        return ()


def _in_scope(run: "RunInfo") -> "Sequence[str]":
    """Return the names of a run's machines where it had not come to its waves yet."""
    from flows.cli.asking import machines_of
    from flows.past import request_of

    request = request_of(run)
    return [machine.name for machine in machines_of(request.inventory, request.scope)[1]]


def _reports(run: "RunInfo") -> "Path":
    from flows.past import request_of
    from flows.wiring import report_directory

    return report_directory(request_of(run).report_directory)
