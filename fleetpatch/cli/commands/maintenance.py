"""maintenance list, show and apply: what is held for groups of machines, as one package each."""

from typing import TYPE_CHECKING, Annotated

import typer

from fleetpatch.cli.app import ConfigurationsOption, InventoryOption, JsonOption, RecordsOption, YesOption, app
from fleetpatch.cli.runtime.acting_command import ActingCommand
from fleetpatch.cli.runtime.output import confirm, print_json_or_text
from inventory.name_lists import format_count

if TYPE_CHECKING:
    from datetime import datetime
    from pathlib import Path

    from deployments.maintenance.groups import HoldGroup, HoldGroups
    from fleetpatch.cli.runtime.exit_codes import ExitCode
    from fleetpatch.cli.runtime.run_session import RunResult
    from tasks.records.maintenance import GroupRecord

maintenance_app = typer.Typer(
    help="Show what configurations hold, and apply it before its last day.", no_args_is_help=True
)
app.add_typer(maintenance_app, name="maintenance", rich_help_panel="Patch")

GroupsArgument = Annotated[
    list[str], typer.Argument(metavar="GROUP...", help="Configurations that hold updates, or their parts in one zone.")
]
GroupArgument = Annotated[str, typer.Argument(metavar="GROUP", help="A configuration, or its part in one time zone.")]


@maintenance_app.command("list")
def list_held(
    config: ConfigurationsOption = None,
    inventory: InventoryOption = None,
    records: RecordsOption = None,
    as_json: JsonOption = False,
) -> None:
    """List what is held for each group: its contents, its age and its last day. Contacts no machine."""
    from deployments.maintenance.overview import build_held_rows, need_people
    from fleetpatch.cli.runtime.exit_codes import ExitCode
    from fleetpatch.cli.views.maintenance import build_held_json, print_held

    groups, now = _load_groups(config, inventory)
    rows = build_held_rows(_read_records(records, groups, now), groups, now)
    unknown = groups.problems
    print_json_or_text(as_json, build_held_json, print_held, rows, unknown, now)
    if need_people(rows, now) or unknown:
        raise typer.Exit(int(ExitCode.WARNINGS))


@maintenance_app.command("show")
def show_held(
    group: GroupArgument,
    config: ConfigurationsOption = None,
    inventory: InventoryOption = None,
    records: RecordsOption = None,
    as_json: JsonOption = False,
) -> None:
    """Show what is held for a group, update by update. Contacts no machine."""
    from deployments.maintenance.overview import build_held_rows, select_groups
    from fleetpatch.cli.views.maintenance import build_packages_json, print_packages
    from tasks.records.maintenance_rows import build_update_rows

    groups, now = _load_groups(config, inventory)
    names = {chosen.name for chosen in select_groups(groups, [group])}
    stored = _read_records(records, groups, now)
    rows = [row for row in build_held_rows(stored, groups, now) if row.name in names]
    packages = [(row, build_update_rows(stored.get(row.name))) for row in rows]
    print_json_or_text(as_json, build_packages_json, print_packages, packages, now)


@maintenance_app.command("apply", cls=ActingCommand)
def apply_held(
    groups: GroupsArgument,
    yes: YesOption = False,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Show what the runs would do. Machines are only read.")
    ] = False,
    no_prefect: Annotated[
        bool, typer.Option("--no-prefect", help="Run without Prefect. Prefect's UI does not show it.")
    ] = False,
    config: ConfigurationsOption = None,
    inventory: InventoryOption = None,
    records: RecordsOption = None,
    as_json: JsonOption = False,
) -> None:
    """Apply what is held for groups now, outside of their windows: one run for each, one after the other."""
    from deployments.maintenance.overview import require_applicable, select_groups
    from fleetpatch.cli.runtime.exit_codes import find_worst_exit_code

    loaded, now = _load_groups(config, inventory)
    chosen, stored = select_groups(loaded, groups), _read_records(records, loaded, now)
    for group in chosen:  # all of them before the first one begins
        require_applicable(group, stored.get(group.name), now)
    subject = f"applying what is held for {', '.join(group.name for group in chosen)}"
    hint = "Add --yes, or see what would be done: --dry-run."
    count = len({machine.name for group in chosen for machine in group.machines})
    question = f"Apply what is held on {format_count(count, 'machine')} now?"
    if not (yes or dry_run or confirm(question, subject, hint)):
        return
    codes: list[ExitCode] = []
    for group in chosen:
        result = _apply(group, records, dry_run=dry_run, no_prefect=no_prefect, as_json=as_json)
        codes.append(result.exit_code)
        if result.was_interrupted:
            break
    raise typer.Exit(int(find_worst_exit_code(codes)))


@maintenance_app.command("forget", cls=ActingCommand)
def forget_held(group: GroupArgument, yes: YesOption = False, records: RecordsOption = None) -> None:
    """Forget the packages of a group, so that its time counts anew: after its rows were changed in the database."""
    from fleetpatch.cli.runtime.output import print_to_stdout
    from tasks.records.maintenance import SqlMaintenance
    from tasks.records.setup import open_records

    question = f"Forget what is held for {group}? Its last day begins anew."
    if not (yes or confirm(question, "forgetting what is held", "Add --yes.")):
        return
    with open_records(records) as opened:
        is_forgotten = SqlMaintenance(opened.database).forget_packages(group)
    print_to_stdout(f"{group}: forgotten" if is_forgotten else f"{group}: nothing was held")


def _apply(group: "HoldGroup", records: str | None, *, dry_run: bool, no_prefect: bool, as_json: bool) -> "RunResult":
    from deployments.maintenance.run_starter import build_apply_request
    from fleetpatch.cli.runtime.run_session import run_request_in_session
    from fleetpatch.cli.views.run_result import print_result
    from tasks.reports.report_directory import find_report_directory

    request = build_apply_request(group)
    changes: dict[str, object] = {"dry_run": True}
    if not dry_run:
        changes = {"report_directory": find_report_directory(request.report_directory)}
    request = request.model_copy(update=changes)
    names = [machine.name for machine in group.machines]
    result = run_request_in_session(request, names, as_flow=not (no_prefect or dry_run), records=records)
    print_result(result, request.report_directory, as_json=as_json)
    return result


def _load_groups(config: "Path | None", inventory: "Path | None") -> "tuple[HoldGroups, datetime]":
    from deployments.configuration.loader import find_configurations, load_configurations
    from deployments.configuration.model import load_inventories
    from deployments.maintenance.groups import build_groups
    from tasks.domain.protocols.clock import SystemClock

    now = SystemClock().now()
    configurations = load_configurations(find_configurations(config), now.date())
    return build_groups(configurations, load_inventories(configurations, inventory)), now


def _read_records(records: str | None, groups: "HoldGroups", now: "datetime") -> "dict[str, GroupRecord]":
    from deployments.maintenance.group_view import read_records
    from fleetpatch.cli.runtime.run_lookup import open_history

    return read_records(open_history(records).database, groups, now)
