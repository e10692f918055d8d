"""A flow run of its own for a run that was abandoned: one, however often and by however many it is asked for."""

from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final

from prefect.client.orchestration import SyncPrefectClient
from prefect.client.schemas.filters import FlowRunFilter, FlowRunFilterTags
from prefect.client.schemas.objects import FlowRun, StateType
from prefect.client.schemas.responses import DeploymentResponse
from prefect.client.schemas.sorting import FlowRunSort

from flows.recovery import LeftRun

GRACE: Final = timedelta(minutes=10)
"""How long the process of a flow run may take from its start to the lease of its run, on a busy machine."""


@dataclass(frozen=True, slots=True)
class Successor:
    """The flow run that is to take up a run.

    Attributes:
        is_new: whether it was started now; otherwise an earlier one is on its way.
        since: when it was started, or has got its present state.
    """

    name: str
    state: str
    is_new: bool
    since: datetime


def start_successor(client: SyncPrefectClient, resume: DeploymentResponse, left: LeftRun, now: datetime) -> Successor:
    """Start a flow run that takes a run up, unless one is on its way.

    Of several who ask at the same time all get the same flow run: it is known by the one before it. What it does it
    decides by itself when it begins: it may have waited long for a worker.

    Args:
        client: of the server.
        resume: the deployment of ``resume_fleet``.
        left: the run.
        now: the present moment.

    Raises:
        httpx.HTTPError: the server does not answer, or refuses.
    """
    tag = f"fleetpatch-run:{left.run.id}"
    wanted = FlowRunFilter(tags=FlowRunFilterTags(all_=[tag]))
    newest = client.read_flow_runs(flow_run_filter=wanted, sort=FlowRunSort.EXPECTED_START_TIME_DESC, limit=1)
    before = newest[0] if newest else None
    if before is not None and is_on_its_way(before, left, now):
        return _told(before, is_new=False, now=now)
    made = client.create_flow_run_from_deployment(
        resume.id,
        name=f"resume-{left.run.id}",
        parameters={"run_id": left.run.id, "if_abandoned": True},
        tags=[*resume.tags, tag],
        idempotency_key=f"{tag}:after:{before.id if before is not None else 'none'}",
    )
    return _told(made, is_new=True, now=now)


def is_on_its_way(successor: FlowRun, left: LeftRun, now: datetime) -> bool:
    """Whether a flow run may still take up the run that it was started for. Pure.

    One that waits for a worker does, however long that takes. One whose process was started has some minutes to take
    the run's lease; when that lease is over again, or was never taken, its process is dead.
    """
    state = successor.state
    if state is None or state.is_final():
        return False
    if state.type is StateType.SCHEDULED:
        return True
    return left.since <= state.timestamp and now - state.timestamp < GRACE


def _told(successor: FlowRun, *, is_new: bool, now: datetime) -> Successor:
    state = successor.state
    since = datetime.fromtimestamp(state.timestamp.timestamp(), now.tzinfo) if state is not None else now
    return Successor(successor.name, state.name or "" if state is not None else "", is_new, since)
