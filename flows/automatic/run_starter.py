"""Starts flow runs for automatic patching, each once."""

import json
from collections.abc import Mapping
from contextlib import suppress
from datetime import timedelta
from typing import Any, Protocol
from uuid import UUID

import httpx
from prefect.client.orchestration import SyncPrefectClient
from prefect.client.schemas.filters import FlowRunFilter, FlowRunFilterIdempotencyKey
from prefect.client.schemas.responses import DeploymentResponse
from prefect.exceptions import ObjectNotFound, PrefectException

from flows.prefect_api.api_client import NO_ANSWER_ERRORS, open_fail_fast_client
from flows.prefect_api.tags import add_fleet_tag
from flows.prefect_runtime.flow_run_origin import build_automatic_idempotency_key
from flows.recovery.flow_runs import find_fleet_deployment
from flows.request.automatic_request import AutomaticRequest
from flows.request.base import FormModel
from flows.request.patch_request import PatchRequest, UpdatesRequest, WavesRequest, WindowRequest
from flows.request.read_requests import AssessRequest
from tasks.domain.errors import PatchError, RequestError
from tasks.records.automatic.rollouts import ROLLOUT_PREFIX
from tasks.records.fleets import find_fleet
from tasks.rules.automatic.model import RunPlan

PATCH_DEPLOYMENT = "patch-fleet/on-demand"
ASSESS_DEPLOYMENT = "assess-fleet/on-demand"
AUTOMATIC_TAG = "fleetpatch:automatic"
"""The tag of every flow run that automatic patching starts."""


class RunStarter(Protocol):
    """Starts flow runs. Every method raises PatchError if Prefect does not answer, and RequestError if it refuses.

    Without its deployment, a start is refused as well.
    """

    def start(self, deployment: str, key: str, name: str, request: FormModel) -> str:
        """Start a flow run of a deployment, and return its id. A repeated call returns that of the first one."""

    def find(self, key: str) -> str:
        """Return the id of the flow run that was started with this key; "" if there is none."""

    def describe_end(self, flow_run_id: str) -> str:
        """Return how a flow run ended; "" while it waits, starts or runs."""


class PrefectRunStarter:
    """Starts flow runs on Prefect's server. Prefect's idempotency keys make each of them unique."""

    def __init__(self) -> None:
        self._deployments: dict[str, DeploymentResponse] = {}

    def start(self, deployment: str, key: str, name: str, request: FormModel) -> str:
        """See RunStarter."""
        # The words of JSON only: Prefect would send the defaults of a newer release to an older one as well.
        parameters: Mapping[str, Any] = {"request": json.loads(request.model_dump_json(exclude_defaults=True))}
        try:
            with open_fail_fast_client() as client:
                fleet_deployment = self._find_deployment(client, deployment)
                created_run = client.create_flow_run_from_deployment(
                    fleet_deployment.id,
                    name=name,
                    parameters=dict(parameters),
                    tags=[*add_fleet_tag(fleet_deployment.tags, find_fleet()), AUTOMATIC_TAG],
                    idempotency_key=build_automatic_idempotency_key(key),
                )
        except (*NO_ANSWER_ERRORS, PrefectException) as error:
            raise _build_error(f"start {name}", error) from error
        return str(created_run.id)

    def find(self, key: str) -> str:
        """See RunStarter."""
        keys = FlowRunFilterIdempotencyKey(any_=[build_automatic_idempotency_key(key)])
        try:
            with open_fail_fast_client() as client:
                flow_runs = client.read_flow_runs(flow_run_filter=FlowRunFilter(idempotency_key=keys), limit=1)
        except (*NO_ANSWER_ERRORS, PrefectException) as error:
            raise _build_error(f"look for the run {key}", error) from error
        return str(flow_runs[0].id) if flow_runs else ""

    def describe_end(self, flow_run_id: str) -> str:
        """See RunStarter."""
        try:
            with open_fail_fast_client() as client, suppress(ObjectNotFound):
                state = client.read_flow_run(UUID(flow_run_id)).state
                if state is None or not state.is_final():
                    return ""
                more = f": {state.message}" if state.message else ""
                return f"its flow run ended {state.name}{more}"
        except (*NO_ANSWER_ERRORS, PrefectException) as error:
            raise _build_error("look at a flow run", error) from error
        return "its flow run was deleted"

    def _find_deployment(self, client: SyncPrefectClient, name: str) -> DeploymentResponse:
        if name not in self._deployments:
            fleet_deployment = find_fleet_deployment(client, name)
            if fleet_deployment is None:
                raise RequestError(f"there is no deployment {name!r}", hint="`fleetpatch deploy` creates it.")
            self._deployments[name] = fleet_deployment
        return self._deployments[name]


def _build_error(action: str, error: Exception) -> PatchError:
    if isinstance(error, httpx.HTTPStatusError) and error.response.is_client_error:
        return RequestError(
            f"can't {action}: Prefect refuses it: {error.response.text[:300]}",
            hint="Its deployment may be of another release: `fleetpatch deploy` brings it up to date.",
        )
    return PatchError(
        f"can't {action}: Prefect does not answer ({type(error).__name__})",
        hint="Nothing is lost: the next tick does the rest. Look at the server: fleetpatch doctor",
    )


def build_patch_request(request: AutomaticRequest, plan: RunPlan) -> PatchRequest:
    """Return the request of a run: an ordinary patch run of some machines with the frozen set of a rollout.

    It belongs to no configuration, so machines whose owner is ``managed`` may be patched.
    """
    return PatchRequest(
        scope=request.scope,
        inventory=request.inventory,
        only_machines=list(plan.machines),
        updates=UpdatesRequest(
            classifications=request.classifications,
            exclude=request.exclude,
            as_in_run=f"{ROLLOUT_PREFIX}{plan.rollout_id}",
        ),
        window=WindowRequest(start=plan.window_start, minutes=plan.window_minutes, zone=plan.zone),
        waves=WavesRequest(percent=request.waves_percent, failure_budget_percent=request.failure_budget_percent),
        notify=request.notify,
        freezes=request.freezes,
    )


def build_assess_request(request: AutomaticRequest, machines: tuple[str, ...]) -> AssessRequest:
    """Return the request that assesses these machines."""
    return AssessRequest(scope=request.scope, inventory=request.inventory, only_machines=list(machines))


ASSESSMENT_WAIT = timedelta(hours=24)
"""So long an assessment may wait for a worker. Meanwhile its machines are not asked again."""
