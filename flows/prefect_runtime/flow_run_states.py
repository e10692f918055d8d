"""Correct flow runs whose state in Prefect does not match the end of their run."""

import logging
import time
from collections.abc import Iterable
from datetime import datetime
from uuid import UUID

from prefect.client.orchestration import SyncPrefectClient, get_client
from prefect.client.schemas.actions import ArtifactUpdate
from prefect.client.schemas.filters import (
    ArtifactFilter,
    ArtifactFilterFlowRunId,
    ArtifactFilterKey,
    FlowRunFilter,
    FlowRunFilterId,
    FlowRunFilterParentFlowRunId,
)
from prefect.client.schemas.objects import FlowRun, State, StateType, TaskRun
from prefect.client.schemas.sorting import FlowRunSort, TaskRunSort
from prefect.exceptions import ObjectNotFound
from prefect.states import Crashed

from flows.ports.web_links import read_web_url
from flows.prefect_api.api_client import NO_ANSWER_ERRORS, read_all_pages
from flows.prefect_api.deployment_changes import to_utc_datetime
from flows.prefect_runtime.end_states import build_final_state
from flows.prefect_runtime.run_artifacts import PROGRESS_KEY, render_progress
from tasks.domain.model import RunInfo, RunReport
from tasks.domain.states import UNFINISHED_RUN_STATES

logger = logging.getLogger(__name__)

_POLL_SECONDS = 0.5
_CANCELLING_SECONDS = 30.0
"""How long a worker may take to show that a flow run is Cancelled, after its hooks."""


def close_flow_runs_of(report: RunReport, flow_run_ids: Iterable[str], own_flow_run_id: str) -> None:
    """Close every other flow run that has begun or resumed a run: its process ended before the run did.

    Its state becomes the run's end, its open steps and forms become Crashed, and its progress says how the run ended.

    Args:
        report: of the run.
        flow_run_ids: all flow runs that have begun or resumed the run.
        own_flow_run_id: the flow run of this process, which tells its own end.

    Raises:
        httpx.HTTPError, OSError, ValueError: Prefect gave no answer.
    """
    if report.run.state in UNFINISHED_RUN_STATES:
        return
    for flow_run_id in sorted({report.run.flow_run_id, *flow_run_ids} - {"", own_flow_run_id}):
        _close_flow_run(flow_run_id, report)


def _close_flow_run(flow_run_id: str, report: RunReport) -> None:
    """Close one such flow run. One that this server does not have, or that was started again, is ignored."""
    run = report.run
    with get_client(sync_client=True) as client:
        try:
            flow_run = client.read_flow_run(UUID(flow_run_id))
        except ObjectNotFound:
            return
        if flow_run.state is None or flow_run.state.is_scheduled() or flow_run.state.is_pending():
            return
        if flow_run.state.is_cancelling():  # its worker would set it to Cancelled afterwards
            wait_for_reported_end(flow_run_id, _CANCELLING_SECONDS)
            flow_run = client.read_flow_run(flow_run.id)
        end_flow_run(client, flow_run, report, f"its process ended; run {run.id} is over: {run.state}")


def end_flow_run(client: SyncPrefectClient, flow_run: FlowRun, report: RunReport, message: str) -> None:
    """Close a flow run without a process.

    Its state becomes its run's end, its open steps and forms become Crashed, and its progress says how the run ended.
    """
    _mark_crashed(client, flow_run.id, message)
    _correct_state(client, flow_run, report.run, message, must_begin=False)
    progress = ArtifactFilter(
        flow_run_id=ArtifactFilterFlowRunId(any_=[flow_run.id]), key=ArtifactFilterKey(any_=[PROGRESS_KEY])
    )
    for artifact in read_all_pages(
        lambda limit, offset: client.read_artifacts(artifact_filter=progress, limit=limit, offset=offset)
    ):
        text = render_progress(report, (), None, read_web_url())
        client.update_artifact(artifact.id, ArtifactUpdate(data=text))


def close_stale_steps(flow_run_id: UUID, began_at: datetime) -> None:
    """Mark the open steps and forms of earlier processes of this flow run as crashed.

    What began after ``began_at``, the begin of this process, reports its own end.
    """
    with get_client(sync_client=True) as client:
        _mark_crashed(client, flow_run_id, "its process ended; another process continues", began_at)


