"""Deletes OS disks that upgrades have replaced, once their days are over. One that nobody deletes fills stores."""

import logging
from collections.abc import Callable, Collection, Iterator, Sequence
from datetime import datetime, timedelta

from flows.components.overview import ComponentKnowledge
from inventory.data_class import dataclass
from inventory.machine import Inventory, Machine
from tasks.domain.components import ComponentTry
from tasks.domain.errors import FleetpatchError, RecordsError, RequestError
from tasks.domain.images import KeptDiskState
from tasks.domain.protocols.clock import Clock, Deadline
from tasks.domain.protocols.machine_provider import MachineProvider
from tasks.domain.protocols.records import JournalEntry, JournalMark, Records
from tasks.domain.provided_machines import ProviderAct, ProviderOrder
from tasks.domain.states import Step
from tasks.records.left_disks import LeftDisk
from tasks.reports.formatting import format_age
from tasks.rules.images.disks import is_settled
from tasks.steps.context.journal import DELETE_DISK_ACT, REPLACE_ACT, build_job_id

ORDER_SECONDS = 600.0

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class ExpiredDisk:
    """An OS disk that is kept no longer, or that only a person deletes."""

    machine: str
    run_id: str
    order_id: str  # of the order that replaced it
    state: KeptDiskState
    problem: str = ""  # why it is not deleted, or ""


class DiskCleaner:
    """Deletes replaced OS disks, one after the other.

    The journal of the upgrade's run gets an entry before the order and one after the deletion. A disk that is not
    found is looked for once more, at the next call.

    Args:
        inventory: with the machines.
        records: with the journals.
        open_provider: opens who holds a machine's disks.
        clock: tells the present time.
        find_unfinished_run: returns the id of a run without an end that may change a machine (its name), or "": such a
            machine is left alone.
    """

    def __init__(
        self,
        inventory: Inventory,
        records: Records,
        open_provider: Callable[[Machine], MachineProvider | None],
        clock: Clock,
        find_unfinished_run: Callable[[str], str],
    ) -> None:
        self._machines = {machine.name: machine for machine in inventory.machines}
        self._records, self._open_provider, self._clock = records, open_provider, clock
        self._find_unfinished_run = find_unfinished_run

    def delete_expired(self, knowledge: ComponentKnowledge) -> tuple[ExpiredDisk, ...]:
        """Delete the disks that successful upgrades have replaced, and whose days are over. Return what became of each.

        Raises:
            RecordsError: the records can't be read or written.
        """
        results = [self._clean(attempt.machine, attempt.run_id) for attempt in _find_expired(knowledge, self._clock)]
        return tuple(result for result in results if result is not None)

    def settle_left(
        self, left: Sequence[LeftDisk], knowledge: ComponentKnowledge, given_up: Collection[str] = ()
    ) -> tuple[ExpiredDisk, ...]:
        """Delete disks of failed upgrades that are the way back no more. Return what became of each, and of the others.

        A disk is that no more if a person gives it up, or if a later upgrade of its machine succeeded, and its days are
        over.

        Raises:
            RequestError: a machine of these has no such disk.
            RecordsError: the records can't be read or written.
        """
        if strangers := sorted(set(given_up).difference(disk.machine for disk in left)):
            raise RequestError(
                f"no disk of a failed upgrade is known of {', '.join(strangers)}", hint="See: fleetpatch images clean"
            )
        successes = list(_find_expired(knowledge, self._clock))
        results: list[ExpiredDisk | None] = []
        for disk in left:
            is_given_up = disk.machine in given_up
            machine = self._machines.get(disk.machine)
            if machine is None or not machine.provider:
                results.append(self._tell_of_stranger(disk, is_given_up=is_given_up))
                continue
            is_past = any(one.machine == disk.machine and one.at > disk.replaced_at for one in successes)
            results.append(self._clean(disk.machine, disk.run_id, None if is_past or is_given_up else disk))
        return tuple(result for result in results if result is not None)

    def _tell_of_stranger(self, disk: LeftDisk, *, is_given_up: bool) -> ExpiredDisk:
        """Tell of the disk of a machine that left the inventory, or has no provider there any more.

        There is no provider to ask for the disk: a person deletes it. A disk that is given up is listed for the last
        time.
        """
        problem = "the inventory does not have its machine with a provider any more: delete it at its provider"
        if is_given_up:
            detail: dict[str, object] = {"state": KeptDiskState.UNREAD.value}
            name, order_id, now = disk.machine, disk.order_id, self._clock.now()
            self._records.append_entry(_build_entry(disk.run_id, name, JournalMark.AFTER, order_id, now, detail))
            problem += "; it is not listed any more"
        else:
            problem += f", then: fleetpatch images clean --failed {disk.machine}"
        return ExpiredDisk(disk.machine, disk.run_id, disk.order_id, KeptDiskState.UNREAD, problem)

    def _clean(self, name: str, run_id: str, way_back: LeftDisk | None = None) -> ExpiredDisk | None:
        """Delete the disk of a machine, or only look at one that is the way back. None: nothing is to be done."""
        machine = self._machines.get(name)
        if machine is None:
            return None
        disk = _Disk(machine, run_id, self._records, self._clock)
        if disk.is_settled:
            return None
        if run := self._find_unfinished_run(name):
            state, problem = KeptDiskState.KEPT, f"the run {run} has not ended and may change the machine"
        else:
            state, problem = disk.delete(self._open_provider, only_look=way_back is not None)
        if state is KeptDiskState.WAY_BACK and way_back is not None:
            problem = explain_way_back(way_back, self._clock.now())
        if problem:
            logger.warning("%s: its OS disk %s: %s: %s", name, disk.order_id, state, problem)
        return ExpiredDisk(name, run_id, disk.order_id, state, problem)


