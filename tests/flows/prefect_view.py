"""What Prefect's own server says of runs, asked as the UI does."""

import re
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
from prefect.client.schemas.objects import Artifact, FlowRun

WAIT_SECONDS = 240.0  # of patience, on cores that others use


@dataclass(frozen=True, slots=True)
class Seen:
    """A flow run with its parts: name -> state's name."""

    run: FlowRun
    waves: dict[str, str]
    tasks: dict[str, str]


def look(flow_run_id: UUID, tasks: int) -> Seen:
    """Return what the server says once it has that many task runs: they reach it as events, a little later."""
    until = time.monotonic() + WAIT_SECONDS
    with get_client(sync_client=True) as client:
        run = client.read_flow_run(flow_run_id)
        waves = client.read_flow_runs(
            flow_run_filter=FlowRunFilter(parent_flow_run_id=FlowRunFilterParentFlowRunId(any_=[flow_run_id]))
        )
        mine = FlowRunFilter(id=FlowRunFilterId(any_=[flow_run_id, *(wave.id for wave in waves)]))
        while True:
            found = [one for one in client.read_task_runs(flow_run_filter=mine) if one.flow_run_id]
            steps = [one for one in found if not one.name.startswith("patch-wave")]
            ended = [one for one in steps if one.state is not None and one.state.is_final()]
            if len(ended) >= tasks or time.monotonic() > until:
                break
            time.sleep(0.2)
    return Seen(run, {short_wave_name(name): state for name, state in states_of(waves).items()}, states_of(steps))


def short_wave_name(name: str) -> str:
    """Return "wave-2" for "web: wave 2 of 5 (12 machines)"."""
    found = re.search(r": wave (\d+)(?: of \d+)? \(\d+ machines?\)$", name)
    return f"wave-{found[1]}" if found else name


def states_of(runs: Sequence[Any]) -> dict[str, str]:
    return {run.name: run.state.name for run in runs}


def artifacts(flow_run_id: UUID) -> dict[str, Artifact]:
    """Return the artifacts of a flow run that people are shown, by key."""
    mine = ArtifactFilter(flow_run_id=ArtifactFilterFlowRunId(any_=[flow_run_id]))
    with get_client(sync_client=True) as client:
        return {one.key: one for one in client.read_artifacts(artifact_filter=mine) if one.key is not None}
