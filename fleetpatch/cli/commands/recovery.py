"""resume, cancel and reconcile: continue, finalize or stop runs."""

import os
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from fleetpatch.cli.app import JsonOption, NoPrefectOption, RecordsOption, RunArgument, app
from fleetpatch.cli.runtime.acting_command import ActingCommand
from fleetpatch.cli.runtime.output import print_json, print_to_stderr, print_to_stdout
from flows.ports.caller import Caller
from inventory.errors import FleetpatchError
from tasks.domain.errors import RequestError
from tasks.domain.model import RunInfo

if TYPE_CHECKING:
    from fleetpatch.cli.runtime.run_session import RunResult
    from flows.recovery.unfinished_runs import AbandonedRun
    from tasks.records.queries.history import History

PANEL = "Patch"


@app.command("resume", cls=ActingCommand, rich_help_panel=PANEL)
def resume(
    run: RunArgument,
    finalize: Annotated[
        bool,
        typer.Option(
            "--finalize", help="Begin nothing more. Wait for jobs that run, and record each machine's result."
        ),
    ] = False,
    no_prefect: NoPrefectOption = False,
    records: RecordsOption = None,
    as_json: JsonOption = False,
) -> None:
    """Continue a run whose process died, within its own window. Nothing is done twice."""
    from fleetpatch.cli.runtime.run_lookup import find_run, open_history
    from fleetpatch.cli.views.run_result import print_result
    from flows.engine.resume_state import require_resumable

    history = open_history(records)
    recorded_run = require_resumable(find_run(history, run))
    result = _recover_run(
        history,
        recorded_run,
        finalize_reason="it was resumed with --finalize" if finalize else "",
        ends_without_key=finalize,
        as_flow=not no_prefect,
        records=records,
    )
    print_result(result, _find_report_root(recorded_run), as_json=as_json)
    raise typer.Exit(int(result.exit_code))


@app.command("cancel", cls=ActingCommand, rich_help_panel=PANEL)
def cancel(
    run: RunArgument,
    reason: Annotated[
        str, typer.Option("--reason", metavar="TEXT", help="The reason. The report shows it.")
    ] = "cancelled",
    wait: Annotated[bool, typer.Option("--wait", help="Wait until the run is over, and show its result.")] = False,
    now: Annotated[bool, typer.Option("--now", hidden=True)] = False,
    records: RecordsOption = None,
    as_json: JsonOption = False,
) -> None:
    """Ask a run to begin nothing more. Running transactions end by themselves. Nothing is killed."""
    from fleetpatch.cli.runtime.run_lookup import find_run, open_history
    from fleetpatch.cli.runtime.run_session import wait_for_run_end
    from fleetpatch.cli.views.recovery import build_cancel_request_json, print_cancel_request
    from fleetpatch.cli.views.run_result import print_result
    from flows.recovery.cancellation import cancel_run

    if now:
        raise RequestError(
            "there is no --now: a killed package transaction leaves a machine half patched",
            hint="A cancelled run ends after its current transactions. --wait waits for that.",
        )
    history = open_history(records)
    recorded_run = find_run(history, run)
    cancel_request = cancel_run(recorded_run.id, reason, Caller(records_url=records))
    if not as_json:
        print_cancel_request(cancel_request, wait=wait)
    if not wait:
        if as_json:
            print_json(build_cancel_request_json(cancel_request))
        return
    result = wait_for_run_end(history, cancel_request, records) or _recover_run(
        history, recorded_run, finalize_reason=reason, as_flow=False, records=records
    )
    print_result(result, _find_report_root(recorded_run), as_json=as_json)
    raise typer.Exit(int(result.exit_code))


