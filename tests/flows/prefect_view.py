"""What Prefect's own server says of runs, asked as the UI does."""

import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any
from uuid import UUID

from prefect.client.orchestration import get_client
from prefect.client.schemas.filters import (
    ArtifactFilter,
    ArtifactFilterFlowRunId,
    FlowRunFilter,
    FlowRunFilterId,
    FlowRunFilterParentFlowRunId,
)
from prefect.client.schemas.objects import Artifact, FlowRun, TaskRunResult

WAIT_SECONDS = 240.0  # of patience, on cores that others use


@dataclass(frozen=True, slots=True)
class Seen:
    """A flow run with its parts: name -> state's name; and the task runs before each task run, by name."""

    run: FlowRun
    subflows: dict[str, str]
    tasks: dict[str, str]
    edges: dict[str, set[str]]


def look(flow_run_id: UUID, tasks: int) -> Seen:
    """Return what the server says once it has that many task runs: they reach it as events, a little later."""
    until = time.monotonic() + WAIT_SECONDS
    with get_client(sync_client=True) as client:
        run = client.read_flow_run(flow_run_id)
        subflows = client.read_flow_runs(
            flow_run_filter=FlowRunFilter(parent_flow_run_id=FlowRunFilterParentFlowRunId(any_=[flow_run_id]))
        )
        mine = FlowRunFilter(id=FlowRunFilterId(any_=[flow_run_id, *(subflow.id for subflow in subflows)]))
        while True:
            found = [one for one in client.read_task_runs(flow_run_filter=mine) if one.flow_run_id]
            ended = [one for one in found if one.state is not None and one.state.is_final()]
            if len(ended) >= tasks or time.monotonic() > until:
                break
            time.sleep(0.2)
    names = {one.id: one.name for one in found}
    edges = {
        one.name: {names[edge.id] for edge in one.task_inputs.get("wait_for", ()) if isinstance(edge, TaskRunResult)}
        for one in found
    }
    return Seen(run, states_of(subflows), states_of(found), edges)


def states_of(runs: Sequence[Any]) -> dict[str, str]:
    return {run.name: run.state.name for run in runs}


def artifacts(flow_run_id: UUID) -> dict[str, Artifact]:
    """Return the artifacts of a flow run that people are shown, by key."""
    mine = ArtifactFilter(flow_run_id=ArtifactFilterFlowRunId(any_=[flow_run_id]))
    with get_client(sync_client=True) as client:
        return {one.key: one for one in client.read_artifacts(artifact_filter=mine) if one.key is not None}


def waves(flow_run_id: UUID) -> list[str]:
    """Return the rows of the waves in the progress of a run, without the bars: "1 | 2 | 0 | 2 Succeeded"."""
    text = str(artifacts(flow_run_id)["fleetpatch-patch-progress"].data)
    return [line.strip("| ") for line in text.splitlines() if line.startswith("| ") and line[2].isdigit()]
