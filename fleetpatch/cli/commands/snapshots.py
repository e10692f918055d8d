"""snapshots: list the snapshots of machines, adopt and delete those that runs have taken."""

from typing import Annotated

import typer

from fleetpatch.cli.app import ALL_MACHINES, InventoryOption, JsonOption, RecordsOption, ScopeArgument, YesOption, app
from fleetpatch.cli.runtime.acting_command import ActingCommand
from fleetpatch.cli.runtime.output import confirm, print_json, print_json_or_text, print_to_stderr
from inventory.errors import FleetpatchError

snapshots_app = typer.Typer(help="List, adopt and delete snapshots that runs take.", no_args_is_help=True)
app.add_typer(snapshots_app, name="snapshots", rich_help_panel="Patch")


@snapshots_app.command("list")
def list_snapshots(
    scope: ScopeArgument = ALL_MACHINES,
    inventory: InventoryOption = None,
    records: RecordsOption = None,
    as_json: JsonOption = False,
) -> None:
    """List the snapshots of machines, as their providers have them: those of runs, and those of others."""
    from fleetpatch.cli.runtime.exit_codes import ExitCode
    from fleetpatch.cli.runtime.machine_selection import load_machines_in_scope, open_machines
    from fleetpatch.cli.views.snapshots import build_snapshots_json, print_snapshots
    from flows.snapshots import FORGOTTEN, Standing, look_at_snapshots, open_snapshots
    from tasks.records.setup import open_records

    machines = load_machines_in_scope(inventory, scope)[1]
    with (
        open_records(records) as database,
        open_machines(machines, inventory, scope, records, "snapshots") as (ports, chosen),
    ):
        seen = look_at_snapshots(chosen, ports, open_snapshots(database))
    print_json_or_text(as_json, build_snapshots_json, print_snapshots, seen)
    standings = {snapshot.standing for snapshot in seen}
    code = ExitCode.WARNINGS if standings & FORGOTTEN else ExitCode.SUCCESS
    raise typer.Exit(int(ExitCode.MACHINE_FAILED if Standing.TAKEN_BACK in standings else code))


@snapshots_app.command("adopt", cls=ActingCommand)
def adopt(
    scope: ScopeArgument,
    as_it_is: Annotated[
        bool, typer.Option("--as-it-is", help="The machine is right, also where somebody has taken something back.")
    ] = False,
    keep_days: Annotated[float, typer.Option(help="Days after which an adopted snapshot is deleted.", min=0)] = 3.0,
    yes: YesOption = False,
    inventory: InventoryOption = None,
    records: RecordsOption = None,
    as_json: JsonOption = False,
) -> None:
    """Record snapshots of runs that these records do not have, and end what somebody has taken back."""
    from datetime import timedelta

    from fleetpatch.cli.runtime.exit_codes import to_act_exit_code
    from fleetpatch.cli.runtime.machine_selection import load_machines_in_scope, open_machines
    from fleetpatch.cli.views.snapshots import print_results
    from flows.policy.enforcement import enforce_act_policy
    from flows.snapshots import AdoptionState, adopt_snapshots, open_snapshots
    from tasks.records.setup import open_records
    from tasks.rules.policy.model import RiskyOption

    machines = load_machines_in_scope(inventory, scope)[1]
    question = f"Adopt the snapshots of {scope}{' as its machines are now' if as_it_is else ''}?"
    if not (yes or confirm(question, "snapshots adopt")):
        return
    with (
        open_records(records) as database,
        open_machines(machines, inventory, scope, records, "snapshots") as (ports, chosen),
    ):
        if as_it_is:  # without it, nothing is given up
            act, policies = RiskyOption.DELETE_SNAPSHOTS, ports.read_deployed_policies()
            enforce_act_policy(act, chosen, ports.inventory, ports.clock.now(), policies)
        keep, store = timedelta(days=keep_days), open_snapshots(database)
        adoptions = tuple(adopt_snapshots(chosen, ports, store, keep, as_it_is=as_it_is))
    print_results(adoptions, as_json=as_json)
    states = [adoption.state for adoption in adoptions]
    raise typer.Exit(int(to_act_exit_code(states, {AdoptionState.FAILED}, AdoptionState.REFUSED)))


@snapshots_app.command("delete", cls=ActingCommand)
def delete(
    scope: ScopeArgument,
    expired: Annotated[bool, typer.Option("--expired", help="Only those whose time is over.")] = False,
    unrecorded: Annotated[
        bool, typer.Option("--unrecorded", help="Those of runs that these records do not have, and no others.")
    ] = False,
    only: Annotated[
        list[str] | None, typer.Option("--snapshot", metavar="ID", help="Only this snapshot. Repeatable.")
    ] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only show what would be deleted.")] = False,
    yes: YesOption = False,
    inventory: InventoryOption = None,
    records: RecordsOption = None,
    as_json: JsonOption = False,
) -> None:
    """Delete snapshots that runs have taken: none of others, and none that an unfinished run may need."""
    from datetime import timedelta
    from functools import partial

    from fleetpatch.cli.runtime.exit_codes import to_act_exit_code
    from fleetpatch.cli.runtime.machine_selection import load_machines_in_scope, open_machines
    from fleetpatch.cli.views.snapshots import print_results, print_rows
    from flows.policy.enforcement import enforce_act_policy
    from flows.snapshots import DeletionState, delete_snapshots, find_unrecorded, open_snapshots, record_found
    from tasks.domain.protocols.clock import SystemClock
    from tasks.domain.rows.snapshots import SnapshotRow
    from tasks.records.queries.runs import find_runs_in_need
    from tasks.records.setup import open_records
    from tasks.rules.policy.model import RiskyOption

    machines = load_machines_in_scope(inventory, scope)[1]
    names = {machine.name for machine in machines}
    with open_records(records) as database:
        store = open_snapshots(database)
        if unrecorded:
            known: list[SnapshotRow] = []
            with open_machines(machines, inventory, scope, records, "snapshots") as (ports, opened_machines):
                for machine in opened_machines:
                    try:
                        known += find_unrecorded(machine, ports, store, timedelta()) if machine.provider else ()
                    except FleetpatchError as error:  # of one machine; the others have theirs
                        print_to_stderr(f"{machine.name}: {error.message}")
        else:
            known = list(store.find_expired(SystemClock().now()) if expired else store.read_open())
        rows = [row for row in known if row.machine in names and (not only or row.snapshot in only)]
        if not rows or dry_run:
            print_json({"snapshots": [row.snapshot for row in rows]}) if as_json else print_rows(rows)
            return
        if not as_json:
            print_rows(rows)
        if not (yes or confirm("Delete them?", "snapshots delete", "Add --yes, or --dry-run.")):
            return
        with open_machines(machines, inventory, scope, records, "snapshots") as (ports, opened_machines):
            concerned = {row.machine for row in rows}
            changed = [machine for machine in opened_machines if machine.name in concerned]
            act, policies = RiskyOption.DELETE_SNAPSHOTS, ports.read_deployed_policies()
            enforce_act_policy(act, changed, ports.inventory, ports.clock.now(), policies)
            rows = [row for row in rows if not unrecorded or record_found(row, ports, store)]
            deletions = delete_snapshots(rows, ports, store, partial(find_runs_in_need, database.database))
    print_results(deletions, as_json=as_json)
    states = [deletion.state for deletion in deletions]
    raise typer.Exit(int(to_act_exit_code(states, {DeletionState.FAILED}, DeletionState.REFUSED)))
