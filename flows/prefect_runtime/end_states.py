"""Which state a run's end has in Prefect: one table, for the live end, a crash, an orphan and a retry.

Prefect's automations react to types: a run that patched nothing is never Completed. Names are those of the records.
"""

from collections.abc import Mapping
from typing import Any, Final

from prefect.client.schemas.objects import State, StateType

from tasks.domain.model import RunInfo
from tasks.domain.states import OperationState, WindowStatus

_ENDS: Final[Mapping[OperationState | WindowStatus, tuple[StateType, str]]] = {
    OperationState.SUCCEEDED: (StateType.COMPLETED, "Completed"),
    OperationState.COMPLETED_WITH_WARNINGS: (StateType.COMPLETED, "CompletedWithWarnings"),
    OperationState.FAILED: (StateType.FAILED, "Failed"),
    OperationState.CANCELLED: (StateType.CANCELLED, "Cancelled"),
    OperationState.UNKNOWN: (StateType.FAILED, "Unknown"),  # the records do not answer this process
    OperationState.NOT_STARTED: (StateType.FAILED, "NotStarted"),  # no approval, a broken chain, a freeze meanwhile
    # A run that was not admitted is NotStarted as well. A missed window is a failure, each other refusal is a decision.
    WindowStatus.MISSED: (StateType.FAILED, "NotStarted"),
    WindowStatus.FROZEN: (StateType.CANCELLED, "Frozen"),
    WindowStatus.HELD: (StateType.CANCELLED, "Held"),
    WindowStatus.CLAIMED: (StateType.CANCELLED, "Replaced"),
    WindowStatus.REPLACED: (StateType.CANCELLED, "Replaced"),
    WindowStatus.CANCELLED: (StateType.CANCELLED, "Cancelled"),
}


def build_final_state(run: RunInfo, message: str = "", data: object = None) -> State[Any]:
    """Return the state that Prefect must show for a run that is over. Pure.

    Args:
        run: what the records have of it.
        message: for people; "": the run's own.
        data: the result of the flow.
    """
    kind, name = _ENDS[run.refusal or run.state]
    return State(type=kind, name=name, message=message or run.message or f"run {run.id}: {run.state}", data=data)
