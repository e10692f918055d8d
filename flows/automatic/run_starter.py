"""Starts flow runs for automatic patching, each once."""

import json
from datetime import timedelta
from typing import Protocol

from flows.prefect_api.flow_run_starter import FlowRunStarter
from flows.prefect_runtime.flow_run_origin import build_automatic_idempotency_key
from flows.request.automatic_request import AutomaticRequest
from flows.request.base import FormModel
from flows.request.patch_request import PatchRequest, UpdatesRequest, WavesRequest, WindowRequest
from flows.request.read_requests import AssessRequest
from tasks.domain.protocols.records import ROLLOUT_PREFIX
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
        self._starter = FlowRunStarter()
        self.describe_end = self._starter.describe_end

    def start(self, deployment: str, key: str, name: str, request: FormModel) -> str:
        """See RunStarter."""
        # The words of JSON only: Prefect would send the defaults of a newer release to an older one as well.
        parameters = {"request": json.loads(request.model_dump_json(exclude_defaults=True))}
        return self._starter.start(deployment, build_automatic_idempotency_key(key), name, parameters, (AUTOMATIC_TAG,))

    def find(self, key: str) -> str:
        """See RunStarter."""
        return self._starter.find(build_automatic_idempotency_key(key))


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
        announce=request.announce,
        notify=request.notify,
        freezes=request.freezes,
    )


def build_assess_request(request: AutomaticRequest, machines: tuple[str, ...]) -> AssessRequest:
    """Return the request that assesses these machines."""
    return AssessRequest(scope=request.scope, inventory=request.inventory, only_machines=list(machines))


ASSESSMENT_WAIT = timedelta(hours=24)
"""So long an assessment may wait for a worker. Meanwhile its machines are not asked again."""
