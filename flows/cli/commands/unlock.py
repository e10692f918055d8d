"""unlock: whose a machine's lock is, and lift it when its run is dead."""

import sys
from typing import TYPE_CHECKING, Annotated

import typer

from flows.cli.app import app
from flows.cli.options import InventoryOption, JsonOption, RecordsOption

if TYPE_CHECKING:
    from flows.recovery.machine_unlock import LockDetails

YesOption = Annotated[bool, typer.Option("--yes", "-y", help="Don't ask before the lock is lifted.")]


@app.command("unlock", rich_help_panel="Patch")
def unlock(
    machine: Annotated[str, typer.Argument(metavar="MACHINE", help="The name of one machine.")],
    yes: YesOption = False,
    inventory: InventoryOption = None,
    records: RecordsOption = None,
    as_json: JsonOption = False,
) -> None:
    """Show which run has the lock of a machine, and lift it. Refused while that run is alive or a job runs there."""
    from flows.cli.runtime.output import print_json, print_to_stderr
    from flows.cli.views.unlock import build_lock_json, print_lock_status
    from flows.composition import open_ports
    from flows.ports.caller import Caller
    from flows.recovery.machine_unlock import read_lock_details, require_unlockable, unlock_machine
    from flows.request.assess_request import AssessRequest

    caller, was_unlocked = Caller(records_url=records), False
    with open_ports(AssessRequest(scope="*", inventory=inventory), caller) as ports:
        status = read_lock_details(machine, ports, caller)
        if not as_json:
            print_lock_status(status)
        if status.lock.run_id or status.lock.job_id:
            require_unlockable(status)
            was_unlocked = yes or _confirm_unlock(status)
            if was_unlocked:
                unlock_machine(status, ports, caller)
            print_to_stderr(f"The lock of {machine} was lifted." if was_unlocked else "Nothing was done.")
    if as_json:
        print_json(build_lock_json(status, was_unlocked=was_unlocked))


def _confirm_unlock(status: "LockDetails") -> bool:
    """Ask the person at the terminal.

    Raises:
        RequestError: there is none.
    """
    from flows.cli.runtime.output import get_stderr_console, to_safe_text
    from tasks.errors import RequestError

    if sys.stdin is None or not sys.stdin.isatty():
        raise RequestError(
            f"the lock of {status.lock.machine} would be lifted, and nobody is at a terminal to confirm that",
            hint="Add --yes.",
        )
    get_stderr_console().print(to_safe_text(f"Lift the lock of {status.lock.machine}? [y/N] "), end="")
    return sys.stdin.readline().strip().lower() in {"y", "yes"}
