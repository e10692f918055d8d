"""Deletes OS disks that upgrades have replaced, once their days are over. One that nobody deletes fills stores."""

import logging
from collections.abc import Callable, Iterator
from datetime import timedelta
from enum import StrEnum

from flows.components.overview import ComponentKnowledge
from inventory.data_class import dataclass
from inventory.machine import Inventory, Machine
from tasks.domain.components import ComponentTry
from tasks.domain.errors import FleetpatchError, RecordsError
from tasks.domain.protocols.clock import Clock, Deadline
from tasks.domain.protocols.machine_provider import MachineProvider
from tasks.domain.protocols.records import JournalEntry, JournalMark, Records
from tasks.domain.provided_machines import ProviderAct, ProviderOrder
from tasks.domain.states import Step
from tasks.steps.context.journal import DELETE_DISK_ACT, REPLACE_ACT, build_job_id

ORDER_SECONDS = 600.0

logger = logging.getLogger(__name__)


class DiskState(StrEnum):
    """What is known of a replaced OS disk whose days are over."""

    DELETED = "Deleted"
    KEPT = "Kept"
    NOT_FOUND = "NotFound"  # its provider does not list it, and fleetpatch has not ordered its deletion
    UNREAD = "Unread"  # its provider did not say


@dataclass(frozen=True, slots=True)
class ExpiredDisk:
    """An OS disk that is kept no longer.

    Attributes:
        order_id: of the order that replaced it.
        problem: why it is not deleted, or "".
    """

    machine: str
    run_id: str
    order_id: str
    state: DiskState
    problem: str = ""


def delete_expired_disks(
    knowledge: ComponentKnowledge,
    inventory: Inventory,
    records: Records,
    open_provider: Callable[[Machine], MachineProvider | None],
    clock: Clock,
    find_unfinished_run: Callable[[str], str],
) -> tuple[ExpiredDisk, ...]:
    """Delete the disks that successful upgrades have replaced, and whose days are over. Return what became of each.

    The journal of that upgrade's run gets an entry before the order and one after the deletion. A disk that is not
    found is looked for once more, at the next call.

    Args:
        knowledge: the groups, with their upgrades.
        inventory: with the machines.
        records: with the journals.
        open_provider: opens who holds a machine's disks.
        clock: tells the present time.
        find_unfinished_run: returns the id of a run without an end that may change a machine (its name), or "": such a
            machine is left alone.

    Raises:
        RecordsError: the records can't be read or written.
    """
    machines = {machine.name: machine for machine in inventory.machines}
    results = []
    for attempt in _find_expired(knowledge, clock):
        machine = machines.get(attempt.machine)
        if machine is None:
            continue
        disk = _Disk(machine, attempt.run_id, records, clock)
        if disk.is_settled:
            continue
        if run := find_unfinished_run(machine.name):
            state, problem = DiskState.KEPT, f"the run {run} has not ended and may change the machine"
        else:
            state, problem = disk.delete(open_provider)
        if problem:
            logger.warning("%s: its OS disk %s: %s: %s", machine.name, disk.order_id, state, problem)
        results.append(ExpiredDisk(machine.name, attempt.run_id, disk.order_id, state, problem))
    return tuple(results)


def _find_expired(knowledge: ComponentKnowledge, clock: Clock) -> Iterator[ComponentTry]:
    for component in knowledge.catalogue.components:
        if component.image is None:
            continue
        until = clock.now() - timedelta(days=component.image.keep_days)
        for attempt in knowledge.tries.get(component.name, ()):
            if attempt.succeeded and attempt.at <= until:
                yield attempt


class _Disk:
    """One disk to delete, and what the journal of its run has of that."""

    def __init__(self, machine: Machine, run_id: str, records: Records, clock: Clock) -> None:
        self.order_id = build_job_id(run_id, machine.name, REPLACE_ACT, 0)
        self._machine, self._run_id, self._records, self._clock = machine, run_id, records, clock
        entries = [entry for entry in records.read_entries(run_id, machine.name) if entry.act == DELETE_DISK_ACT]
        self._was_ordered = any(entry.mark is JournalMark.BEFORE for entry in entries)
        ends = [entry.detail.get("state") for entry in entries if entry.mark is JournalMark.AFTER]
        self._was_missed = DiskState.NOT_FOUND.value in ends
        self.is_settled = ends.count(DiskState.NOT_FOUND.value) > 1 or any(
            end != DiskState.NOT_FOUND.value for end in ends
        )

    def delete(self, open_provider: Callable[[Machine], MachineProvider | None]) -> tuple[DiskState, str]:
        """Delete it, unless it is not there. Return what its provider says of it then, and why it is not deleted."""
        deadline = Deadline.after(self._clock, ORDER_SECONDS)
        try:
            provider = open_provider(self._machine)
            if provider is None:
                return DiskState.UNREAD, "its inventory entry names nobody who holds its disks any more"
            is_there = provider.read_machine(deadline=deadline).find_kept_disk(self.order_id) is not None
        except RecordsError:
            raise
        except FleetpatchError as error:
            return DiskState.UNREAD, error.message
        if not is_there:
            return self._settle_absent()
        if not self._was_ordered:
            self._write(JournalMark.BEFORE, {})
            self._was_ordered = True
        try:
            provider.carry_out(ProviderOrder(ProviderAct.DELETE_OS_DISK, self.order_id), deadline=deadline)
            is_there = provider.read_machine(deadline=deadline).find_kept_disk(self.order_id) is not None
        except RecordsError:
            raise
        except FleetpatchError as error:
            return DiskState.UNREAD, error.message
        return (DiskState.KEPT, "its provider says that it is still there") if is_there else self._settle_absent()

    def _settle_absent(self) -> tuple[DiskState, str]:
        """Write down that its provider does not list it: the order has deleted it, or nobody knows who did."""
        state = DiskState.DELETED if self._was_ordered else DiskState.NOT_FOUND
        self._write(JournalMark.AFTER, {"state": state.value})
        if self._was_ordered:
            return state, ""
        again = "it is not looked for any more" if self._was_missed else "it is looked for once more"
        return state, f"its provider does not list it, and fleetpatch has not deleted it; {again}"

    def _write(self, mark: JournalMark, detail: dict[str, object]) -> None:
        name, now = self._machine.name, self._clock.now()
        entry = JournalEntry(self._run_id, name, Step.REPORT, mark, DELETE_DISK_ACT, self.order_id, now, detail)
        self._records.append_entry(entry)
