"""Deletes copies of machines that rehearsals have left: those of runs that are over, by the sealed journals alone."""

import functools
import logging

from flows.composition import open_ports
from flows.ports.caller import Caller
from flows.ports.ports import Ports
from flows.request.read_requests import AssessRequest
from flows.snapshots import DELETE_SECONDS, READ_SECONDS, DeletionState, Handled, find_machine
from tasks.domain.errors import FleetpatchError, ProviderError
from tasks.domain.protocols.clock import Deadline
from tasks.domain.protocols.machine_provider import MachineProvider
from tasks.domain.protocols.records import JournalEntry, JournalMark
from tasks.domain.provided_machines import ProviderAct, ProviderOrder
from tasks.domain.states import Step
from tasks.records.queries.copies import LeftCopy, find_left_copies
from tasks.records.setup import open_records
from tasks.rules.rehearsal import OVERLAY_ACT

logger = logging.getLogger(__name__)


def delete_left_copies(caller: Caller) -> tuple[Handled, ...]:
    """Delete the copies of machines whose runs are over, by the inventory of this controller.

    Return what became of each. Without any, nothing is opened. What can't be deleted is found again the next time.

    Raises:
        FleetpatchError: the records or the inventory can't be read.
    """
    with open_records(caller.records_url) as records:
        left = find_left_copies(records.database)
    if not left:
        return ()
    with open_ports(AssessRequest(scope="*"), caller) as ports:
        return tuple(delete_copy_safely(copy, ports) for copy in left)


def delete_copy_safely(copy: LeftCopy, ports: Ports) -> Handled:
    """Delete the copy of a machine, whose run is over, and record that it is gone. What is in doubt stays."""
    make = functools.partial(Handled, copy.machine, copy.id)
    try:
        ports.records.read_entries(copy.run_id, "")  # it checks the seals: that a run has made the copy
        provider = ports.open_provider(find_machine(copy.machine, copy.provider, ports))
        if provider is None or ProviderAct.DELETE_OVERLAY not in provider.acts:
            raise ProviderError("its provider can't delete copies: do it there")
        was_there = _has_copy(provider, copy, ports)
        reason = _order_away(provider, copy, ports)
        if _has_copy(provider, copy, ports) or (reason and not was_there):
            return make(DeletionState.FAILED, reason or "it is still there, and the provider gave no reason")
        detail: dict[str, object] = {"machine": copy.machine}
        now = ports.clock.now()
        entry = JournalEntry(copy.run_id, "", Step.ASSESS, JournalMark.AFTER, OVERLAY_ACT, copy.id, now, detail)
        ports.records.append_entry(entry)
    except FleetpatchError as error:
        logger.info("%s: its copy %s could not be deleted: %s", copy.machine, copy.id, error.message)
        return make(DeletionState.FAILED, error.message)
    return make(DeletionState.DELETED if was_there else DeletionState.GONE)


def _order_away(provider: MachineProvider, copy: LeftCopy, ports: Ports) -> str:
    """Order the copy away, also if it is not seen: a part of one may be there. Return why that failed, or ""."""
    order = ProviderOrder(ProviderAct.DELETE_OVERLAY, copy.id)
    try:
        provider.carry_out(order, deadline=Deadline.after(ports.clock, DELETE_SECONDS))
    except FleetpatchError as error:
        return error.message
    return ""


def _has_copy(provider: MachineProvider, copy: LeftCopy, ports: Ports) -> bool:
    overlay = provider.read_machine(deadline=Deadline.after(ports.clock, READ_SECONDS)).overlay
    return overlay is not None and overlay.id == copy.id
