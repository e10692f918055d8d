"""Flow runs of abandoned runs in Prefect: the one that resumes a run, and those that were cancelled meanwhile.

Only one flow run resumes a run at a time, however many processes request it.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import Final
from uuid import UUID

from prefect.client.orchestration import SyncPrefectClient, get_client
from prefect.client.schemas.filters import FlowRunFilter, FlowRunFilterTags
from prefect.client.schemas.objects import FlowRun, StateType
from prefect.client.schemas.responses import DeploymentResponse
from prefect.client.schemas.sorting import FlowRunSort
from prefect.exceptions import ObjectNotFound

from flows.ports.caller import Caller
from flows.prefect_api.tags import add_fleet_tag
from flows.prefect_runtime.flow_run_starter import build_resume_key
from flows.recovery.abandoned_runs import AbandonedRun
from flows.recovery.cancellation import record_stop_request
from tasks.records.fleets import find_fleet

STARTUP_GRACE: Final = timedelta(minutes=10)
"""The maximum time from the start of a flow run's process to the lease of its run, on a busy machine."""


@dataclass(frozen=True, slots=True)
class ResumeFlowRun:
    """The flow run that resumes a run.

    Attributes:
        is_new: whether it was created now; False: an earlier one is waiting or starting.
        since: when it was created, or when it got its present state.
    """

    name: str
    state: str
    is_new: bool
    since: datetime


def start_resume_flow_run(
    client: SyncPrefectClient, resume: DeploymentResponse, abandoned_run: AbandonedRun, now: datetime
) -> ResumeFlowRun:
    """Create a flow run that resumes a run, unless one is already waiting or starting.

    Processes that ask at the same time get the same flow run: the id of the flow run before it is in the idempotency
    key. The new flow run decides itself what to do when it begins, because it may wait long for a worker.

    Args:
        client: the client of Prefect's server.
        resume: the deployment of ``resume_fleet``.
        abandoned_run: the run.
        now: the present time.

    Raises:
        httpx.HTTPError: the server does not answer, or refuses.
    """
    tag = f"fleetpatch-run:{abandoned_run.run.id}"
    run_filter = FlowRunFilter(tags=FlowRunFilterTags(all_=[tag]))
    newest = client.read_flow_runs(flow_run_filter=run_filter, sort=FlowRunSort.EXPECTED_START_TIME_DESC, limit=1)
    before = newest[0] if newest else None
    if before is not None and may_still_resume(before, abandoned_run, now):
        return _build_resume_flow_run(before, is_new=False, now=now)
    made = client.create_flow_run_from_deployment(
        resume.id,
        name=f"resume-{abandoned_run.run.id}",
        parameters={"run_id": abandoned_run.run.id, "if_abandoned": True},
        tags=[*add_fleet_tag(resume.tags, find_fleet()), tag],
        idempotency_key=build_resume_key(abandoned_run.run.id, str(before.id) if before is not None else ""),
    )
    return _build_resume_flow_run(made, is_new=True, now=now)


def may_still_resume(resume_flow_run: FlowRun, abandoned_run: AbandonedRun, now: datetime) -> bool:
    """Return whether a flow run may still resume the run that it was created for. Pure.

    A flow run that waits for a worker may, without a time limit. After its process has started it has some minutes to
    take the run lease. If that lease has ended again, or was never taken, its process is dead.
    """
    state = resume_flow_run.state
    if state is None or state.is_final():
        return False
    if state.type is StateType.SCHEDULED:
        return True
    return abandoned_run.since <= state.timestamp and now - state.timestamp < STARTUP_GRACE


def _build_resume_flow_run(resume_flow_run: FlowRun, *, is_new: bool, now: datetime) -> ResumeFlowRun:
    state = resume_flow_run.state
    since = datetime.fromtimestamp(state.timestamp.timestamp(), now.tzinfo) if state is not None else now
    return ResumeFlowRun(resume_flow_run.name, state.name or "" if state is not None else "", is_new, since)


def stop_runs_cancelled_in_prefect(abandoned_runs: Sequence[AbandonedRun], caller: Caller) -> Iterator[AbandonedRun]:
    """Yield the abandoned runs. Ask a suspended run to stop if its flow run was cancelled or deleted.

    A flow run that is cancelled while it is suspended has no process, so Prefect can't notify one.
    """
    for left in abandoned_runs:
        if (
            left.wait_reason
            and left.suspension is not None
            and (reason := _find_cancellation(left.suspension.flow_run_id))
        ):
            record_stop_request(left.run.id, replace(caller, name=caller.name or "Prefect"), reason)
            yield replace(left, finalize_reason=reason)
        else:
            yield left


def _find_cancellation(flow_run_id: str) -> str:
    """Return that a flow run was cancelled or deleted, or ""."""
    if not flow_run_id:
        return ""
    try:
        with get_client(sync_client=True) as client:
            state = client.read_flow_run(UUID(flow_run_id)).state
    except ObjectNotFound:
        return "its flow run was deleted in Prefect while it was suspended"
    return "cancelled in Prefect while it was suspended" if state is not None and state.is_cancelled() else ""
