"""A flow run of its own for a run that was abandoned: one, however often and by however many it is asked for."""

from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final

from prefect.client.orchestration import SyncPrefectClient
from prefect.client.schemas.filters import FlowRunFilter, FlowRunFilterTags
from prefect.client.schemas.objects import FlowRun, StateType
from prefect.client.schemas.responses import DeploymentResponse
from prefect.client.schemas.sorting import FlowRunSort

from flows.recovery.abandoned_runs import AbandonedRun

STARTUP_GRACE: Final = timedelta(minutes=10)
"""How long the process of a flow run may take from its start to the lease of its run, on a busy machine."""


@dataclass(frozen=True, slots=True)
class ResumeFlowRun:
    """The flow run that is to take up a run.

    Attributes:
        is_new: whether it was started now; otherwise an earlier one is on its way.
        since: when it was started, or has got its present state.
    """

    name: str
    state: str
    is_new: bool
    since: datetime


def start_resume_flow_run(
    client: SyncPrefectClient, resume: DeploymentResponse, abandoned_run: AbandonedRun, now: datetime
) -> ResumeFlowRun:
    """Start a flow run that takes a run up, unless one is on its way.

    Of several who ask at the same time all get the same flow run: it is known by the one before it. What it does it
    decides by itself when it begins: it may have waited long for a worker.

    Args:
        client: of the server.
        resume: the deployment of ``resume_fleet``.
        abandoned_run: the run.
        now: the present moment.

    Raises:
        httpx.HTTPError: the server does not answer, or refuses.
    """
    tag = f"fleetpatch-run:{abandoned_run.run.id}"
    wanted = FlowRunFilter(tags=FlowRunFilterTags(all_=[tag]))
    newest = client.read_flow_runs(flow_run_filter=wanted, sort=FlowRunSort.EXPECTED_START_TIME_DESC, limit=1)
    before = newest[0] if newest else None
    if before is not None and may_still_resume(before, abandoned_run, now):
        return _build_resume_flow_run(before, is_new=False, now=now)
    made = client.create_flow_run_from_deployment(
        resume.id,
        name=f"resume-{abandoned_run.run.id}",
        parameters={"run_id": abandoned_run.run.id, "if_abandoned": True},
        tags=[*resume.tags, tag],
        idempotency_key=f"{tag}:after:{before.id if before is not None else 'none'}",
    )
    return _build_resume_flow_run(made, is_new=True, now=now)


def may_still_resume(resume_flow_run: FlowRun, abandoned_run: AbandonedRun, now: datetime) -> bool:
    """Whether a flow run may still take up the run that it was started for. Pure.

    One that waits for a worker does, however long that takes. One whose process was started has some minutes to take
    the run's lease; when that lease is over again, or was never taken, its process is dead.
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
