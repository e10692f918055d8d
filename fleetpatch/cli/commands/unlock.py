"""unlock: show the lock of a machine, and remove it when its run has no live process."""

from typing import TYPE_CHECKING

from fleetpatch.cli.app import InventoryOption, JsonOption, MachineArgument, RecordsOption, YesOption, app
from fleetpatch.cli.runtime.acting_command import ActingCommand
from fleetpatch.cli.runtime.output import confirm, print_json, print_to_stderr, print_unwrapped
from flows.ports.caller import Caller
from tasks.domain.states import OperationState
from tasks.reports.formatting import format_iso_utc

if TYPE_CHECKING:
    from flows.recovery.releases import LockDetails


@app.command("unlock", cls=ActingCommand, rich_help_panel="Patch")
def unlock(
    machine: MachineArgument,
    yes: YesOption = False,
    inventory: InventoryOption = None,
    records: RecordsOption = None,
    as_json: JsonOption = False,
) -> None:
    """Show which run locks a machine, and remove the lock. Refused while a process executes the run or a job runs."""
    from flows.composition import open_ports
    from flows.recovery.releases import read_lock_details, require_unlockable, unlock_machine
    from flows.request.read_requests import AssessRequest

    caller, was_unlocked = Caller(records_url=records), False
    with open_ports(AssessRequest(scope="*", inventory=inventory), caller) as ports:
        status = read_lock_details(machine, ports, caller)
        if not as_json:
            _print_lock_status(status)
        if status.lock.run_id or status.lock.job_id:
            require_unlockable(status)
            question, subject = (f"{verb} the lock of {status.lock.machine}" for verb in ("Remove", "removing"))
            was_unlocked = yes or confirm(f"{question}?", subject)
            if was_unlocked:
                unlock_machine(status, ports, caller)
                print_to_stderr(f"The lock of {machine} is removed.")
    if as_json:
        print_json(_build_lock_json(status, was_unlocked=was_unlocked))


def _print_lock_status(status: "LockDetails") -> None:
    """Print which run locks the machine and until when, the state of that run, and the job that runs."""
    lock = status.lock
    if not lock.run_id:
        print_unwrapped(f"{lock.machine} is not locked.")
    else:
        end = f"{lock.expires_at:%Y-%m-%d %H:%M:%S} UTC" if lock.expires_at else "an unknown time"
        by = f"by run {lock.run_id} ({lock.started_by or 'unknown'}) until {end}"
        expired = f"{lock.machine} was locked {by}. The lock has expired."
        print_unwrapped(expired if lock.is_expired else f"{lock.machine} is locked {by}.")
        print_unwrapped(_describe_lock_run(status))
    if lock.job_id:
        since = f" since {lock.job_started_at:%Y-%m-%d %H:%M:%S} UTC" if lock.job_started_at else ""
        print_unwrapped(f"Job {lock.job_id} ({lock.job_name}) is running on it{since}.")
    else:
        print_unwrapped("No job is running on it.")


def _describe_lock_run(status: "LockDetails") -> str:
    run, lease = status.run, status.lease
    if run is None:
        return "These records do not know the run. Ask its owner whether it still runs before you remove the lock."
    if lease is not None and lease.is_held:
        return f"It is running as {lease.holder}."
    if run.state is OperationState.IN_PROGRESS:
        return f"The run has no live process. To continue it: fleetpatch resume {run.id}"
    return f"The run is over: {run.state}."


def _build_lock_json(status: "LockDetails", *, was_unlocked: bool) -> dict[str, object]:
    """Return the lock as JSON data."""
    lock, run = status.lock, status.run
    return {
        "machineName": lock.machine,
        "locked": bool(lock.run_id) and not was_unlocked,
        "lifted": was_unlocked,
        "maintenanceRunId": lock.run_id or None,
        "startedBy": lock.started_by or None,
        "lockedUntilDateTime": format_iso_utc(lock.expires_at) if lock.expires_at else None,
        "expired": bool(lock.run_id) and lock.is_expired,
        "runStatus": run.state.value if run else None,
        "executed": status.lease is not None and status.lease.is_held,
        "jobId": lock.job_id or None,
        "jobStartDateTime": format_iso_utc(lock.job_started_at) if lock.job_started_at else None,
    }
