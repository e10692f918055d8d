"""machines and updates: how the fleet stands, by the latest assessments. Asks no machine."""

from enum import StrEnum
from typing import TYPE_CHECKING, Annotated

import typer

from flows.cli.app import app
from flows.cli.options import EVERYTHING, InventoryOption, JsonOption, RecordsOption, ScopeArgument

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from inventory.machine import Machine
    from tasks.model import Assessment

PANEL = "Look"


class By(StrEnum):
    """How a list of updates is laid out."""

    MACHINE = "machine"
    UPDATE = "update"


@app.command("machines", rich_help_panel=PANEL)
def machines(
    scope: ScopeArgument = EVERYTHING,
    inventory: InventoryOption = None,
    records: RecordsOption = None,
    as_json: JsonOption = False,
) -> None:
    """List machines with their compliance, as they were last assessed. Asks no machine."""
    from flows.cli.screen import print_json
    from flows.cli.standing_view import machine_document, tell_machines

    found, latest = _standing(scope, inventory, records)
    if as_json:
        print_json({"machines": [machine_document(each, latest.get(each.name)) for each in found]})
    else:
        tell_machines(found, latest)


@app.command("updates", rich_help_panel=PANEL)
def updates(
    scope: ScopeArgument = EVERYTHING,
    by: Annotated[By, typer.Option("--by", help="A line an update, or a line an update and machine.")] = By.UPDATE,
    urgent: Annotated[bool, typer.Option("--urgent", help="Only critical and security updates.")] = False,
    inventory: InventoryOption = None,
    records: RecordsOption = None,
    as_json: JsonOption = False,
) -> None:
    """List updates that machines lack, as they were last assessed. Asks no machine."""
    from flows.cli.screen import print_json
    from flows.cli.standing_view import missing, tell_by_machine, tell_by_update, updates_document

    found, latest = _standing(scope, inventory, records, answered=True)
    lacking = missing(found, latest, urgent=urgent)
    if as_json:
        print_json(updates_document(lacking))
    elif by is By.MACHINE:
        tell_by_machine(lacking, found, latest)
    else:
        tell_by_update(lacking, found, latest)


def _standing(
    scope: str, inventory: "Path | None", records: str | None, *, answered: bool = False
) -> "tuple[Sequence[Machine], dict[str, Assessment]]":
    """Return the machines of a scope, and the latest assessment of each that has one."""
    from flows.cli.asking import machines_of
    from flows.cli.run_pick import history

    _, found = machines_of(inventory, scope)
    return found, history(records).latest_assessments([machine.name for machine in found], answered=answered)
