"""Prints the lock of a machine, and builds its JSON."""

from flows.cli.runtime.output import print_unwrapped
from flows.recovery.machine_unlock import LockDetails
from tasks.reporting.formatting import format_iso_utc
from tasks.states import OperationState


def print_lock_status(status: LockDetails) -> None:
    """Print which run locks the machine and until when, the state of that run, and the job that runs."""
    lock = status.lock
    if not lock.run_id:
        print_unwrapped(f"{lock.machine} is not locked.")
    else:
        when = f"{lock.expires_at:%Y-%m-%d %H:%M:%S} UTC" if lock.expires_at else "an unknown time"
        by = f"by run {lock.run_id} ({lock.started_by or 'unknown'}) until {when}"
        expired = f"{lock.machine} was locked {by}. The lock has expired."
        print_unwrapped(expired if lock.is_expired else f"{lock.machine} is locked {by}.")
        print_unwrapped(_describe_lock_run(status))
    if lock.job_id:
        since = f" since {lock.job_started_at:%Y-%m-%d %H:%M:%S} UTC" if lock.job_started_at else ""
        print_unwrapped(f"Job {lock.job_id} ({lock.job_name}) is running on it{since}.")
    else:
        print_unwrapped("No job is running on it.")


def _describe_lock_run(status: LockDetails) -> str:
    run, lease = status.run, status.lease
    if run is None:
        return "These records do not know the run. Ask its owner whether it still runs before you remove the lock."
    if lease is not None and lease.is_held:
        return f"It is running as {lease.holder}."
    if run.state is OperationState.IN_PROGRESS:
        return f"The run has no live process. To continue it: fleetpatch resume {run.id}"
    return f"The run is over: {run.state}."


def build_lock_json(status: LockDetails, *, was_unlocked: bool) -> dict[str, object]:
    """Return it as JSON data."""
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
        "carried": status.lease is not None and status.lease.is_held,
        "jobId": lock.job_id or None,
        "jobStartDateTime": format_iso_utc(lock.job_started_at) if lock.job_started_at else None,
    }
