"""undo: take back what an earlier run has installed."""

from pathlib import Path
from typing import Annotated

import typer

from fleetpatch.cli.app import InventoryOption, JsonOption, NoPrefectOption, RecordsOption, RunArgument, YesOption, app
from fleetpatch.cli.runtime.acting_command import ActingCommand
from fleetpatch.cli.runtime.output import confirm
from tasks.domain.states import RebootPolicy, UndoWay


@app.command("undo", cls=ActingCommand, rich_help_panel="Patch")
def undo(
    run: RunArgument,
    machines: Annotated[
        list[str] | None,
        typer.Argument(metavar="MACHINE", help="Machines of the run. Without one: all on which it changed something."),
    ] = None,
    dry_run: Annotated[
        bool,
        typer.Option("--plan", "--dry-run", help="Show what goes back, and why the rest can't. Change nothing."),
    ] = False,
    minutes: Annotated[
        float, typer.Option("--minutes", min=1, max=31 * 24 * 60, help="How long machines may be changed, from now on.")
    ] = 120,
    reboot: Annotated[
        RebootPolicy, typer.Option("--reboot", case_sensitive=False, help="Whether machines are rebooted.")
    ] = RebootPolicy.IF_REQUIRED,
    exclude: Annotated[
        list[str] | None, typer.Option("--exclude", "-x", metavar="MASK", help="Updates that stay. Repeatable.")
    ] = None,
    allow_removals: Annotated[
        bool, typer.Option("--allow-removals", help="Allow that other packages are removed for it.")
    ] = False,
    by: Annotated[
        UndoWay,
        typer.Option(
            "--by",
            case_sensitive=False,
            help="packages, or snapshot: what was written to the OS disks since then is lost. It also goes back over "
            "later runs, and on a machine that does not answer.",
        ),
    ] = UndoWay.PACKAGES,
    yes: YesOption = False,
    no_prefect: NoPrefectOption = False,
    inventory: InventoryOption = None,
    records: RecordsOption = None,
    as_json: JsonOption = False,
) -> None:
    """Take back what a run has installed, by package managers or snapshots: a run of its own, with a plan first."""
    from fleetpatch.cli.runtime.run_lookup import find_run, open_history
    from fleetpatch.cli.runtime.run_session import run_request_in_session
    from fleetpatch.cli.views.run_result import print_result
    from flows.engine.undo_orders import find_undo_order
    from flows.policy.enforcement import build_starter, enforce_policy
    from flows.ports.caller import read_login_name
    from flows.undo import build_undo_request
    from inventory.loader import find_inventory, load_inventory
    from tasks.domain.protocols.clock import SystemClock
    from tasks.records.seals import RUN_KEY, Seals
    from tasks.records.snapshots import SqlSnapshots
    from tasks.reports.report_directory import find_report_directory
    from tasks.rules.undo import describe_losses, describe_new_packages

    history = open_history(records)
    seals = Seals(RUN_KEY, history.database.fleet)
    find_snapshots = SqlSnapshots(history.database, seals).find_of_run
    loaded = load_inventory(find_inventory(inventory))
    request = build_undo_request(
        history,
        find_run(history, run).id,
        machines or (),
        known={machine.name for machine in loaded.machines},
        inventory=loaded.source,
        minutes=minutes,
        reboot=reboot,
        exclude=exclude or (),
        allow_removals=allow_removals,
        dry_run=dry_run,
        by=by,
        find_snapshots=find_snapshots,
    )
    # early, so that nobody is asked in vain
    now = SystemClock().now()
    enforce_policy(request, loaded, build_starter(read_login_name()), now)
    names = request.only_machines
    if not dry_run:
        question = f"Take run {request.undo_of} back on {', '.join(names[:10])}{' …' if len(names) > 10 else ''}?"
        if by is UndoWay.SNAPSHOT:
            snapshots = find_snapshots(history.find_run(request.undo_of))
            question = f"{describe_losses(snapshots, names, now)} {question}"
        elif removed := describe_new_packages(find_undo_order(history, request.undo_of), names):
            question = f"{removed} {question}"
        if not (yes or confirm(question, "undo changes machines and", "Add --yes, or see what goes back: --plan.")):
            return
        report_directory: Path | None = find_report_directory(request.report_directory)
        request = request.model_copy(update={"report_directory": report_directory})
    as_flow = not (no_prefect or dry_run)
    result = run_request_in_session(request, names, as_flow=as_flow, records=records)
    print_result(result, request.report_directory, as_json=as_json, details=True)
    raise typer.Exit(int(result.exit_code))
