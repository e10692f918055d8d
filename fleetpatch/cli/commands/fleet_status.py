"""machines and updates: the state of the fleet by the latest assessments. Contacts no machine."""

from collections.abc import Sequence
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Final, Literal

import typer
from typer.core import TyperGroup

from fleetpatch.cli.app import ALL_MACHINES, InventoryOption, JsonOption, RecordsOption, ScopeArgument, app
from fleetpatch.cli.runtime.output import print_json
from inventory.machine import Machine
from tasks.domain.protocols.clock import SystemClock

if TYPE_CHECKING:
    from tasks.domain.rows.machines import MachineRow

PANEL = "Look"


class _MachinesGroup(TyperGroup):
    """``machines SCOPE`` lists, and ``machines clean SCOPE`` cleans."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:  # noqa: ANN401 - Typer has its own copy of click
        """Take everything but the name of another command for words of the list."""
        return super().parse_args(ctx, args if args and args[0] in self.commands else [_LIST, *args])


_LIST: Final = "list"
machines_app = typer.Typer(
    cls=_MachinesGroup, help="List the compliance of machines; or with `clean`, remove what fleetpatch left on them."
)
app.add_typer(machines_app, name="machines", rich_help_panel=PANEL)


@machines_app.command(_LIST, epilog="`fleetpatch machines clean SCOPE` removes what fleetpatch has left on machines.")
def list_machines(
    scope: ScopeArgument = ALL_MACHINES,
    columns: Annotated[
        str | None,
        typer.Option(
            "--columns", metavar="NAMES", help="The columns to show, with commas: name,os_name,last_run.state"
        ),
    ] = None,
    inventory: InventoryOption = None,
    records: RecordsOption = None,
    as_json: JsonOption = False,
) -> None:
    """List the compliance of machines, from the last assessment. Contacts no machine."""
    from fleetpatch.cli.runtime.row_table import parse_columns
    from fleetpatch.cli.views.fleet_status import print_machine_table
    from tasks.domain.rows.machines import MachineRow
    from tasks.reports.export.tabular_formats import build_row_json

    chosen = parse_columns(MachineRow, columns) if columns is not None else ()
    now = SystemClock().now()
    rows = read_machine_rows(_load_machines(scope, inventory), records, now)
    if as_json:
        print_json({"machines": [build_row_json(row) for row in rows]})
    else:
        print_machine_table(rows, now, chosen)


@app.command("updates", rich_help_panel=PANEL)
def list_updates(
    scope: ScopeArgument = ALL_MACHINES,
    by: Annotated[
        Literal["machine", "update"],
        typer.Option("--by", help="One line for each update, or for each update of each machine."),
    ] = "update",
    urgent: Annotated[bool, typer.Option("--urgent", help="Only critical and security updates.")] = False,
    inventory: InventoryOption = None,
    records: RecordsOption = None,
    as_json: JsonOption = False,
) -> None:
    """List missing updates, from the last assessment. Contacts no machine."""
    from fleetpatch.cli.runtime.run_lookup import open_history
    from fleetpatch.cli.views.fleet_status import (
        print_missing_by_machine,
        print_missing_by_update,
        print_missing_json,
        select_missing_updates,
    )
    from tasks.records.queries.machines import read_missing_since
    from tasks.records.queries.newest_assessments import read_missing_updates

    machines = _load_machines(scope, inventory)
    database = open_history(records).database
    missing_updates = select_missing_updates(machines, read_missing_updates(database), urgent=urgent)
    if as_json:
        print_missing_json(missing_updates, read_missing_since(database, list(missing_updates)))
    elif by == "machine":
        print_missing_by_machine(missing_updates, machines)
    else:
        print_missing_by_update(missing_updates, machines)


def read_machine_rows(machines: Sequence[Machine], records: str | None, now: datetime) -> "list[MachineRow]":
    """Return the rows of machines. Their configurations are not read: a page or the calendar shows these."""
    from fleetpatch.cli.runtime.run_lookup import open_history
    from flows.hotpatch.baseline_file import load_baseline_calendar
    from tasks.records.hotpatch_enrolments import SqlHotpatchEnrolments
    from tasks.records.machine_orders import SqlMachineOrders
    from tasks.records.machine_rows import build_machine_row
    from tasks.records.queries.machines import read_last_runs, read_machine_states

    database = open_history(records).database
    states, last_runs = read_machine_states(database), read_last_runs(database)
    enrolments = SqlHotpatchEnrolments(database).read_requests([machine.name for machine in machines])
    baselines, switches = load_baseline_calendar(), SqlMachineOrders(database).read_switches()
    return [
        build_machine_row(
            machine.name,
            machine,
            states.get(machine.name),
            now,
            plans=None,
            last_run=last_runs.get(machine.name),
            enrolment_request=enrolments.get(machine.name),
            updater_request=switches.get(machine.name),
            baselines=baselines,
        )
        for machine in machines
    ]


def _load_machines(scope: str, inventory: Path | None) -> Sequence[Machine]:
    """Return the machines of a scope."""
    from fleetpatch.cli.runtime.machine_selection import load_machines_in_scope

    _, machines = load_machines_in_scope(inventory, scope)
    return machines
