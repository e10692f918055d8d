"""Deletes OS disks that upgrades have replaced, once their days are over. One that nobody deletes fills stores."""

import logging
from collections.abc import Callable, Iterator
from datetime import timedelta

from flows.components.overview import ComponentKnowledge
from inventory.data_class import dataclass
from inventory.machine import Inventory, Machine
from tasks.domain.components import ComponentTry
from tasks.domain.errors import FleetpatchError
from tasks.domain.protocols.clock import Clock, Deadline
from tasks.domain.protocols.machine_provider import MachineProvider
from tasks.domain.protocols.records import JournalEntry, JournalMark, Records
from tasks.domain.provided_machines import ProviderAct, ProviderOrder
from tasks.domain.states import Step
from tasks.steps.context.journal import DELETE_DISK_ACT, REPLACE_ACT, build_job_id

ORDER_SECONDS = 600.0

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class ExpiredDisk:
    """An OS disk that is kept no longer.

    Attributes:
        order_id: of the order that replaced it.
        problem: why it is still there, or "".
    """

    machine: str
    run_id: str
    order_id: str
    problem: str = ""


def delete_expired_disks(
    knowledge: ComponentKnowledge,
    inventory: Inventory,
    records: Records,
    open_provider: Callable[[Machine], MachineProvider | None],
    clock: Clock,
) -> tuple[ExpiredDisk, ...]:
    """Delete the disks that successful upgrades have replaced, and whose days are over. Return what became of each.

    The journal of that upgrade's run gets an entry, so that the provider is asked once for each.

    Raises:
        RecordsError: the records can't be read or written.
    """
    machines = {machine.name: machine for machine in inventory.machines}
    results = []
    for attempt in _find_expired(knowledge, clock):
        machine = machines.get(attempt.machine)
        entries = records.read_entries(attempt.run_id, attempt.machine)
        if machine is None or any(entry.act == DELETE_DISK_ACT for entry in entries):
            continue
        order_id = build_job_id(attempt.run_id, attempt.machine, REPLACE_ACT, 0)
        problem = _delete(machine, order_id, open_provider, clock)
        if problem:
            logger.warning("%s: its OS disk %s is still kept: %s", machine.name, order_id, problem)
        else:
            entry = JournalEntry(
                attempt.run_id, machine.name, Step.REPORT, JournalMark.AFTER, DELETE_DISK_ACT, order_id, clock.now(), {}
            )
            records.append_entry(entry)
        results.append(ExpiredDisk(machine.name, attempt.run_id, order_id, problem))
    return tuple(results)


def _find_expired(knowledge: ComponentKnowledge, clock: Clock) -> Iterator[ComponentTry]:
    for component in knowledge.catalogue.components:
        if component.image is None:
            continue
        until = clock.now() - timedelta(days=component.image.keep_days)
        for attempt in knowledge.tries.get(component.name, ()):
            if attempt.succeeded and attempt.at <= until:
                yield attempt


def _delete(
    machine: Machine, order_id: str, open_provider: Callable[[Machine], MachineProvider | None], clock: Clock
) -> str:
    """Delete one disk. Return why it is still there, or "": what the provider says afterwards decides."""
    try:
        provider = open_provider(machine)
        if provider is None:
            return "its inventory entry names nobody who holds its disks any more"
        deadline = Deadline.after(clock, ORDER_SECONDS)
        if provider.read_machine(deadline=deadline).find_kept_disk(order_id) is None:
            return ""
        provider.carry_out(ProviderOrder(ProviderAct.DELETE_OS_DISK, order_id), deadline=deadline)
        is_there = provider.read_machine(deadline=deadline).find_kept_disk(order_id) is not None
    except FleetpatchError as error:
        return error.message
    return "its provider says that it is still there" if is_there else ""
