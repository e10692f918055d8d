"""updaters status, on and off: the systems' own updaters, compared with the owner of each machine."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from fleetpatch.cli.app import (
    ALL_MACHINES,
    AtOnceOption,
    InventoryOption,
    JsonOption,
    RecordsOption,
    ScopeArgument,
    YesOption,
    app,
)
from fleetpatch.cli.runtime.acting_command import ActingCommand
from fleetpatch.cli.runtime.output import confirm, print_json, print_json_or_text, print_to_stdout, shorten_list
from inventory.name_lists import format_count

if TYPE_CHECKING:
    from collections.abc import Sequence

    from flows.orders.carrying_out import ChangeResult
    from inventory.machine import Machine
    from tasks.rules.own_updaters import UpdaterAction

updaters_app = typer.Typer(
    help="Show the systems' own updaters, and switch them on or off for good.", no_args_is_help=True
)
app.add_typer(updaters_app, name="updaters", rich_help_panel="Patch")
_MAX_NAMES = 5


@updaters_app.command("status")
def show_status(
    scope: ScopeArgument = ALL_MACHINES,
    inventory: InventoryOption = None,
    records: RecordsOption = None,
    as_json: JsonOption = False,
) -> None:
    """List who patches machines and whether they update themselves, by the last assessment. Contacts no machine."""
    from fleetpatch.cli.commands.fleet_status import read_machine_rows
    from fleetpatch.cli.runtime.exit_codes import ExitCode
    from fleetpatch.cli.runtime.machine_selection import load_machines_in_scope
    from fleetpatch.cli.views.updaters import build_status_json, print_statuses
    from tasks.domain.protocols.clock import SystemClock

    machines = load_machines_in_scope(inventory, scope)[1]
    rows = read_machine_rows(machines, records, SystemClock().now())
    print_json_or_text(as_json, build_status_json, print_statuses, rows)
    if any(row.own_updaters is None or row.updater_drift for row in rows):
        raise typer.Exit(int(ExitCode.WARNINGS))


_SWITCHES = {
    "on": "Switch the own updaters of machines on, by the means of their vendor. Their owner must be `os`.",
    "off": "Switch the own updaters of machines off for good. Their owner must be `fleetpatch` or `managed`.",
}
"""The verbs that change machines, with their help."""


def _add_switch_command(verb: str, description: str) -> None:
    @updaters_app.command(verb, cls=ActingCommand, help=description)
    def switch(
        scope: ScopeArgument,
        yes: YesOption = False,
        dry_run: Annotated[
            bool, typer.Option("--dry-run", help="Show what would be done. Machines are only read.")
        ] = False,
        at_once: AtOnceOption = 20,
        inventory: InventoryOption = None,
        records: RecordsOption = None,
        as_json: JsonOption = False,
    ) -> None:
        from fleetpatch.cli.runtime.exit_codes import to_act_exit_code
        from fleetpatch.cli.runtime.machine_selection import load_machines_in_scope
        from fleetpatch.cli.runtime.row_table import build_list_table
        from fleetpatch.cli.views.updaters import SWITCH_FACTS, build_switch_json
        from tasks.domain.states import ChangeState
        from tasks.rules.own_updaters import UpdaterAction

        machines = load_machines_in_scope(inventory, scope)[1]
        names = [machine.name for machine in machines]
        whom = f"{format_count(len(names), 'machine')} ({', '.join(shorten_list(names, _MAX_NAMES))})"
        question = f"Switch {verb} the own updaters of {whom}, for good?"
        subject = f"updaters {verb} changes machines and"
        if not (yes or dry_run or confirm(question, subject, "Add --yes, or --dry-run.")):
            return
        results = _run_switch(UpdaterAction(verb), machines, inventory, scope, records, at_once, dry_run=dry_run)
        if as_json:
            print_json(build_switch_json(verb, results, dry_run=dry_run))
        else:
            print_to_stdout(build_list_table(SWITCH_FACTS, results))
        states = [result.state for result in results]
        raise typer.Exit(int(to_act_exit_code(states, [ChangeState.FAILED], ChangeState.REFUSED)))


for _verb, _description in _SWITCHES.items():
    _add_switch_command(_verb, _description)


def _run_switch(
    action: "UpdaterAction",
    machines: "Sequence[Machine]",
    inventory: Path | None,
    scope: str,
    records: str | None,
    at_once: int,
    *,
    dry_run: bool,
) -> "tuple[ChangeResult, ...]":
    from fleetpatch.cli.runtime.machine_selection import open_machines
    from flows.engine.run_info import build_run_id
    from flows.orders.carrying_out import Order
    from flows.policy.enforcement import enforce_act_policy
    from flows.ports.caller import Caller, find_starter_name
    from flows.updaters import switch_updaters
    from tasks.records.machine_orders import SqlMachineOrders
    from tasks.records.setup import open_records
    from tasks.rules.own_updaters import build_switch_act
    from tasks.rules.policy.model import RiskyOption

    with (
        open_records(records) as database,
        open_machines(machines, inventory, scope, records, "updaters") as (ports, opened_machines),
    ):
        now, journal = ports.clock.now(), SqlMachineOrders(database.database)
        starter = find_starter_name(Caller())
        order = Order(build_run_id(now), build_switch_act(action), starter, journal, dry_run, at_once)
        if not dry_run:
            policies = ports.read_deployed_policies()
            enforce_act_policy(RiskyOption.OWN_UPDATERS, opened_machines, ports.inventory, now, policies)
        return switch_updaters(action, opened_machines, ports, order)
