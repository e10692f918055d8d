"""What people release by hand: a machine lock that a run left behind, and a drained member of a machine set.

A lock is refused while its run or a job is alive; a member while its run is not over. The journal says who did it.
"""

from collections.abc import Sequence
from contextlib import closing

from flows.engine.resume_state import find_recorded_run
from flows.ports.caller import Caller, find_starter_name
from flows.ports.ports import Ports
from inventory.data_class import dataclass
from inventory.files.problems import did_you_mean
from inventory.machine import Machine
from tasks.domain.errors import RequestError
from tasks.domain.model import RunInfo
from tasks.domain.protocols.clock import Clock
from tasks.domain.protocols.leases import Leases, LeaseStatus, SetSlot
from tasks.domain.protocols.records import JournalEntry, JournalMark
from tasks.domain.run_errors import LeaseHeld
from tasks.domain.states import Step
from tasks.records.queries.history import History
from tasks.records.set_slots import SqlSetSlots
from tasks.records.setup import open_records
from tasks.records.sql_records import SqlRecords
from tasks.steps.context.journal import SET_RELEASE_ACT, UNLOCK_ACT
from tasks.steps.machine.lock_removal import LockStatus, build_lock_busy_error, read_lock_status, remove_lock


@dataclass(frozen=True, slots=True)
class LockDetails:
    """A machine lock, and its run in the records."""

    lock: LockStatus
    run: RunInfo | None = None  # the run that holds the lock; None if there is none, or if these records do not have it
    lease: LeaseStatus | None = None  # the run lease of that run


def read_lock_details(machine: str, ports: Ports, caller: Caller) -> LockDetails:
    """Return a machine's lock and the run that holds it. Change nothing.

    Raises:
        RequestError: the inventory has no such machine.
        TransportError: the machine could not be reached.
        RecordsError: the records can't be read.
    """
    with closing(ports.connect(_find_machine(ports, machine))) as transport:
        lock = read_lock_status(machine, transport, ports.clock)
    if not lock.run_id:
        return LockDetails(lock)
    with open_records(caller.records_url) as records:
        return LockDetails(
            lock, find_recorded_run(History(records), lock.run_id), records.leases.find_lease(lock.run_id)
        )


def require_unlockable(details: LockDetails) -> None:
    """Raise an error if the lock must not be removed.

    Raises:
        ManagerBusy: a job runs on the machine.
        LeaseHeld: a process executes the run that holds the lock.
    """
    if details.lock.job_id:
        raise build_lock_busy_error(details.lock.machine, details.lock.job_id)
    lease = details.lease
    if lease is not None and lease.is_held and lease.holder is not None and lease.until is not None:
        raise LeaseHeld(lease.run_id, holder=lease.holder, until=lease.until)


def unlock_machine(details: LockDetails, ports: Ports, caller: Caller) -> None:
    """Remove the lock of these details, and record in its run's journal who removed it.

    Raises:
        ManagerBusy: a job runs on the machine.
        LeaseHeld: a process executes the run that holds the lock.
        RequestError: the lock has changed since the details were read.
        RecordsError: the journal can't be written; the lock was not removed.
        TransportError: the machine could not be reached.
    """
    by, lock = find_starter_name(caller), details.lock
    with open_records(caller.records_url) as records:
        details = LockDetails(lock, details.run, records.leases.find_lease(lock.run_id))
    require_unlockable(details)
    _record_unlock(ports, details, JournalMark.BEFORE, by)
    with closing(ports.connect(_find_machine(ports, lock.machine))) as transport:
        remove_lock(lock, by, transport, ports.clock)
    _record_unlock(ports, details, JournalMark.AFTER, by)


def _record_unlock(ports: Ports, details: LockDetails, mark: JournalMark, by: str) -> None:
    if details.run is None:
        return
    lock, now = details.lock, ports.clock.now()
    detail: dict[str, object] = {"by": by, "until": lock.expires_at.isoformat() if lock.expires_at else ""}
    key = "-".join(lock.raw_fields[1:])
    ports.records.append_entry(
        JournalEntry(details.run.id, lock.machine, Step.PRECHECK, mark, UNLOCK_ACT, key, now, detail)
    )


def _find_machine(ports: Ports, name: str) -> Machine:
    try:
        return ports.inventory.find_machine(name)
    except KeyError:
        near = did_you_mean(name, [machine.name for machine in ports.inventory.machines])
        hint = f"{near}Give one name as it stands there: `fleetpatch inventory list` shows them."
        raise RequestError(f"the inventory has no machine {name!r}", hint=hint) from None


def require_releasable(slots: Sequence[SetSlot], leases: Leases) -> None:
    """Raise an error if a run that is not over has one of these members out of service.

    Raises:
        RequestError: it has. The hint says what ends the run.
        RecordsError: the records can't be read.
    """
    held = next((slot for slot in slots if not slot.is_left), None)
    if held is None:
        return
    message = f"run {held.run_id} has {held.machine} out of service, and it is not over"
    if any(leaseless_run.run_id == held.run_id for leaseless_run in leases.find_leaseless_runs()):
        raise RequestError(
            f"{message}; no process executes it",
            hint=f"fleetpatch resume {held.run_id}, or fleetpatch resume {held.run_id} --finalize",
        )
    raise RequestError(message, hint=f"Wait for its end, or: fleetpatch cancel {held.run_id}")


def release_member(slots: Sequence[SetSlot], records: SqlRecords, caller: Caller, clock: Clock) -> None:
    """End the slots of a drained member, and record in the journals of their runs who said that it is back.

    A run that has taken the member over meanwhile keeps its slots.

    Raises:
        RecordsError: the records can't be written.
    """
    by, history = find_starter_name(caller), History(records)
    for run_id, machine in {(slot.run_id, slot.machine): None for slot in slots}:
        sets = [slot.set_name for slot in slots if slot.run_id == run_id]
        is_known = find_recorded_run(history, run_id) is not None
        for mark in (JournalMark.BEFORE, JournalMark.AFTER):
            if is_known:
                detail: dict[str, object] = {"by": by, "sets": sets}
                records.append_entry(
                    JournalEntry(run_id, machine, Step.REPORT, mark, SET_RELEASE_ACT, machine, clock.now(), detail)
                )
            if mark is JournalMark.BEFORE:
                SqlSetSlots(records.database).release(run_id, machine)
