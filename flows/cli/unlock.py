"""unlock: whose a machine's lock is, and lift it when its run is dead."""

import sys
from typing import TYPE_CHECKING, Annotated

import typer

from flows.cli.app import app
from flows.cli.options import InventoryOption, JsonOption, RecordsOption

if TYPE_CHECKING:
    from flows.unlock import LockView

Yes = Annotated[bool, typer.Option("--yes", "-y", help="Don't ask before the lock is lifted.")]


@app.command("unlock", rich_help_panel="Patch")
def unlock(
    machine: Annotated[str, typer.Argument(metavar="MACHINE", help="The name of one machine.")],
    yes: Yes = False,
    inventory: InventoryOption = None,
    records: RecordsOption = None,
    as_json: JsonOption = False,
) -> None:
    """Show which run has the lock of a machine, and lift it. Refused while that run is alive or a job runs there."""
    from flows.cli.screen import note, print_json
    from flows.cli.unlock_view import lock_document, tell_lock
    from flows.context import Caller
    from flows.request import AssessRequest
    from flows.unlock import lift, look, refuse
    from flows.wiring import real_ports

    who, lifted = Caller(records_url=records), False
    with real_ports(AssessRequest(scope="*", inventory=inventory), who) as ports:
        view = look(machine, ports, who)
        if not as_json:
            tell_lock(view)
        if view.lock.run_id or view.lock.job_id:
            refuse(view)
            lifted = yes or _confirmed(view)
            if lifted:
                lift(view, ports, who)
            note(f"The lock of {machine} was lifted." if lifted else "Nothing was done.")
    if as_json:
        print_json(lock_document(view, lifted=lifted))


def _confirmed(view: "LockView") -> bool:
    """Ask the person at the terminal.

    Raises:
        RequestError: there is none.
    """
    from flows.cli.screen import err, safe
    from tasks.errors import RequestError

    if sys.stdin is None or not sys.stdin.isatty():
        raise RequestError(
            f"the lock of {view.lock.machine} would be lifted, and nobody is at a terminal to confirm that",
            hint="Add --yes.",
        )
    err().print(safe(f"Lift the lock of {view.lock.machine}? [y/N] "), end="")
    return sys.stdin.readline().strip().lower() in {"y", "yes"}
