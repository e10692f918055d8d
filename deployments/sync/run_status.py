"""Finds the status of the run of an open window: none, waiting or started."""

import time
from collections.abc import Callable, Sequence
from datetime import datetime, timedelta
from enum import StrEnum

from prefect.client.orchestration import SyncPrefectClient
from prefect.client.schemas.filters import (
    DeploymentFilter,
    DeploymentFilterId,
    FlowRunFilter,
    FlowRunFilterExpectedStartTime,
)
from prefect.client.schemas.objects import StateType

from deployments.sync.next_windows import SCHEDULER_DELAY, NextWindows
from flows.prefect_api.pagination import read_all_pages

POLL_SECONDS = 1.0


_NOT_STARTED_STATES = frozenset({StateType.SCHEDULED, StateType.PENDING, StateType.CANCELLED})


class RunStatus(StrEnum):
    """The status of the run of a window."""

    NONE = "none"  # there is no run, or it was cancelled before it started
    WAITING = "waits"  # no worker has started it
    STARTED = "begun"


def find_run_statuses(
    client: SyncPrefectClient,
    next_windows: Sequence[NextWindows],
    clock: Callable[[], datetime],
    sleep: Callable[[float], None] = time.sleep,
) -> dict[str, RunStatus]:
    """Return the status of the run of each due window, by deployment.

    Args:
        client: client of the server with the deployments.
        next_windows: the next windows.
        clock: returns the present time. If a run is due within seconds, the function waits for the scheduler.
        sleep: waits for some seconds.
    """
    deadline = clock() + SCHEDULER_DELAY
    statuses = {
        next_window.deployment: _find_run_status(client, next_window)
        for next_window in next_windows
        if next_window.due_window is not None
    }
    while clock() < deadline:
        missing = [
            next_window
            for next_window in next_windows
            if statuses.get(next_window.deployment) is RunStatus.NONE
            and _compute_run_start(next_window) > clock() - SCHEDULER_DELAY
        ]
        if not missing:
            break
        sleep(POLL_SECONDS)
        statuses |= {deployment.deployment: _find_run_status(client, deployment) for deployment in missing}
    return statuses


def _compute_run_start(next_windows: NextWindows) -> datetime:
    assert next_windows.due_window is not None  # noqa: S101 - for the type checker
    return next_windows.due_window.start - next_windows.lead


def _find_run_status(client: SyncPrefectClient, next_windows: NextWindows) -> RunStatus:
    """Return the status of the runs that a schedule or a person made since the window's run was due."""
    deployment = client.read_deployment_by_name(next_windows.deployment)
    assert next_windows.due_window is not None  # noqa: S101 - for the type checker
    last = next_windows.due_window.end
    if next_windows.next_window is not None:
        # A run from that time on belongs to the next window.
        last = min(last, next_windows.next_window.start - next_windows.lead - timedelta(seconds=1))
    span = FlowRunFilterExpectedStartTime.model_validate(
        {"after_": _compute_run_start(next_windows) - timedelta(seconds=1), "before_": last}
    )
    runs = list(
        read_all_pages(
            lambda limit, offset: client.read_flow_runs(
                deployment_filter=DeploymentFilter(id=DeploymentFilterId(any_=[deployment.id])),
                flow_run_filter=FlowRunFilter(expected_start_time=span),
                limit=limit,
                offset=offset,
            )
        )
    )
    # The start time proves nothing: Prefect also sets it when a run ends without a start.
    if any(run.run_count or run.state_type not in _NOT_STARTED_STATES for run in runs):
        return RunStatus.STARTED
    is_waiting = any(run.state_type is not StateType.CANCELLED for run in runs)
    return RunStatus.WAITING if is_waiting else RunStatus.NONE
