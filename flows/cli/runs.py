"""runs, show and why: what was recorded."""

from typing import TYPE_CHECKING, Annotated

import typer

from flows.cli.app import app
from flows.cli.options import JsonOption, RecordsOption

if TYPE_CHECKING:
    from collections.abc import Mapping

    from tasks.model import RunInfo
    from tasks.records.history import History
    from tasks.seams.leases import LeaseView

PANEL = "Look back"
RunArgument = Annotated[
    str, typer.Argument(metavar="RUN", help="A run's id, a beginning that no other has, or `last`.")
]


@app.command("runs", rich_help_panel=PANEL)
def runs(
    limit: Annotated[int, typer.Option("--limit", "-n", min=1, max=10_000, help="How many, newest first.")] = 20,
    kind: Annotated[str | None, typer.Option("--kind", help="Only patch, stage, plan or assess.")] = None,
    records: RecordsOption = None,
    as_json: JsonOption = False,
) -> None:
    """List the latest runs, newest first."""
    from flows.cli.cancelling import carrier_document, carriers, tell_carriers
    from flows.cli.run_pick import history
    from flows.cli.runs_view import run_document, tell_runs
    from flows.cli.screen import print_json

    if kind not in {None, "patch", "stage", "plan", "assess"}:
        raise typer.BadParameter("--kind is one of patch, stage, plan, assess")
    found = history(records).runs(limit, kind=kind)
    carried = carriers(found, records)
    if as_json:
        more = {run_id: carrier_document(lease) for run_id, lease in carried.items()}
        print_json({"runs": [run_document(run) | more.get(run.id, {}) for run in found]})
    else:
        tell_runs(found)
        tell_carriers(carried, records)


@app.command("show", rich_help_panel=PANEL)
def show(
    run: RunArgument = "last",
    machine: Annotated[str | None, typer.Option("--machine", "-m", help="All that is known of one machine.")] = None,
    log: Annotated[bool, typer.Option("--log", help="What the package manager printed.")] = False,
    journal: Annotated[bool, typer.Option("--journal", help="What was begun and ended, act by act.")] = False,
    records: RecordsOption = None,
    as_json: JsonOption = False,
) -> None:
    """Show what became of a run, or of one machine in it."""
    from flows.cli import machine_view, run_view, runs_view
    from flows.cli.run_pick import history, picked, summed_up, whole
    from flows.cli.screen import print_json

    past = history(records)
    found = picked(past, run)
    if machine is not None:
        _check_machine(past, found.id, machine)
    if as_json:
        print_json(runs_view.show_document(past, whole(past, found.id, machine), machine, log=log, journal=journal))
        return
    if not (log or journal):
        if machine is not None:
            machine_view.tell_machine(whole(past, found.id, machine), machine)
        elif found.kind == "plan":
            run_view.told(whole(past, found.id))
        else:
            run_view.tell_summary(summed_up(past, found.id))
        if machine is None:
            _tell_approval(found, records)
            _tell_unended(past, found, records)
    if journal:
        runs_view.tell_journal(past.journal(found.id, machine))
    if log:
        runs_view.tell_log(past, found.id, machine)


@app.command("why", rich_help_panel=PANEL)
def why(
    machine: Annotated[str, typer.Argument(metavar="MACHINE", help="A machine's name.")],
    update: Annotated[
        str, typer.Argument(metavar="UPDATE", help='Name of an update, or a mask such as "linux-*".')
    ] = "*",
    runs: Annotated[int, typer.Option("--runs", min=1, max=1000, help="How many of its latest runs to look at.")] = 5,
    records: RecordsOption = None,
    as_json: JsonOption = False,
) -> None:
    """Say why an update was installed on a machine, or was not."""
    from flows.cli import runs_view
    from flows.cli.cancelling import carriers
    from flows.cli.run_pick import history
    from flows.cli.screen import print_json
    from tasks.errors import RequestError

    past = history(records)
    found = past.why(machine, update, runs=runs)
    latest = past.latest_assessments([machine]).get(machine)
    no_end = carriers(past.runs_without_end(), records)
    carried = {run: lease for run, lease in no_end.items() if machine in past.machines_of(run)}
    if not found and latest is None and not past.why(machine):
        raise RequestError(f"nothing is recorded of a machine {machine!r}", hint=f"fleetpatch assess name={machine}")
    if as_json:
        print_json(runs_view.why_document(machine, found, latest) | {"openMaintenanceRunIds": list(carried)})
        return
    runs_view.tell_why(machine, update, found, latest, runs=runs)
    _tell_carried(carried, records)


def _check_machine(past: "History", run_id: str, machine: str) -> None:
    from tasks.errors import RequestError

    known = past.machines_of(run_id)
    if machine not in known:
        raise RequestError(
            f"run {run_id} has no machine {machine!r}", hint=f"It has {', '.join(known[:10]) or 'none yet'}."
        )


def _tell_approval(run: "RunInfo", records: str | None) -> None:
    """Say who has let a run go on, or that it waits for somebody."""
    from flows.approval import approval_of
    from flows.cli.approving_view import tell_standing
    from flows.cli.screen import say
    from tasks.records.approvals import Answer

    standing = approval_of(run.id, records) if run.kind == "patch" else None
    if standing is not None:
        say("")
        tell_standing(run, standing)
        if standing.answer is Answer.WAITING:
            say(f"Its plan: fleetpatch approvals {run.id}")


def _tell_unended(past: "History", run: "RunInfo", records: str | None) -> None:
    """Say what a run that has no end left open, and who looks after it."""
    from flows.cli.cancelling import carriers
    from flows.cli.screen import safe, say
    from flows.cli.stopping import still_open
    from tasks.states import OPEN

    if run.state not in OPEN:
        return
    left = still_open(past.journal(run.id))
    if left:
        say("", "Begun, and no end is recorded (jobs on machines go on by themselves):")
        for entry in left:
            say(safe(f"  {entry.machine}  {entry.act}  {entry.key}  since {entry.at:%Y-%m-%d %H:%M:%S} UTC"))
    _tell_carried(carriers([run], records), records)


def _tell_carried(carried: "Mapping[str, LeaseView | None]", records: str | None) -> None:
    from flows.cli.cancelling import tell_carriers
    from flows.cli.screen import say

    if carried:
        say("")
        tell_carriers(carried, records)