@app.command("reconcile", cls=ActingCommand, rich_help_panel=PANEL)
def reconcile(
    dry_run: Annotated[bool, typer.Option("--dry-run", help="List these runs, and do nothing.")] = False,
    no_prefect: NoPrefectOption = False,
    records: RecordsOption = None,
    as_json: JsonOption = False,
) -> None:
    """Resume every run without a live process while its window is open. Finalize it when the window is over.

    A run that is suspended in Prefect stays suspended until its window is over.

    All these runs are recovered at the same time. The ends that nobody was told are published. Then snapshots whose
    time is over are deleted, and copies of machines that rehearsals have left.
    """
    from fleetpatch.cli.runtime.exit_codes import ExitCode
    from fleetpatch.cli.runtime.progress import LineDisplay
    from fleetpatch.cli.runtime.run_lookup import open_history
    from fleetpatch.cli.runtime.run_session import resume_or_finalize_runs_in_session
    from fleetpatch.cli.views.recovery import (
        build_abandoned_run_json,
        find_recovered_run_exit_code,
        print_abandoned_runs,
        print_recovery_result,
    )
    from flows.recovery.unfinished_runs import find_abandoned_runs
    from flows.recovery.unpublished_ends import publish_missing_ends
    from tasks.records.queries.other_fleets import describe_other_fleets

    abandoned_runs, as_flow = find_abandoned_runs(records), not no_prefect
    corrected = _correct_prefect(records, dry_run=dry_run) if as_flow else ()
    history = open_history(records)
    if not as_json:
        print_abandoned_runs(abandoned_runs)
        if (
            not abandoned_runs
            and not history.read_runs(1)
            and (other_fleets := describe_other_fleets(history.database))
        ):
            print_to_stdout(other_fleets)
    due = [abandoned_run for abandoned_run in abandoned_runs if not (dry_run or abandoned_run.wait_reason)]
    results: Sequence[tuple[AbandonedRun, RunResult | FleetpatchError]] = ()
    if due:
        names = dict.fromkeys(name for one in due for name in _find_machine_names(history, one.run))
        results = resume_or_finalize_runs_in_session(due, list(names), as_flow=as_flow, records=records)
    for abandoned_run, result in results:
        print_recovery_result(abandoned_run, result)
    codes = [find_recovered_run_exit_code(result) for _, result in results]
    published, is_each_published = list[str](), True
    if not dry_run:
        published, is_each_published = publish_missing_ends(Caller(LineDisplay(), records_url=records), print_to_stderr)
    if not (_settle_leftovers(records, dry_run=dry_run) and is_each_published):
        codes.append(int(ExitCode.WARNINGS))
    code = max(codes, default=int(ExitCode.SUCCESS))
    if as_json:
        others = [(abandoned_run, None) for abandoned_run in abandoned_runs if abandoned_run not in due]
        documents = [build_abandoned_run_json(abandoned_run, result) for abandoned_run, result in [*results, *others]]
        print_json({"runs": documents, "correctedFlowRuns": corrected, "publishedEnds": published, "exitCode": code})
    raise typer.Exit(code)


def _settle_leftovers(records: str | None, *, dry_run: bool) -> bool:
    """Delete what runs have left at providers, or tell it. Return whether nothing failed."""
    from flows.leftovers import delete_leftovers, tell_leftovers

    caller = Caller(records_url=records)
    if dry_run:
        tell_leftovers(caller, print_to_stderr)
        return True
    return delete_leftovers(caller, print_to_stderr)


def _correct_prefect(records: str | None, *, dry_run: bool) -> Sequence[str]:
    """End flow runs in Prefect whose runs are over, and say so. Return their ids; none without a server."""
    if not os.environ.get("PREFECT_API_URL"):  # a server for one run only has no other flow runs
        return ()
    from flows.prefect_api.api_client import NO_ANSWER_ERRORS, open_fail_fast_client
    from flows.prefect_api.connection import supply_login
    from flows.recovery.flow_runs import end_orphaned_flow_runs, find_orphaned_flow_runs
    from tasks.domain.protocols.clock import SystemClock

    supply_login()
    act, verb = (find_orphaned_flow_runs, "would be corrected") if dry_run else (end_orphaned_flow_runs, "corrected")
    try:
        with open_fail_fast_client() as client:
            orphaned = act(client, records, SystemClock().now())
    except NO_ANSWER_ERRORS:
        print_to_stderr("Prefect can't be reached: whether it shows runs as Running that are over was not checked.")
        return ()
    for flow_run in orphaned:
        print_to_stderr(f"{flow_run.description}: {verb} in Prefect" if flow_run.run else flow_run.description)
    return [str(flow_run.flow_run.id) for flow_run in orphaned if flow_run.run is not None]


def _recover_run(
    history: "History",
    run: RunInfo,
    *,
    finalize_reason: str,
    ends_without_key: bool = False,
    as_flow: bool,
    records: str | None,
) -> "RunResult":
    from fleetpatch.cli.runtime.run_session import resume_run_in_session
    from flows.recovery.unfinished_runs import wait_for_lease_expiry
    from tasks.records.setup import open_records

    with open_records(records) as records_database:
        wait_for_lease_expiry(records_database.leases, run.id, print_message=print_to_stderr)
    return resume_run_in_session(
        run,
        _find_machine_names(history, run),
        finalize_reason=finalize_reason,
        ends_without_key=ends_without_key,
        as_flow=as_flow,
        records=records,
    )


def _find_machine_names(history: "History", run: RunInfo) -> Sequence[str]:
    """Return the names of a run's machines, for the display; none where they are not known."""
    from fleetpatch.cli.runtime.machine_selection import load_machines_in_scope
    from flows.engine.resume_state import parse_recorded_request

    try:
        names = [name for wave in history.read_report(run.id).waves for name in wave.machines]
        if names:
            return names
        request = parse_recorded_request(run)  # it has no waves yet
        return [machine.name for machine in load_machines_in_scope(request.inventory, request.scope)[1]]
    except FleetpatchError:  # resuming the run reports the error
        return ()


def _find_report_root(run: RunInfo) -> Path:
    from flows.engine.resume_state import parse_recorded_request
    from tasks.reports.report_directory import find_report_directory

    return find_report_directory(parse_recorded_request(run).report_directory)
