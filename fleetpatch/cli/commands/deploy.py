"""deploy: write maintenance configurations to Prefect, and undo manual changes there."""

from typing import Annotated

import typer

from fleetpatch.cli.app import ConfigurationsArgument, InventoryOption, JsonOption, app
from fleetpatch.cli.runtime.acting_command import ActingCommand
from fleetpatch.cli.runtime.completion import complete_fleet
from fleetpatch.cli.runtime.exit_codes import ExitCode
from fleetpatch.cli.runtime.output import confirm, print_json, print_to_stderr, print_unwrapped
from inventory.name_lists import format_count


@app.command("deploy", cls=ActingCommand, rich_help_panel="Schedule")
def deploy(
    path: ConfigurationsArgument = None,
    inventory: InventoryOption = None,
    fleet: Annotated[
        str,
        typer.Option(
            "--fleet",
            metavar="NAME",
            envvar="FLEETPATCH_FLEET",
            autocompletion=complete_fleet,
            help="Names this set of configurations on its Prefect server, and its records.",
        ),
    ] = "default",
    pool: Annotated[
        str, typer.Option("--pool", metavar="NAME", help="Work pool whose workers execute the runs.")
    ] = "fleetpatch",
    check: Annotated[
        bool, typer.Option("--check", help="Only show what differs; exit code 3 if something does.")
    ] = False,
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Make the changes without asking.")] = False,
    unpause: Annotated[
        bool, typer.Option("--unpause", help="With --yes: also lift pauses that a person set in Prefect.")
    ] = False,
    prune: Annotated[bool, typer.Option("--prune/--no-prune", help="Remove what no configuration has any more.")] = (
        True
    ),
    remove: Annotated[
        bool, typer.Option("--remove", help="Remove all that deploy made for this fleet; needs no configurations.")
    ] = False,
    serve: Annotated[bool, typer.Option("--serve", help="Then run a worker on this machine until stopped.")] = False,
    as_json: JsonOption = False,
) -> None:
    """Write maintenance configurations to Prefect: deployments, schedules, work pool, automations."""
    from prefect.settings import get_current_settings

    from deployments.refresh_schedules import refresh_schedules
    from deployments.server.client import open_server_client
    from deployments.sync.model import ChangeAction
    from deployments.sync.next_windows import find_run_statuses
    from deployments.sync.plan import CLIENT_RETRIES, build_plan, is_policy_recorded, record_policy, require_fleet_name
    from deployments.worker.worker_process import run_worker
    from fleetpatch.cli.views import deploy as view
    from flows.policy.policy_file import load_policy
    from tasks.domain.protocols.clock import SystemClock

    if remove:
        _remove(require_fleet_name(fleet), pool, check=check, yes=yes, as_json=as_json)
        return
    with open_server_client(CLIENT_RETRIES) as client:
        plan = build_plan(
            client,
            path,
            inventory,
            fleet=require_fleet_name(fleet),
            pool=pool,
            refresh_flow=refresh_schedules,
            prune=prune,
            lifts_pauses=check or unpause or not yes,
        )
        blocking_findings = plan.find_blocking_findings()
        policy = load_policy(plan.now.date(), plan.configurations.source_path)
        is_recorded = is_policy_recorded(fleet, policy)
        if as_json:
            print_json(view.build_plan_json(plan, blocking_findings, is_policy_recorded=is_recorded))
        else:
            view.print_deploy_plan(plan, blocking_findings)
        if check:
            view.print_remarks(plan, is_policy_recorded=is_recorded)
            is_good = plan.is_up_to_date and is_recorded and not blocking_findings and not plan.is_over
            raise typer.Exit(int(ExitCode.SUCCESS if is_good else ExitCode.WARNINGS))
        if not plan.is_up_to_date:
            plan.require_no_blocking_findings(blocking_findings)
            count = sum(change.action is not ChangeAction.KEEP for change in plan.changes)
            if not (yes or _confirm_changes(count)):
                return
            with view.report_changes(count) as report_change:
                plan.apply(client, report_change)
        if record_policy(fleet, policy):
            view.print_recorded_policy(policy)
        if not as_json:
            now = SystemClock().now()
            next_windows = plan.find_next_windows(now)
            view.print_next_windows(plan, next_windows, find_run_statuses(client, next_windows, SystemClock().now), now)
            pools = [desired.name for desired in plan.desired.pools]
            view.print_run_location(pools, get_current_settings().ui_url, serve=serve)
    if serve:
        code = run_worker(pool, plan.default_inventory, plan.configurations.source_path)
        print_to_stderr(
            "Stopped. Jobs on machines keep running. The next `fleetpatch deploy --serve` continues interrupted runs "
            "within minutes. `fleetpatch runs` lists them."
        )
        raise typer.Exit(code)
    raise typer.Exit(int(ExitCode.WARNINGS if plan.is_over else ExitCode.SUCCESS))


def _remove(fleet: str, pool: str, *, check: bool, yes: bool, as_json: bool) -> None:
    """Remove all that deploy made for a fleet, after a question."""
    from deployments.server.client import open_server_client
    from deployments.sync.actual_state import read_actual_state
    from deployments.sync.change_applier import apply_changes
    from deployments.sync.diff import find_changes
    from deployments.sync.model import DeploymentSet
    from deployments.sync.plan import CLIENT_RETRIES
    from fleetpatch.cli.runtime.row_table import build_list_json
    from fleetpatch.cli.views import deploy as view

    with open_server_client(CLIENT_RETRIES) as client:
        actual = read_actual_state(client, fleet, [pool])
        changes = find_changes(DeploymentSet(), actual)
        if as_json:
            print_json({"up_to_date": not changes, "changes": build_list_json(view.CHANGE_FACTS, changes)})
        else:
            view.print_changes(changes)
            if not changes:
                print_unwrapped(f"Prefect has nothing of the fleet {fleet}.")
        if check:
            raise typer.Exit(int(ExitCode.WARNINGS if changes else ExitCode.SUCCESS))
        if changes:
            if not (yes or _confirm_changes(len(changes))):
                return
            with view.report_changes(len(changes)) as report_change:
                apply_changes(client, changes, DeploymentSet(), actual, report_change)
    if not as_json:
        print_to_stderr(
            "The work pools, finished flow runs, Secret blocks and the records stay (docs/how-to/uninstall.md)."
        )


def _confirm_changes(count: int) -> bool:
    """Ask the person at the terminal for confirmation. RequestError: there is no terminal."""
    question = f"Make {'this change' if count == 1 else f'these {count} changes'}?"
    subject = f"to make {format_count(count, 'change')} in Prefect"
    return confirm(question, subject, "Add --yes to confirm them, or --check to see what differs.")
