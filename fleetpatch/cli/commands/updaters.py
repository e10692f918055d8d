"""updaters status, on and off: the systems' own updaters, compared with the owner of each machine."""

import typer

from fleetpatch.cli.app import (
    ALL_MACHINES,
    AtOnceOption,
    DryRunOption,
    InventoryOption,
    JsonOption,
    RecordsOption,
    ScopeArgument,
    YesOption,
    app,
)
from fleetpatch.cli.runtime.acting_command import ActingCommand
from fleetpatch.cli.runtime.output import print_json_or_text

updaters_app = typer.Typer(
    help="Show the systems' own updaters, and switch them on or off for good.", no_args_is_help=True
)
app.add_typer(updaters_app, name="updaters", rich_help_panel="Patch")


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
        dry_run: DryRunOption = False,
        at_once: AtOnceOption = 20,
        inventory: InventoryOption = None,
        records: RecordsOption = None,
        as_json: JsonOption = False,
    ) -> None:
        from fleetpatch.cli.runtime.machine_order import order_change
        from fleetpatch.cli.views.updaters import SWITCH_FACTS

        order_change(
            f"updaters {verb}",
            f"Switch {verb} the own updaters of {{}}, for good?",
            SWITCH_FACTS,
            scope,
            yes=yes,
            dry_run=dry_run,
            at_once=at_once,
            inventory=inventory,
            records=records,
            as_json=as_json,
        )


for _verb, _description in _SWITCHES.items():
    _add_switch_command(_verb, _description)
