"""Flow runs of which Prefect shows another end than their run's, or none: they are set right."""

import logging
import time
from collections.abc import Collection, Sequence
from typing import Any
from uuid import UUID

from prefect.client.orchestration import SyncPrefectClient, get_client
from prefect.client.schemas.filters import (
    FlowRunFilter,
    FlowRunFilterId,
    FlowRunFilterParentFlowRunId,
)
from prefect.client.schemas.objects import FlowRun, State, StateType, TaskRun
from prefect.exceptions import ObjectNotFound
from prefect.states import Cancelled, Completed, Crashed, Failed

from flows.prefect_api.api_client import NO_ANSWER_ERRORS
from tasks.model import RunInfo
from tasks.states import UNFINISHED_RUN_STATES, OperationState

logger = logging.getLogger(__name__)

_PAGE_SIZE = 200  # what Prefect's API gives at once
_POLL_SECONDS = 0.5
_CANCELLED_STATES = frozenset({StateType.CANCELLED, StateType.CANCELLING})


def build_final_state(run: RunInfo, message: str, *, was_cancelled: bool = False) -> State[Any]:
    """Return what Prefect is to show of a run that is over. Pure.

    Args:
        run: as it ended.
        message: for people.
        was_cancelled: whether its flow run was; it stays so when something was left undone.
    """
    if was_cancelled and run.state not in {OperationState.SUCCEEDED, OperationState.FAILED}:
        return Cancelled(message=message)
    match run.state:
        case OperationState.SUCCEEDED | OperationState.COMPLETED_WITH_WARNINGS:
            return Completed(message=message)
        case OperationState.FAILED:
            return Failed(message=message)
        case _:
            return Cancelled(message=message)


def was_flow_run_cancelled(flow_run_id: str) -> bool:
    """Return whether a flow run had been cancelled when it ended the last time, as far as Prefect can be asked."""
    try:
        with get_client(sync_client=True) as client:
            states = client.read_flow_run_states(UUID(flow_run_id))
    except (ObjectNotFound, *NO_ANSWER_ERRORS):
        return False
    ends = [state for state in states if state.is_final()]
    return bool(ends) and max(ends, key=lambda state: state.timestamp).type in _CANCELLED_STATES


def close_stale_flow_run(flow_run_id: str, run: RunInfo) -> None:
    """Let Prefect show how the run of a flow run ended whose process is gone, and its open waves and steps as crashed.

    A flow run that is unknown there is none of this server's.

    Args:
        flow_run_id: of the flow run that had begun the run.
        run: as it ended.
    """
    message = f"its process ended; run {run.id} was resumed: {run.state}"
    with get_client(sync_client=True) as client:
        try:
            first = client.read_flow_run(UUID(flow_run_id))
        except ObjectNotFound:
            return
        if first.state is None or first.state.is_scheduled() or first.state.is_pending():  # asked for once more
            return
        open_waves = [wave for wave in read_wave_flow_runs(client, first.id) if not _has_ended(wave)]
        _mark_crashed(client, open_waves, message, first.id)
        _correct_state(client, first, run, message)


def close_stale_waves(flow_run_id: UUID, own_wave_ids: Collection[UUID]) -> None:
    """Let Prefect show the open waves of a flow run that was started again, and their steps, as crashed.

    Args:
        flow_run_id: of the flow run.
        own_wave_ids: ids of the waves that this process has begun: they tell their ends themselves.
    """
    with get_client(sync_client=True) as client:
        open_waves = [
            wave
            for wave in read_wave_flow_runs(client, flow_run_id)
            if not _has_ended(wave) and wave.id not in own_wave_ids
        ]
        if open_waves:
            _mark_crashed(client, open_waves, "its process ended; another process continues")


def _mark_crashed(client: SyncPrefectClient, waves: Sequence[FlowRun], message: str, *others: UUID) -> None:
    """Show waves as crashed, and the open steps of theirs and of other flow runs."""
    crashed: State[None] = Crashed(message=message)
    mine = FlowRunFilter(id=FlowRunFilterId(any_=[*others, *(wave.id for wave in waves)]))
    for task in client.read_task_runs(flow_run_filter=mine, limit=_PAGE_SIZE):
        if not _has_ended(task):
            client.set_task_run_state(task.id, crashed, force=True)
    for wave in waves:
        client.set_flow_run_state(wave.id, crashed, force=True)


def correct_flow_run_state(flow_run_id: str, run: RunInfo, message: str = "") -> None:
    """Let Prefect show how a run ended where it shows otherwise, as when it was cancelled too late to change anything.

    Raises nothing: what Prefect shows changes nothing.

    Args:
        flow_run_id: of the flow run.
        run: as it ended.
        message: for people; by default the run's own.
    """
    try:
        with get_client(sync_client=True) as client:
            found = client.read_flow_run(UUID(flow_run_id))
            _correct_state(client, found, run, message or run.message or f"run {run.id}: {run.state}")
    except ObjectNotFound:
        pass
    except NO_ANSWER_ERRORS as error:
        logger.warning("Prefect did not receive that run %s is %s: %s", run.id, run.state, error)


def correct_state_once_ended(flow_run_id: str, run: RunInfo, seconds: float) -> None:
    """Do that when Prefect shows an end, at most so many seconds from now: whoever ended the process tells it then."""
    until = time.monotonic() + seconds
    try:
        with get_client(sync_client=True) as client:
            while time.monotonic() < until:
                state = client.read_flow_run(UUID(flow_run_id)).state
                if state is not None and state.is_final():
                    break
                time.sleep(_POLL_SECONDS)
    except (ObjectNotFound, *NO_ANSWER_ERRORS):
        return
    correct_flow_run_state(flow_run_id, run)


def _correct_state(client: SyncPrefectClient, found: FlowRun, run: RunInfo, message: str) -> None:
    shown = found.state
    if run.state in UNFINISHED_RUN_STATES or shown is None or shown.is_scheduled() or shown.is_pending():
        return
    wanted = build_final_state(run, message, was_cancelled=shown.type in _CANCELLED_STATES)
    if shown.type is not wanted.type:
        client.set_flow_run_state(found.id, wanted, force=True)


def _has_ended(run: FlowRun | TaskRun) -> bool:
    return run.state is not None and run.state.is_final()


def read_wave_flow_runs(client: SyncPrefectClient, flow_run_id: UUID) -> list[FlowRun]:
    """Return the waves that Prefect shows under a flow run."""
    parent = FlowRunFilterParentFlowRunId(any_=[flow_run_id])
    return client.read_flow_runs(flow_run_filter=FlowRunFilter(parent_flow_run_id=parent), limit=_PAGE_SIZE)
