"""Lift the lock that a run left on a machine, for a person: only when that run is not alive and no job runs there."""

from dataclasses import dataclass

from flows.context import Caller
from flows.ports import Ports
from flows.wiring import whoami
from inventory.machine import Machine
from tasks.errors import LeaseHeld, RecordsError, RequestError
from tasks.model import RunInfo
from tasks.records.history import History
from tasks.records.opening import open_records
from tasks.seams.leases import LeaseView
from tasks.seams.records import JournalEntry, JournalMark
from tasks.states import Step
from tasks.steps.journal import UNLOCK
from tasks.steps.lock import MachineLock, busy, lift_lock, look_at_lock


@dataclass(frozen=True, slots=True)
class LockView:
    """A machine's lock, and what the records know of the run that has it.

    Attributes:
        run: that run; None when no run has the lock, or these records do not know it.
        lease: whether a process carries that run now.
    """

    lock: MachineLock
    run: RunInfo | None = None
    lease: LeaseView | None = None


def look(machine: str, ports: Ports, who: Caller) -> LockView:
    """Return a machine's lock, and whose it is. Changes nothing.

    Raises:
        RequestError: the inventory has no such machine.
        TransportError: the machine could not be asked.
        RecordsError: the records can't be read.
    """
    transport = ports.connect(_machine(ports, machine))
    try:
        lock = look_at_lock(machine, transport, ports.clock)
    finally:
        transport.close()
    if not lock.run_id:
        return LockView(lock)
    with open_records(who.records_url) as records:
        return LockView(lock, _run(History(records), lock.run_id), records.leases.lease(lock.run_id))


def refuse(view: LockView) -> None:
    """Raise when the lock must not be lifted.

    Raises:
        ManagerBusy: a job runs on the machine.
        LeaseHeld: a process carries the run that has the lock.
    """
    if view.lock.job_id:
        raise busy(view.lock.machine, view.lock.job_id)
    lease = view.lease
    if lease is not None and lease.held and lease.holder is not None and lease.until is not None:
        raise LeaseHeld(lease.run_id, holder=lease.holder, until=lease.until)


def lift(view: LockView, ports: Ports, who: Caller) -> None:
    """Lift the lock that was looked at, and note in its run's journal who did.

    Raises:
        ManagerBusy: a job runs on the machine.
        LeaseHeld: a process carries the run that has the lock.
        RequestError: it is not the lock that was looked at.
        RecordsError: the journal can't be written; nothing was lifted.
        TransportError: the machine could not be asked.
    """
    by, lock = whoami(who), view.lock
    with open_records(who.records_url) as records:
        view = LockView(lock, view.run, records.leases.lease(lock.run_id))
    refuse(view)
    _note(ports, view, JournalMark.BEFORE, by)
    transport = ports.connect(_machine(ports, lock.machine))
    try:
        lift_lock(lock, by, transport, ports.clock)
    finally:
        transport.close()
    _note(ports, view, JournalMark.AFTER, by)


def _note(ports: Ports, view: LockView, mark: JournalMark, by: str) -> None:
    if view.run is None:
        return
    lock, now = view.lock, ports.clock.now()
    detail: dict[str, object] = {"by": by, "until": lock.until.isoformat() if lock.until else ""}
    key = "-".join(lock.seen[1:])
    ports.records.append(JournalEntry(view.run.id, lock.machine, Step.PRECHECK, mark, UNLOCK, key, now, detail))


def _machine(ports: Ports, name: str) -> Machine:
    found = [machine for machine in ports.inventory.machines if machine.name == name]
    if not found:
        hint = "Give one name as it stands there: `fleetpatch inventory list` shows them."
        raise RequestError(f"the inventory has no machine {name!r}", hint=hint)
    return found[0]


def _run(history: History, run_id: str) -> RunInfo | None:
    try:
        found = history.run(run_id)
    except RecordsError as error:
        if error.transient:
            raise
        return None
    return found if found.id == run_id else None
