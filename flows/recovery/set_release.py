"""Record that people have brought a drained member of a machine set back, whose run is over."""

from collections.abc import Sequence

from flows.ports.caller import Caller, find_starter_name
from tasks.domain.errors import RecordsError, RequestError
from tasks.domain.protocols.clock import Clock
from tasks.domain.protocols.leases import Leases
from tasks.domain.protocols.records import JournalEntry, JournalMark
from tasks.domain.protocols.set_slots import SetSlot
from tasks.domain.states import Step
from tasks.records.queries.history import History
from tasks.records.set_slots import SqlSetSlots
from tasks.records.sql_records import SqlRecords
from tasks.steps.context.journal import SET_RELEASE_ACT


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
        is_known = _is_run_known(history, run_id)
        for mark in (JournalMark.BEFORE, JournalMark.AFTER):
            if is_known:
                detail: dict[str, object] = {"by": by, "sets": sets}
                records.append_entry(
                    JournalEntry(run_id, machine, Step.REPORT, mark, SET_RELEASE_ACT, machine, clock.now(), detail)
                )
            if mark is JournalMark.BEFORE:
                SqlSetSlots(records.database).release(run_id, machine)


def _is_run_known(history: History, run_id: str) -> bool:
    """Return whether the records still have a run. Old ones are deleted."""
    try:
        return history.find_run(run_id).id == run_id
    except RecordsError as error:
        if error.transient:
            raise
        return False
