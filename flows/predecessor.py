"""A flow run whose process died. Prefect shows it as running for ever, unless who takes its run up ends it there."""

from collections.abc import Iterator
from uuid import UUID

from prefect.client.orchestration import SyncPrefectClient, get_client
from prefect.client.schemas.filters import (
    FlowRunFilter,
    FlowRunFilterId,
    FlowRunFilterParentFlowRunId,
)
from prefect.client.schemas.objects import FlowRun, State, StateType, TaskRun
from prefect.exceptions import ObjectNotFound
from prefect.states import Crashed

_CARRIED_OUT = (StateType.RUNNING, StateType.CANCELLING)
_AT_MOST = 200  # what Prefect's API gives at once


def bury(flow_run_id: str, message: str) -> None:
    """Let Prefect show a flow run that nobody carries out any more, its waves and its steps, as crashed.

    What has ended already keeps its state, and a flow run that is unknown there is none of this server's.

    Args:
        flow_run_id: of the flow run that had begun the run.
        message: what became of the run.
    """
    state: State[None] = Crashed(message=message)
    with get_client(sync_client=True) as client:
        try:
            first = client.read_flow_run(UUID(flow_run_id))
        except ObjectNotFound:
            return
        if first.state is None or first.state.type not in _CARRIED_OUT:  # ended, or asked for once more
            return
        left = [first, *(wave for wave in _waves(client, first) if not _ended(wave))]
        mine = FlowRunFilter(id=FlowRunFilterId(any_=[run.id for run in left]))
        for task in client.read_task_runs(flow_run_filter=mine, limit=_AT_MOST):
            if not _ended(task):
                client.set_task_run_state(task.id, state, force=True)
        for run in left:
            client.set_flow_run_state(run.id, state, force=True)


def _ended(run: FlowRun | TaskRun) -> bool:
    return run.state is not None and run.state.is_final()


def _waves(client: SyncPrefectClient, first: FlowRun) -> Iterator[FlowRun]:
    parent = FlowRunFilterParentFlowRunId(any_=[first.id])
    yield from client.read_flow_runs(flow_run_filter=FlowRunFilter(parent_flow_run_id=parent), limit=_AT_MOST)