def explain_way_back(disk: LeftDisk, now: datetime) -> str:
    """Return why a disk of before is still there, since when, and how a person deletes it."""
    return (
        f"it was replaced by {disk.version} {format_age(disk.replaced_at, now)}, the upgrade failed, and it is the way "
        f"back. If {disk.machine} is healthy: fleetpatch images clean --failed {disk.machine}"
    )


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
        self._was_missed = KeptDiskState.NOT_FOUND.value in ends
        self.is_settled = is_settled(ends)

    def delete(
        self, open_provider: Callable[[Machine], MachineProvider | None], *, only_look: bool = False
    ) -> tuple[KeptDiskState, str]:
        """Delete it, unless it is not there. Return what its provider says of it then, and why it is not deleted."""
        deadline = Deadline.after(self._clock, ORDER_SECONDS)
        try:
            provider = open_provider(self._machine)
            if provider is None:
                return KeptDiskState.UNREAD, "its inventory entry has no `provider` any more"
            is_there = provider.read_machine(deadline=deadline).find_kept_disk(self.order_id) is not None
        except RecordsError:
            raise
        except FleetpatchError as error:
            return KeptDiskState.UNREAD, error.message
        if not is_there:
            return self._settle_absent()
        if only_look:
            return KeptDiskState.WAY_BACK, ""
        if not self._was_ordered:
            self._write(JournalMark.BEFORE, {})
            self._was_ordered = True
        try:
            provider.carry_out(ProviderOrder(ProviderAct.DELETE_OS_DISK, self.order_id), deadline=deadline)
            is_there = provider.read_machine(deadline=deadline).find_kept_disk(self.order_id) is not None
        except RecordsError:
            raise
        except FleetpatchError as error:
            return KeptDiskState.UNREAD, error.message
        return (KeptDiskState.KEPT, "its provider says that it is still there") if is_there else self._settle_absent()

    def _settle_absent(self) -> tuple[KeptDiskState, str]:
        """Write down that its provider does not list it: the order has deleted it, or nobody knows who did."""
        state = KeptDiskState.DELETED if self._was_ordered else KeptDiskState.NOT_FOUND
        self._write(JournalMark.AFTER, {"state": state.value})
        if self._was_ordered:
            return state, ""
        again = "it is not looked for any more" if self._was_missed else "it is looked for once more"
        return state, f"its provider does not list it, and fleetpatch has not deleted it; {again}"

    def _write(self, mark: JournalMark, detail: dict[str, object]) -> None:
        name, now = self._machine.name, self._clock.now()
        self._records.append_entry(_build_entry(self._run_id, name, mark, self.order_id, now, detail))


def _build_entry(
    run_id: str, machine: str, mark: JournalMark, order_id: str, at: datetime, detail: dict[str, object]
) -> JournalEntry:
    return JournalEntry(run_id, machine, Step.REPORT, mark, DELETE_DISK_ACT, order_id, at, detail)
