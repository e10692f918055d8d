"""A machine's lock on the screen and as JSON data."""

from flows.cli.screen import out, safe
from flows.unlock import LockView
from tasks.reporting.text import iso
from tasks.states import OperationState


def tell_lock(view: LockView) -> None:
    """Say whose the lock is, until when, what became of that run, and what runs on the machine."""
    lock = view.lock
    if not lock.run_id:
        _say(f"No run has the lock of {lock.machine}.")
    else:
        when = f"{lock.until:%Y-%m-%d %H:%M:%S} UTC" if lock.until else "an unknown moment"
        end = f"it ended at {when}, and no other run has taken it" if lock.is_over else f"until {when}"
        _say(f"{lock.machine} is locked by run {lock.run_id} ({lock.by or 'unknown'}): {end}.")
        _say(_of_run(view))
    if lock.job_id:
        since = f" since {lock.job_began_at:%Y-%m-%d %H:%M:%S} UTC" if lock.job_began_at else ""
        _say(f"Job {lock.job_id} ({lock.job_name}) is running on it{since}.")
    else:
        _say("No job is running on it.")


def _of_run(view: LockView) -> str:
    run, lease = view.run, view.lease
    if run is None:
        return "These records do not know that run. Ask who started it whether it is alive, before you lift its lock."
    if lease is not None and lease.held:
        return f"That run is alive: {lease.holder} carries it out."
    if run.state is OperationState.IN_PROGRESS:
        return f"That run was left half-way. To go on with it: fleetpatch resume {run.id}"
    return f"That run is over: {run.state}."


def lock_document(view: LockView, *, lifted: bool) -> dict[str, object]:
    """Return it as JSON data."""
    lock, run = view.lock, view.run
    return {
        "machineName": lock.machine,
        "locked": bool(lock.run_id) and not lifted,
        "lifted": lifted,
        "maintenanceRunId": lock.run_id or None,
        "startedBy": lock.by or None,
        "lockedUntilDateTime": iso(lock.until) if lock.until else None,
        "expired": bool(lock.run_id) and lock.is_over,
        "runStatus": run.state.value if run else None,
        "carried": view.lease is not None and view.lease.held,
        "jobId": lock.job_id or None,
        "jobStartDateTime": iso(lock.job_began_at) if lock.job_began_at else None,
    }


def _say(line: str) -> None:
    out().print(safe(line), soft_wrap=True)  # a command in it is copied as it stands
