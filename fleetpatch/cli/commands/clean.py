"""machines clean: remove what fleetpatch has left on machines."""

from collections.abc import Callable, Sequence
from functools import partial
from typing import TYPE_CHECKING, Annotated

import typer

from fleetpatch.cli.app import InventoryOption, JsonOption, RecordsOption, ScopeArgument, YesOption
from fleetpatch.cli.commands.fleet_status import machines_app
from fleetpatch.cli.runtime.acting_command import ActingCommand
from fleetpatch.cli.runtime.output import confirm, print_json
from inventory.machine import Machine
from inventory.name_lists import format_count

if TYPE_CHECKING:
    from flows.cleaning import CleanResult


@machines_app.command("clean", cls=ActingCommand)
def clean(
    scope: ScopeArgument,
    unknown_runs: Annotated[
        bool,
        typer.Option("--unknown-runs", help="Also where runs were that these records do not know, after you asked."),
    ] = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only show what would be removed.")] = False,
    yes: YesOption = False,
    at_once: Annotated[int, typer.Option("--at-once", min=1, max=200, help="How many machines at a time.")] = 20,
    inventory: InventoryOption = None,
    records: RecordsOption = None,
    as_json: JsonOption = False,
) -> None:
    """Remove what fleetpatch has left on machines: jobs, locks, notes, the broker. Shows it first, and asks."""
    from fleetpatch.cli.runtime.exit_codes import to_act_exit_code
    from fleetpatch.cli.runtime.machine_selection import load_machines_in_scope, open_machines
    from fleetpatch.cli.views.clean import build_clean_json, print_clean_results
    from flows.cleaning import BAD_STATES, CleanOrder, CleanState, clean_machines, look_at_machines
    from tasks.records.setup import open_records

    machines = load_machines_in_scope(inventory, scope)[1]

    def act(work: "Callable[..., tuple[CleanResult, ...]]", chosen: Sequence[Machine]) -> "tuple[CleanResult, ...]":
        with open_records(records) as database, open_machines(chosen, inventory, scope, records, "clean") as (ports, _):
            return work(machines, ports, CleanOrder(database.database, unknown_runs, at_once))

    results = act(look_at_machines, machines)
    planned = {result.machine: result for result in results if result.state is CleanState.TO_BE_CLEANED}
    if not as_json:
        print_clean_results(results)
    if planned and not dry_run:
        question = f"Remove that from {format_count(len(planned), 'machine')}?"
        if not (yes or confirm(question, "machines clean", "Add --yes, or --dry-run.")):
            return
        known_results = {result.machine: result for result in results}
        results = act(
            partial(clean_machines, known_results), [machine for machine in machines if machine.name in planned]
        )
        if not as_json:
            print_clean_results([result for result in results if result.machine in planned])
    if as_json:
        print_json(build_clean_json(results, dry_run=dry_run))
    raise typer.Exit(int(to_act_exit_code((result.state for result in results), BAD_STATES, CleanState.REFUSED)))