def _mark_crashed(
    client: SyncPrefectClient, flow_run_id: UUID, message: str, began_before: datetime | None = None
) -> None:
    """Mark the open task runs and forms of a flow run as crashed, or those of them that began before a time.

    A shard's run is a subflow too, and has a process of its own, which goes on.
    """
    crashed: State[None] = Crashed(message=message)

    def is_left_open(run: FlowRun | TaskRun) -> bool:
        began_at = run.start_time or run.created
        is_earlier = began_before is None or (began_at is not None and to_utc_datetime(began_at) < began_before)
        return is_earlier and not (run.state is not None and run.state.is_final())

    children = read_subflow_runs(client, flow_run_id)
    of_others = {child.parent_task_run_id for child in children if child.deployment_id is not None}
    subflows = [child for child in children if child.deployment_id is None and is_left_open(child)]
    filter_of_runs = FlowRunFilter(id=FlowRunFilterId(any_=[flow_run_id, *(subflow.id for subflow in subflows)]))
    task_runs = read_all_pages(
        lambda limit, offset: client.read_task_runs(
            flow_run_filter=filter_of_runs, sort=TaskRunSort.ID_DESC, limit=limit, offset=offset
        )
    )
    for task_run in task_runs:
        if task_run.id not in of_others and is_left_open(task_run):
            client.set_task_run_state(task_run.id, crashed, force=True)
    for subflow in subflows:
        client.set_flow_run_state(subflow.id, crashed, force=True)


def correct_flow_run_state(flow_run_id: str, run: RunInfo, message: str = "") -> None:
    """Correct a flow run's state in Prefect if it does not match the run's end, as after a late cancellation.

    Raises nothing, because the state in Prefect has no effect on machines.
    """
    try:
        with get_client(sync_client=True) as client:
            flow_run = client.read_flow_run(UUID(flow_run_id))
            _correct_state(client, flow_run, run, message)
    except ObjectNotFound:
        pass
    except NO_ANSWER_ERRORS as error:
        logger.warning("Prefect did not receive that run %s is %s: %s", run.id, run.state, error)


def wait_for_reported_end(flow_run_id: str, seconds: float) -> StateType | None:
    """Look until Prefect shows an end of a flow run, at least once and at most this long. Return the end's type.

    Its process reports the end late. None also if Prefect does not answer, or does not have the flow run.
    """
    until = time.monotonic() + seconds
    try:
        with get_client(sync_client=True) as client:
            while True:
                state = client.read_flow_run(UUID(flow_run_id)).state
                if state is not None and state.is_final():
                    return state.type
                if time.monotonic() >= until:
                    return None
                time.sleep(_POLL_SECONDS)
    except (ObjectNotFound, *NO_ANSWER_ERRORS):
        return None


def correct_state_once_ended(flow_run_id: str, run: RunInfo, seconds: float) -> None:
    """Wait at most this long until Prefect shows an end, and then correct it."""
    wait_for_reported_end(flow_run_id, seconds)
    correct_flow_run_state(flow_run_id, run)


def _correct_state(
    client: SyncPrefectClient, flow_run: FlowRun, run: RunInfo, message: str, *, must_begin: bool = True
) -> None:
    """Correct a state. With ``must_begin``, a flow run that is Pending stays so: it was started again."""
    present_state = flow_run.state
    if run.state in UNFINISHED_RUN_STATES or present_state is None or present_state.is_scheduled():
        return
    if must_begin and present_state.is_pending():
        return
    final_state = build_final_state(run, message)
    if (present_state.type, present_state.name) != (final_state.type, final_state.name):
        client.set_flow_run_state(flow_run.id, final_state, force=True)


def read_subflow_runs(client: SyncPrefectClient, flow_run_id: UUID) -> list[FlowRun]:
    """Return the subflows of a flow run: its approval forms, and the runs of its shards."""
    under = FlowRunFilter(parent_flow_run_id=FlowRunFilterParentFlowRunId(any_=[flow_run_id]))
    return list(
        read_all_pages(
            lambda limit, offset: client.read_flow_runs(
                flow_run_filter=under, sort=FlowRunSort.ID_DESC, limit=limit, offset=offset
            )
        )
    )
