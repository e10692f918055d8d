"""unlock: show the lock of a machine, and remove it when its run has no live process."""

from typing import TYPE_CHECKING, Annotated

import typer

from flows.cli.app import InventoryOption, JsonOption, RecordsOption, app
from flows.cli.runtime.output import ask, can_ask, print_json, print_to_stderr
from flows.ports.caller import Caller
from tasks.errors import RequestError

if TYPE_CHECKING:
    from flows.recovery.machine_unlock import LockDetails

YesOption = Annotated[bool, typer.Option("--yes", "-y", help="Do not ask before the lock is removed.")]


@app.command("unlock", rich_help_panel="Patch")
def unlock(
    machine: Annotated[str, typer.Argument(metavar="MACHINE", help="The name of one machine.")],
    yes: YesOption = False,
    inventory: InventoryOption = None,
    records: RecordsOption = None,
    as_json: JsonOption = False,
) -> None:
    """Show which run locks a machine, and remove the lock. Refused while a process executes the run or a job runs."""
    from flows.cli.views.unlock import build_lock_json, print_lock_status
    from flows.composition import open_ports
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
            print_to_stderr(f"The lock of {machine} is removed." if was_unlocked else "Nothing was done.")
    if as_json:
        print_json(build_lock_json(status, was_unlocked=was_unlocked))


def _confirm_unlock(status: "LockDetails") -> bool:
    """Ask the person at the terminal.

    Raises:
        RequestError: there is no terminal.
    """
    if not can_ask():
        raise RequestError(
            f"removing the lock of {status.lock.machine} needs a confirmation, and there is no terminal",
            hint="Add --yes.",
        )
    return ask(f"Remove the lock of {status.lock.machine}?")
