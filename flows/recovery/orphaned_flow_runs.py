"""Find and end orphaned flow runs: Running or Pending in Prefect, while their run is over in the records.

That happens when Prefect's server was away at the end of a run, and when a process was killed after it.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final

from prefect.client.orchestration import SyncPrefectClient
from prefect.client.schemas.filters import (
    FlowFilter,
    FlowFilterName,
    FlowRunFilter,
    FlowRunFilterParentTaskRunId,
    FlowRunFilterState,
    FlowRunFilterStateType,
)
from prefect.client.schemas.objects import FlowRun, StateType
from prefect.client.schemas.sorting import FlowRunSort

from flows.prefect_api.deployment_changes import to_utc_datetime
from flows.prefect_api.pagination import read_all_pages
from flows.prefect_runtime.flow_run_states import end_flow_run
from flows.recovery.finalizer import find_run_of_flow_run
from tasks.domain.model import RunInfo
from tasks.domain.states import UNFINISHED_RUN_STATES
from tasks.records.setup import open_records

RUN_FLOW_NAMES: Final = ("patch-fleet", "resume-fleet", "assess-fleet", "plan-fleet")
"""The flows whose runs are in the records."""
DELIVERY_TIME: Final = timedelta(seconds=30)
"""After its end, a run's own process may still be about to tell Prefect of it."""
START_TIME: Final = timedelta(minutes=5)
"""A flow run that is Pending for less time may be about to begin once more."""
_OPEN_STATES: Final = (StateType.RUNNING, StateType.PENDING, StateType.CANCELLING)


@dataclass(frozen=True, slots=True)
class OrphanedFlowRun:
    """A flow run without an end in Prefect, whose run is over in the records."""

    flow_run: FlowRun
    run: RunInfo

    @property
    def description(self) -> str:
        """Which flow run it is, and how its run ended, as text."""
        state = self.flow_run.state_name or "without a state"
        return f"flow run {self.flow_run.name} is {state} in Prefect, and run {self.run.id} is over: {self.run.state}"


def find_orphaned_flow_runs(
    client: SyncPrefectClient, records_url: str | None, now: datetime
) -> tuple[OrphanedFlowRun, ...]:
    """Return the orphaned flow runs of these records.

    Args:
        client: a client of the Prefect server.
        records_url: the URL of the records; None: the default.
        now: the present time.

    Raises:
        RecordsError: the records can't be read.
        httpx.HTTPError, OSError, ValueError: Prefect gave no answer.
    """
    open_flow_runs = list(_read_open_flow_runs(client))
    if not open_flow_runs:
        return ()
    orphaned = []
    with open_records(records_url) as records:
        for flow_run in open_flow_runs:
            run = find_run_of_flow_run(
                records, str((flow_run.parameters or {}).get("run_id") or flow_run.id), str(flow_run.id)
            )
            if run is None or not _is_orphaned(flow_run, run, now):
                continue
            lease = records.leases.find_lease(run.id)
            if lease is None or not lease.is_held:  # else its process is about to tell Prefect
                orphaned.append(OrphanedFlowRun(flow_run, run))
    return tuple(orphaned)


def end_orphaned_flow_runs(
    client: SyncPrefectClient, records_url: str | None, now: datetime
) -> tuple[OrphanedFlowRun, ...]:
    """End the orphaned flow runs in Prefect, with the state of the records, and return them as they were.

    Raises:
        RecordsError: the records can't be read.
        httpx.HTTPError, OSError, ValueError: Prefect gave no answer.
    """
    orphaned = find_orphaned_flow_runs(client, records_url, now)
    for flow_run in orphaned:
        ended = f" at {flow_run.run.ended_at:%Y-%m-%d %H:%M:%S} UTC" if flow_run.run.ended_at else ""
        message = f"run {flow_run.run.id} ended{ended}: {flow_run.run.state}. Prefect did not receive it then."
        end_flow_run(client, flow_run.flow_run, flow_run.run, message)
    return orphaned


def _read_open_flow_runs(client: SyncPrefectClient) -> Iterator[FlowRun]:
    of_runs = FlowFilter(name=FlowFilterName(any_=list(RUN_FLOW_NAMES)))
    run_filter = FlowRunFilter(
        state=FlowRunFilterState(type=FlowRunFilterStateType(any_=list(_OPEN_STATES))),
        parent_task_run_id=FlowRunFilterParentTaskRunId(is_null_=True),
    )
    return read_all_pages(
        lambda limit, offset: client.read_flow_runs(
            flow_filter=of_runs, flow_run_filter=run_filter, sort=FlowRunSort.ID_DESC, limit=limit, offset=offset
        )
    )


def _is_orphaned(flow_run: FlowRun, run: RunInfo, now: datetime) -> bool:
    state = flow_run.state
    if run.state in UNFINISHED_RUN_STATES or run.ended_at is None or state is None:
        return False
    shown_since = to_utc_datetime(state.timestamp)
    return now - run.ended_at >= DELIVERY_TIME and (not state.is_pending() or now - shown_since >= START_TIME)
