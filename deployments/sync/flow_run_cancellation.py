"""Cancel flow runs that wait with what was asked before, so that no worker begins them."""

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
    """Cancel a flow run that has not begun, and return whether that was done.

    Prefect can't be asked to cancel a run only if it still waits. Where a worker has let it begin in between, Prefect
    is told again that it runs. It then decides by itself, as its first step, whether it is what is asked now.

    Args:
        client: of the server.
        run: it waited when it was looked at.
        reason: for people.
    """
    run_id = UUID(run.id)
    try:
        before = client.read_flow_run(run_id).state
        if before is None or before.type not in _WAITING_STATES:
            return False
        client.set_flow_run_state(run_id, Cancelled(message=f"cancelled by fleetpatch deploy: {reason}"))
        states = client.read_flow_run_states(run_id)
    except (ObjectNotFound, Abort):  # somebody else was quicker
        return False
    running = [state for state in states if state.type is StateType.RUNNING]
    if running and states[-1].type is StateType.CANCELLED:
        client.set_flow_run_state(run_id, running[-1], force=True)
        return False
    return True
