"""The end of a run that a person has cancelled: who, when, why, and what was left undone."""

import logging
from collections.abc import Sequence
from typing import TYPE_CHECKING

from inventory.name_lists import join_first_names
from tasks.domain.errors import RecordsError
from tasks.domain.model import Outcome, RunInfo
from tasks.domain.protocols.leases import Leases, StopRequest
from tasks.domain.states import OperationState, UpdateState
from tasks.reports.formatting import format_count

if TYPE_CHECKING:
    from flows.ports.ports import Ports

logger = logging.getLogger(__name__)

MAX_NAMES = 10
PLAIN_REASON = "cancelled"
"""The reason of `fleetpatch cancel` without another one."""


def add_cancellation(
    ports: "Ports", run: RunInfo, state: OperationState, message: str, outcomes: Sequence[Outcome]
) -> tuple[OperationState, str]:
    """Return the state and the message of a run at its end. If a person asked it to stop, they say so.

    Args:
        ports: the connections to the outside of the run.
        run: the run.
        state: its state from the outcomes and hooks.
        message: its message from the same.
        outcomes: all its outcomes.
    """
    asked = _find_stop_request(ports.leases, run.id) if run.may_change_machines else None
    if asked is None or not ports.stop_token.is_stopping:
        return state, message
    state, cancelled = describe_cancellation(state, asked, outcomes)
    return state, f"{message}; {cancelled}" if message else cancelled


def _find_stop_request(leases: Leases, run_id: str) -> StopRequest | None:
    try:
        lease = leases.find_lease(run_id)
    except RecordsError as error:
        logger.warning("whether run %s was cancelled is not known: %s", run_id, error)
        return None
    return lease.stop if lease is not None else None


def describe_cancellation(
    state: OperationState, asked: StopRequest, outcomes: Sequence[Outcome]
) -> tuple[OperationState, str]:
    """Return the state and the message of a run that was cancelled. Pure.

    A failed run stays Failed. A run in which nothing was left undone keeps its state: the request came too late.

    Args:
        state: the state from the outcomes.
        asked: the request.
        outcomes: all outcomes of the run.
    """
    undone = describe_undone(outcomes)
    if undone and state in {OperationState.COMPLETED_WITH_WARNINGS, OperationState.NOT_STARTED}:
        state = OperationState.CANCELLED
    reason = f": {asked.reason}" if asked.reason != PLAIN_REASON else ""
    by = f"cancelled by {asked.who} at {asked.at:%Y-%m-%d %H:%M:%S} UTC{reason}"
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
