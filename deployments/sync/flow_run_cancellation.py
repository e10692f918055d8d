"""Cancels waiting flow runs that have an old request, so that no worker starts them."""

from typing import TYPE_CHECKING
from uuid import UUID

from prefect.client.schemas.objects import StateType
from prefect.exceptions import Abort, ObjectNotFound
from prefect.states import Cancelled

from deployments.sync.model import WaitingRun

if TYPE_CHECKING:
    from prefect.client.orchestration import SyncPrefectClient

_WAITING_STATES = frozenset({StateType.SCHEDULED, StateType.PENDING})


def cancel_waiting_run(client: "SyncPrefectClient", run: WaitingRun, reason: str) -> bool:
    """Cancel a flow run that has not started. Return whether it was cancelled.

    Prefect has no operation "cancel if it still waits". If a worker starts the run in the meantime, this function sets
    the run back to Running. The run itself then compares its request with the current one, as its first step.

    Args:
        client: client of the server.
        run: a run that was waiting when the state was read.
        reason: the reason for people.
    """
    run_id = UUID(run.id)
    try:
        before = client.read_flow_run(run_id).state
        if before is None or before.type not in _WAITING_STATES:
            return False
        client.set_flow_run_state(run_id, Cancelled(message=f"cancelled by fleetpatch deploy: {reason}"))
        states = client.read_flow_run_states(run_id)
    except (ObjectNotFound, Abort):  # another program has deleted or changed the run
        return False
    running = [state for state in states if state.type is StateType.RUNNING]
    if running and states[-1].type is StateType.CANCELLED:
        client.set_flow_run_state(run_id, running[-1], force=True)
        return False
    return True
