"""Runs that end early: suspended ones, which can be resumed in the same window, and cancelled ones. No Prefect.

A suspended run stops like a cancelled one, but leaves open what has not begun. The journal has two entries for it: one
before the run stops, and one after. A third entry says that the run was resumed. The end of a cancelled run says who
wanted it, when, why, and what was left undone.
"""

import logging
from collections.abc import Iterable, Sequence
from datetime import datetime
from typing import Final

from inventory.data_class import dataclass
from inventory.name_lists import join_first_names
from tasks.domain.errors import RecordsError
from tasks.domain.model import Outcome
from tasks.domain.protocols.leases import Leases, StopRequest
from tasks.domain.protocols.records import JournalEntry, JournalMark, Records
from tasks.domain.states import OperationState, Step, UpdateState
from tasks.reports.formatting import format_count

logger = logging.getLogger(__name__)

SUSPEND_ACT: Final = "suspend"
RESUME_ACT: Final = "go on"


@dataclass(frozen=True, slots=True)
class Suspension:
    """The suspension of a run."""

    at: datetime  # when it was requested, or when the run had stopped
    reason: str  # why
    flow_run_id: str  # Prefect's id of the flow run that was suspended; "" if there is none
    is_complete: bool  # whether the run has stopped; False: its process died before that


def find_suspension(entries: Iterable[JournalEntry]) -> Suspension | None:
    """Return a run's suspension from its journal; None if there is none, or if the run was resumed after it. Pure.

    The request is recorded by another thread than the stop, so a run that stops at once may record the stop first.
    """
    last = None
    for entry in entries:
        if entry.machine:
            continue
        if entry.act == RESUME_ACT:
            last = None
        elif entry.act == SUSPEND_ACT and (last is None or entry.mark is JournalMark.AFTER):
            last = entry
    if last is None:
        return None
    reason, flow_run_id = (str(last.detail.get(key) or "") for key in ("reason", "flow_run_id"))
    return Suspension(last.at, reason, flow_run_id, last.mark is JournalMark.AFTER)


def record_suspension(
    records: Records, run_id: str, mark: JournalMark, now: datetime, reason: str, flow_run_id: str
) -> None:
    """Record that a run is about to stop, or has stopped, because it was suspended.

    Raises:
        RecordsError: the entry can't be stored.
    """
    detail: dict[str, object] = {"reason": reason, "flow_run_id": flow_run_id}
    records.append_entry(JournalEntry(run_id, "", Step.ASSESS, mark, SUSPEND_ACT, SUSPEND_ACT, now, detail))


def record_resumption(records: Records, run_id: str, now: datetime, who: str) -> None:
    """Record that a suspended run was resumed. Raise RecordsError if the entry can't be stored."""
    records.append_entry(
        JournalEntry(run_id, "", Step.ASSESS, JournalMark.AFTER, RESUME_ACT, RESUME_ACT, now, {"who": who})
    )


MAX_NAMES = 10
PLAIN_REASON = "cancelled"
"""The reason of `fleetpatch cancel` without another one."""


def add_cancellation(
    leases: Leases, run_id: str, state: OperationState, message: str, outcomes: Sequence[Outcome]
) -> tuple[OperationState, str]:
    """Return the state and the message of a stopped run at its end. If a person asked it to stop, they say so."""
    try:
        lease = leases.find_lease(run_id)
    except RecordsError as error:
        logger.warning("whether run %s was cancelled is not known: %s", run_id, error)
        return state, message
    if lease is None or lease.stop is None:
        return state, message
    state, cancelled = describe_cancellation(state, lease.stop, outcomes)
    return state, f"{message}; {cancelled}" if message else cancelled


def describe_cancellation(
    state: OperationState, asked: StopRequest, outcomes: Sequence[Outcome]
) -> tuple[OperationState, str]:
    """Return the state and the message of a run that was cancelled. Pure.

    A failed run stays Failed. A run in which nothing was left undone keeps its state: the request came too late.
    """
    undone = describe_undone(outcomes)
    if undone and state in {OperationState.COMPLETED_WITH_WARNINGS, OperationState.NOT_STARTED}:
        state = OperationState.CANCELLED
    reason = f": {asked.reason}" if asked.reason != PLAIN_REASON else ""
    by = f"cancelled by {asked.asker} at {asked.at:%Y-%m-%d %H:%M:%S} UTC{reason}"
    return state, f"{by}. Left undone: {undone or 'nothing'}"


def describe_undone(outcomes: Sequence[Outcome]) -> str:
    """Return what a stopped run did not begin: machines, and updates of others. "" if it left nothing undone. Pure."""
    not_begun = [outcome.machine for outcome in outcomes if outcome.state is OperationState.NOT_STARTED]
    cut_short = [
        outcome.machine
        for outcome in outcomes
        if outcome.state is not OperationState.NOT_STARTED and outcome.count_updates(UpdateState.NOT_ATTEMPTED)
    ]
    left = [
        f"{len(not_begun)} of {format_count(len(outcomes), 'machine')} not begun "
        f"({join_first_names(not_begun, MAX_NAMES)})"
        if not_begun
        else "",
        f"updates not attempted on {join_first_names(cut_short, MAX_NAMES)}" if cut_short else "",
    ]
    return "; ".join(text for text in left if text)
