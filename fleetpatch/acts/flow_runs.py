"""Starts flow runs of the fleet's deployments for people, each once, and says what became of them."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import field
from datetime import datetime
from typing import Any, Final
from uuid import UUID

import httpx
from prefect.client.orchestration import SyncPrefectClient
from prefect.client.schemas.filters import DeploymentFilter, DeploymentFilterTags, FlowFilter, FlowFilterName
from prefect.client.schemas.objects import FlowRun
from prefect.client.schemas.responses import DeploymentResponse
from prefect.exceptions import ObjectNotFound, PrefectHTTPStatusError
from prefect.states import Cancelling
from pydantic import ValidationError

from deployments.server.client import open_server_client
from flows.prefect_api.api_client import read_all_pages
from flows.prefect_api.tags import FLEET_TAG_PREFIX, MANAGED_TAG, add_fleet_tag, build_deployment_name, build_site_name
from inventory.data_class import dataclass
from tasks.domain.errors import CannotRun
from tasks.records.fleets import find_fleet

PAGES_TAG: Final = f"{MANAGED_TAG}:pages"
"""The tag of every flow run that the pages or the API start."""
PATCH_FLOW, ASSESS_FLOW, RESUME_FLOW = "patch-fleet", "assess-fleet", "resume-fleet"
ORDER_FLOW: Final = "change-machines"
ON_DEMAND: Final = "on-demand"
_SERVER_FAULT: Final = 500
LATE_SECONDS: Final = 20.0
"""After this time without a worker, the page says what may be wrong."""


class StartNotKnown(CannotRun):
    """Prefect's answer was lost: the flow run may be started. The same key never starts a second one."""


@dataclass(frozen=True, slots=True)
class FlowRunStatus:
    """A flow run that was started here."""

    id: str
    name: str
    flow: str
    state: str  # Prefect's name of its state
    message: str  # what Prefect says about its end; "" for nothing
    created_at: datetime | None
    waits: bool  # whether no worker has taken it yet
    is_over: bool  # whether it has ended
    paused_pool: str = ""  # the name of its work pool if that is paused, so that no worker takes it; "" otherwise
    key: str = ""  # its idempotency key
    parameters: Mapping[str, Any] = field(default_factory=dict)  # those of its flow


def start_flow_run(
    flow: str, fleet: str, parameters: Mapping[str, object], *, key: str, name: str, site: str
) -> tuple[str, bool]:
    """Start a flow run of a site's on-demand deployment of a flow. A repeated idempotency key starts nothing.

    ``fleet`` "" is that of this process.

    Returns:
        The id of the flow run, and whether it has already ended.

    Raises:
        StartNotKnown: it may be started: Prefect has not answered the request itself.
        CannotRun: Prefect does not answer, or the fleet has no such deployment. Nothing was started.
    """
    with open_server_client(retries=2) as client:
        fleet = fleet or find_fleet()
        deployment = _find_deployment(client, flow, fleet, site)
        with _report_lost_answer():
            flow_run = client.create_flow_run_from_deployment(
                deployment.id,
                name=name,
                parameters=dict(parameters),
                tags=[*add_fleet_tag(deployment.tags, fleet), PAGES_TAG],
                idempotency_key=key,
            )
    return str(flow_run.id), flow_run.state is not None and flow_run.state.is_final()


def read_flow_run(flow_run_id: str) -> FlowRunStatus | None:
    """Return a flow run that was started here; None if there is none with this id.

    Raises:
        CannotRun: Prefect does not answer.
    """
    with open_server_client() as client:
        run = _find_own_flow_run(client, flow_run_id)
        if run is None:
            return None
        state = run.state
        waits = state is None or state.is_scheduled() or state.is_pending()
        flow = client.read_flow(run.flow_id).name
        paused_pool = _find_paused_pool(client, run) if waits else ""
    return FlowRunStatus(
        id=str(run.id),
        name=run.name,
        flow=flow,
        state=state.name or state.type.value if state is not None else "unknown",
        message=(state.message or "") if state is not None else "",
        created_at=run.created,
        waits=waits,
        is_over=state is not None and state.is_final(),
        paused_pool=paused_pool,
        key=run.idempotency_key or "",
        parameters=run.parameters,
    )


def _find_paused_pool(client: SyncPrefectClient, run: FlowRun) -> str:
    with suppress(ObjectNotFound):  # it was deleted; `fleetpatch doctor --server` says so
        if run.work_pool_name and client.read_work_pool(run.work_pool_name).is_paused:
            return run.work_pool_name
    return ""


def cancel_waiting_flow_run(flow_run_id: str, who: str) -> bool:
    """Cancel a flow run that waits for a worker. Return False if it has begun, is over, or is not known.

    It asks for Cancelling: Prefect makes that Cancelled at once (without our message) if nothing has begun. If a worker
    takes the flow run at this moment, its process gets the request as from Prefect's own button.

    Raises:
        CannotRun: Prefect does not answer.
    """
    with open_server_client() as client:
        run = _find_own_flow_run(client, flow_run_id)
        if run is None or run.state is None or not (run.state.is_scheduled() or run.state.is_pending()):
            return False
        client.set_flow_run_state(run.id, Cancelling(message=f"cancelled by {who} before it began"))
    return True


@contextmanager
def _report_lost_answer() -> Iterator[None]:
    """Say that a flow run may be started if its request has no answer. Prefect stores it before it answers."""
    try:
        yield
    except (httpx.HTTPError, ValidationError) as error:
        if isinstance(error, PrefectHTTPStatusError) and error.response.status_code < _SERVER_FAULT:
            raise
        answer_text = (
            f"status {error.response.status_code}" if isinstance(error, PrefectHTTPStatusError) else "no answer"
        )
        raise StartNotKnown(
            f"Prefect has not said whether the run is started ({answer_text})",
            hint="It may begin. The same request sent again starts no second run, a new one does.",
        ) from error


def _find_own_flow_run(client: SyncPrefectClient, flow_run_id: str) -> FlowRun | None:
    """Return a flow run that the pages have started. Others are none of their business."""
    with suppress(ObjectNotFound, ValueError):
        run = client.read_flow_run(UUID(flow_run_id))
        return run if PAGES_TAG in run.tags else None
    return None


def _find_deployment(client: SyncPrefectClient, flow: str, fleet: str, site: str) -> DeploymentResponse:
    name = f"{flow}/{build_deployment_name(build_site_name(ON_DEMAND, site), fleet)}"
    with suppress(ObjectNotFound):
        return client.read_deployment_by_name(name)
    deployments = read_all_pages(
        lambda limit, offset: client.read_deployments(
            flow_filter=FlowFilter(name=FlowFilterName(any_=[flow])),
            deployment_filter=DeploymentFilter(tags=DeploymentFilterTags(all_=[MANAGED_TAG])),
            limit=limit,
            offset=offset,
        )
    )
    on_demand = [deployment for deployment in deployments if deployment.name.partition("@")[0] == ON_DEMAND]
    tags = sorted(tag for deployment in on_demand for tag in deployment.tags if tag.startswith(FLEET_TAG_PREFIX))
    other_fleets = f" Prefect has: {', '.join(tag.removeprefix(FLEET_TAG_PREFIX) for tag in tags)}." if tags else ""
    raise CannotRun(
        f"Prefect has no deployment {name!r}",
        hint=f"`fleetpatch deploy` creates it, and a worker executes its runs. These pages are those of the fleet "
        f"{fleet} (FLEETPATCH_FLEET).{other_fleets}",
    )
