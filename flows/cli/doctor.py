"""doctor: are the machines ready, and is fleetpatch itself?"""

import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, TypeAlias

import typer

from flows.cli.app import app
from flows.cli.options import EVERYTHING, InventoryOption, JsonOption, RecordsOption, ScopeArgument

if TYPE_CHECKING:
    from flows.doctor import Readiness
    from tasks.model import Finding

ExamineServer: TypeAlias = "Callable[[str | None], tuple[Finding, ...]]"
"""Looks at the Prefect server, given the records' URL."""

_EXAMINE_SERVER: "list[ExamineServer]" = []


def examine_server_by(examine: ExamineServer) -> None:
    """Say who looks at the server: what runs it is not known in this room."""
    _EXAMINE_SERVER[:] = [examine]


@app.command("doctor", rich_help_panel="Look")
def doctor(
    scope: ScopeArgument = EVERYTHING,
    inventory: InventoryOption = None,
    records: RecordsOption = None,
    at_once: Annotated[int, typer.Option("--at-once", min=1, max=500, help="Machines asked side by side.")] = 50,
    refresh: Annotated[
        bool, typer.Option("--refresh", help="Have the machines read their repositories: shows those that are broken.")
    ] = False,
    only_here: Annotated[bool, typer.Option("--here", help="Only fleetpatch itself; ask no machine.")] = False,
    server: Annotated[
        bool, typer.Option("--server", help="fleetpatch itself and the Prefect server, its schedules and workers.")
    ] = False,
    as_json: JsonOption = False,
) -> None:
    """Check whether machines are ready to be patched, with the remedy for each red mark. Changes no more than lists."""
    from flows.cli.asking import machines_of
    from flows.cli.doctor_view import code_of, doctor_document, tell_machines, tell_ourselves, tell_server
    from flows.cli.screen import print_json
    from flows.doctor import Readiness, examine_ourselves, worst
    from tasks.records.opening import open_records
    from tasks.states import FindingLevel

    ours = examine_ourselves(lambda: open_records(records))
    if not as_json:
        tell_ourselves(ours)
    theirs = _of_server(records) if server else ()
    if not as_json:
        tell_server(theirs)
    found: tuple[Readiness, ...] = ()
    if not only_here and not server and worst(ours) is not FindingLevel.BLOCK:
        names = [machine.name for machine in machines_of(inventory, scope)[1]]
        found = _examine(scope, inventory, records, names, at_once=at_once, refresh=refresh)
        if not as_json:
            tell_machines(found)
            unread = [each.machine for each in found if each.is_unread]
            if unread and _wants_lists_read(len(unread)):
                read = _examine(scope, inventory, records, unread, at_once=at_once, refresh=True)
                tell_machines(read)
                found = (*(each for each in found if not each.is_unread), *read)
    if as_json:
        print_json(doctor_document(ours, found, theirs))
    raise typer.Exit(int(code_of((*ours, *theirs), found)))


def _wants_lists_read(count: int) -> bool:
    """Ask the person at the terminal whether machines shall read their package lists now; False when there is none."""
    from flows.cli.screen import err

    if sys.stdin is None or not sys.stdin.isatty():
        return False
    whom = "Its package lists were" if count == 1 else f"The package lists of {count} machines were"
    err().print(f"{whom} never read. Read them now? Nothing else is changed. [y/N] ", end="", markup=False)
    return sys.stdin.readline().strip().lower() in {"y", "yes"}


def _of_server(records: str | None) -> "tuple[Finding, ...]":
    from flows.cli.exits import CannotRun

    if not _EXAMINE_SERVER:
        raise CannotRun("this program has no part that knows of servers", hint="Use the command `fleetpatch`.")
    return _EXAMINE_SERVER[0](records)


def _examine(
    scope: str, inventory: Path | None, records: str | None, names: "Sequence[str]", *, at_once: int, refresh: bool
) -> "tuple[Readiness, ...]":
    from flows.cli.watching import display
    from flows.context import Caller
    from flows.doctor import examine
    from flows.request import AssessRequest
    from flows.wiring import real_ports
    from inventory.scope import Scope

    with display(names, None, "doctor") as watch:
        request, who = AssessRequest(scope=scope, inventory=inventory), Caller(watch=watch, records_url=records)
        with real_ports(request, who) as ports:
            machines = [each for each in Scope.parse(scope).select(ports.inventory) if each.name in set(names)]
            return examine(machines, ports, at_once=at_once, refresh=refresh)
