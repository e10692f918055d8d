"""components: list the components of machines, upgrade them, and choose which ones are upgraded by themselves."""

from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from fleetpatch.cli.app import (
    ALL_MACHINES,
    InventoryOption,
    JsonOption,
    NoPrefectOption,
    RecordsOption,
    ScopeArgument,
    YesOption,
    app,
)
from fleetpatch.cli.runtime.acting_command import ActingCommand
from fleetpatch.cli.runtime.output import confirm, print_json, print_json_or_text, print_to_stdout

if TYPE_CHECKING:
    from collections.abc import Iterator

    from flows.components.overview import ComponentKnowledge
    from inventory.machine import Inventory, Machine

components_app = typer.Typer(
    help="Upgrade components (agents, exporters, applications) that components.yaml describes.", no_args_is_help=True
)
app.add_typer(components_app, name="components", rich_help_panel="Patch")

ComponentArgument = Annotated[
    str, typer.Argument(metavar="COMPONENT", help="The name of a component in components.yaml.")
]
OptionalComponentArgument = Annotated[
    str | None,
    typer.Argument(metavar="COMPONENT", help="A component. Without one: all that are enrolled, one after the other."),
]
ToOption = Annotated[
    str | None,
    typer.Option(
        "--to", metavar="VERSION", help="The version that they get, also of another major version. Default: by itself."
    ),
]
MinutesOption = Annotated[
    float, typer.Option("--minutes", min=1, max=31 * 24 * 60, help="How long the run of a component may take.")
]
_DEFAULT_MINUTES = 720.0


@components_app.command("list")
def list_components(
    scope: ScopeArgument = ALL_MACHINES,
    inventory: InventoryOption = None,
    records: RecordsOption = None,
    as_json: JsonOption = False,
) -> None:
    """List the components of machines, from their last assessment. Contacts no machine."""
    from fleetpatch.cli.runtime.exit_codes import ExitCode
    from fleetpatch.cli.views.components import build_rows_json, print_rows
    from flows.components.overview import build_component_rows, count_unsettled
    from tasks.domain.protocols.clock import SystemClock

    with _open_fleet(inventory, scope, records) as (knowledge, _, machines):
        rows = list(build_component_rows(knowledge, machines, SystemClock().now()))
        print_json_or_text(as_json, build_rows_json, print_rows, rows, knowledge.catalogue.path)
    if count_unsettled(rows):
        raise typer.Exit(int(ExitCode.WARNINGS))


@components_app.command("plan")
def plan(
    component: OptionalComponentArgument = None,
    scope: ScopeArgument = ALL_MACHINES,
    to: ToOption = None,
    minutes: MinutesOption = _DEFAULT_MINUTES,
    inventory: InventoryOption = None,
    records: RecordsOption = None,
    as_json: JsonOption = False,
) -> None:
    """Show what upgrade would do: which machines, in which batches, and why not. Changes nothing."""
    _upgrade(component, scope, to, minutes, inventory, records, as_json=as_json, as_flow=False, dry_run=True)


@components_app.command("upgrade", cls=ActingCommand)
def upgrade(
    component: OptionalComponentArgument = None,
    scope: ScopeArgument = ALL_MACHINES,
    to: ToOption = None,
    minutes: MinutesOption = _DEFAULT_MINUTES,
    yes: YesOption = False,
    no_prefect: NoPrefectOption = False,
    inventory: InventoryOption = None,
    records: RecordsOption = None,
    as_json: JsonOption = False,
) -> None:
    """Upgrade a component on machines, or all that are enrolled: canaries first, in batches, with the way back."""
    what = f"the component {component}" if component else "all enrolled components"
    subject = "components upgrade changes machines and"
    if not (yes or confirm(f"Upgrade {what} in {scope}?", subject, "Add --yes, or see: fleetpatch components plan.")):
        return
    _upgrade(component, scope, to, minutes, inventory, records, as_json=as_json, as_flow=not no_prefect, dry_run=False)


_ENROLMENTS = {
    "enroll": "Let minor versions of a component come by themselves on the machines of a scope.",
    "unenroll": "End an enrolment. The scope is the text with which it was enrolled: `components list` shows it.",
}
"""The verbs that change enrolments, with their help."""


def _add_enrolment_command(verb: str, description: str) -> None:
    @components_app.command(verb, cls=ActingCommand, help=description)
    def change(
        component: ComponentArgument,
        scope: ScopeArgument,
        inventory: InventoryOption = None,
        records: RecordsOption = None,
        as_json: JsonOption = False,
    ) -> None:
        from flows.components.enrolments import enrol, unenrol
        from flows.ports.caller import Caller, find_starter_name
        from tasks.domain.components import ComponentEnrolment
        from tasks.domain.protocols.clock import SystemClock
        from tasks.records.components import SqlComponents
        from tasks.records.setup import open_records

        is_end = verb == "unenroll"
        with _open_fleet(inventory, ALL_MACHINES, records) as (knowledge, fleet, _), open_records(records) as opened:
            store = SqlComponents(opened.database)
            if is_end:
                message = unenrol(store, component, scope)
            else:
                now, starter = SystemClock().now(), find_starter_name(Caller())
                enrolment = ComponentEnrolment(component, scope.strip(), starter, now)
                message = enrol(store, knowledge.catalogue, fleet, enrolment)
        print_json_or_text(
            as_json,
            lambda: {"componentName": component, "scope": scope, "enrolled": not is_end, "message": message},
            lambda: print_to_stdout(message),
        )


for _verb, _description in _ENROLMENTS.items():
    _add_enrolment_command(_verb, _description)


@components_app.command("schema")
def print_components_schema() -> None:
    """Print the JSON Schema of components.yaml, for editors."""
    from flows.components.component_file import ComponentFileForm

    print_json(ComponentFileForm.build_file_schema("components"))


@contextmanager
def _open_fleet(
    inventory: Path | None, scope: str, records: str | None
) -> "Iterator[tuple[ComponentKnowledge, Inventory, tuple[Machine, ...]]]":
    from fleetpatch.cli.runtime.machine_selection import load_machines_in_scope
    from flows.components.component_file import load_catalogue
    from flows.components.fleet_components import read_knowledge
    from tasks.records.setup import open_records

    fleet, machines = load_machines_in_scope(inventory, scope)
    catalogue = load_catalogue(fleet.source)
    with open_records(records) as opened:
        yield read_knowledge(opened, catalogue), fleet, machines


def _upgrade(
    name: str | None,
    scope: str,
    to: str | None,
    minutes: float,
    inventory: Path | None,
    records: str | None,
    *,
    as_json: bool,
    as_flow: bool,
    dry_run: bool,
) -> None:
    from fleetpatch.cli.runtime.component_runs import UpgradeOrder, run_upgrades
    from fleetpatch.cli.views.components import print_upgrades
    from tasks.domain.protocols.clock import SystemClock

    order = UpgradeOrder(name, to or "", minutes, dry_run=dry_run)
    open_fleet = partial(_open_fleet, inventory, scope, records)
    outcome = run_upgrades(order, open_fleet, records, SystemClock(), as_flow=as_flow)
    print_upgrades(outcome, as_json=as_json)
    raise typer.Exit(int(outcome.exit_code))
