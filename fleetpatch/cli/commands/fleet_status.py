"""machines and updates: the state of the fleet by the latest assessments. Contacts no machine."""

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Final, Literal

import typer
from typer.core import TyperGroup

from fleetpatch.cli.app import ALL_MACHINES, InventoryOption, JsonOption, RecordsOption, ScopeArgument, app
from fleetpatch.cli.runtime.output import print_json
from inventory.machine import Machine
from tasks.domain.model import Assessment
from tasks.domain.protocols.clock import SystemClock

if TYPE_CHECKING:
    from flows.hotpatch.overview import HotpatchRow

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
    inventory: InventoryOption = None,
    records: RecordsOption = None,
    as_json: JsonOption = False,
) -> None:
    """List the compliance of machines, from the last assessment. Contacts no machine."""
    from fleetpatch.cli.views.fleet_status import build_machine_status_json, print_machine_statuses

    found = _load_machines(scope, inventory)
    latest, answers = (_read_assessments(found, records, answered=answered) for answered in (False, True))
    hotpatches = _read_hotpatches(found, latest, records)
    now = SystemClock().now()
    if as_json:
        rows = [
            build_machine_status_json(each, latest.get(each.name), answers.get(each.name), hotpatches[each.name], now)
            for each in found
        ]
        print_json({"machines": rows})
    else:
        print_machine_statuses(found, latest, answers, hotpatches, now)


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
    from fleetpatch.cli.views.fleet_status import (
        build_missing_updates_json,
        find_missing_updates,
        print_missing_by_machine,
        print_missing_by_update,
    )

    found = _load_machines(scope, inventory)
    latest = _read_assessments(found, records, answered=True)
    missing_updates = find_missing_updates(found, latest, urgent=urgent)
    if as_json:
        print_json(build_missing_updates_json(missing_updates))
    elif by == "machine":
        print_missing_by_machine(missing_updates, found, latest)
    else:
        print_missing_by_update(missing_updates, found, latest)


def _read_hotpatches(
    machines: Sequence[Machine], latest: Mapping[str, Assessment], records: str | None
) -> "Mapping[str, HotpatchRow]":
    """Return the enrolment of machines for hotpatches."""
    from fleetpatch.cli.commands.hotpatch import read_requests
    from flows.hotpatch.baseline_file import load_baseline_calendar
    from flows.hotpatch.overview import build_overview

    names = [machine.name for machine in machines]
    requests, today = read_requests(names, records), datetime.now(UTC).date()
    return build_overview(names, latest, requests, load_baseline_calendar(), today)


def _load_machines(scope: str, inventory: Path | None) -> Sequence[Machine]:
    """Return the machines of a scope."""
    from fleetpatch.cli.runtime.machine_selection import load_machines_in_scope

    _, found = load_machines_in_scope(inventory, scope)
    return found


def _read_assessments(machines: Sequence[Machine], records: str | None, *, answered: bool) -> dict[str, Assessment]:
    """Return the latest assessment of each machine that has one; with ``answered``, the latest one with an answer."""
    from fleetpatch.cli.runtime.run_lookup import open_history

    return open_history(records).read_latest_assessments([machine.name for machine in machines], answered=answered)
