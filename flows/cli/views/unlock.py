"""A machine's lock on the screen and as JSON data."""

from flows.cli.runtime.output import get_stdout_console, to_safe_text
from flows.recovery.machine_unlock import LockDetails
from tasks.reporting.formatting import format_iso_utc
from tasks.states import OperationState


def print_lock_status(status: LockDetails) -> None:
    """Say whose the lock is, until when, what became of that run, and what runs on the machine."""
    lock = status.lock
    if not lock.run_id:
        _print_unwrapped(f"No run has the lock of {lock.machine}.")
    else:
        when = f"{lock.expires_at:%Y-%m-%d %H:%M:%S} UTC" if lock.expires_at else "an unknown moment"
        end = f"it ended at {when}, and no other run has taken it" if lock.is_expired else f"until {when}"
        _print_unwrapped(f"{lock.machine} is locked by run {lock.run_id} ({lock.started_by or 'unknown'}): {end}.")
        _print_unwrapped(_describe_lock_run(status))
    if lock.job_id:
        since = f" since {lock.job_started_at:%Y-%m-%d %H:%M:%S} UTC" if lock.job_started_at else ""
        _print_unwrapped(f"Job {lock.job_id} ({lock.job_name}) is running on it{since}.")
    else:
        _print_unwrapped("No job is running on it.")


def _describe_lock_run(status: LockDetails) -> str:
    run, lease = status.run, status.lease
    if run is None:
        return "These records do not know that run. Ask who started it whether it is alive, before you lift its lock."
    if lease is not None and lease.is_held:
        return f"That run is alive: {lease.holder} carries it out."
    if run.state is OperationState.IN_PROGRESS:
        return f"That run was left half-way. To go on with it: fleetpatch resume {run.id}"
    return f"That run is over: {run.state}."


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


def _print_unwrapped(line: str) -> None:
    get_stdout_console().print(to_safe_text(line), soft_wrap=True)  # a command in it is copied as it stands
