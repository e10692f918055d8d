"""Starts flow runs of this fleet's deployments, each once."""

import logging
from collections.abc import Mapping, Sequence
from contextlib import suppress
from uuid import UUID

import httpx
from prefect.client.orchestration import SyncPrefectClient
from prefect.client.schemas.filters import FlowRunFilter, FlowRunFilterIdempotencyKey
from prefect.client.schemas.objects import FlowRun
from prefect.client.schemas.responses import DeploymentResponse
from prefect.exceptions import ObjectNotFound, PrefectException
from prefect.states import Cancelling, Failed
from prefect.tasks import Task

from flows.prefect_api.api_client import NO_ANSWER_ERRORS, open_fail_fast_client
from flows.prefect_api.tags import add_fleet_tag, build_deployment_name, serves_fleet
from tasks.domain.errors import PatchError, RequestError
from tasks.records.fleets import find_fleet

logger = logging.getLogger(__name__)


def find_fleet_deployment(client: SyncPrefectClient, full_name: str) -> DeploymentResponse | None:
    """Return the deployment of this name in this fleet. A deployment without a fleet tag serves every fleet.

    ``full_name``: names of the flow and of the deployment, as in a fleet of the default name: "patch-fleet/on-demand".

    Raises:
        httpx.HTTPError: the server does not answer.
    """
    fleet = find_fleet()
    for name in dict.fromkeys((build_deployment_name(full_name, fleet), full_name)):
        with suppress(ObjectNotFound):
            deployment = client.read_deployment_by_name(name)
            if serves_fleet(deployment.tags, fleet):
                return deployment
    return None


class FlowRunStarter:
    """Starts flow runs on Prefect's server. Prefect's idempotency keys make each of them unique.

    Every method raises PatchError if Prefect does not answer, and RequestError if it refuses.
    """

    def __init__(self) -> None:
        self._deployments: dict[str, DeploymentResponse] = {}

    def start(
        self,
        deployment: str,
        idempotency_key: str,
        name: str,
        parameters: Mapping[str, object],
        tags: Sequence[str] = (),
        parent: UUID | None = None,
    ) -> str:
        """Start a flow run of a deployment, and return its id. A repeated call returns that of the first one.

        Args:
            deployment: its name.
            idempotency_key: Prefect starts one flow run for each.
            name: of the flow run.
            parameters: of the flow run.
            tags: of the flow run, beside those of its deployment.
            parent: the flow run whose subflow it becomes; None: it becomes none.

        Raises:
            RequestError: there is no such deployment, or Prefect refuses it.
        """
        fleet_deployment = self.find_deployment(deployment)
        if fleet_deployment is None:
            raise RequestError(f"there is no deployment {deployment!r}", hint="`fleetpatch deploy` creates it.")
        try:
            with open_fail_fast_client() as client:
                earlier = _read_by_key(client, idempotency_key) if parent is not None else None
                if earlier is not None:  # it keeps its parent: another flow run has started it
                    return str(earlier.id)
                link = _create_link(client, parent, name, idempotency_key) if parent is not None else None
                try:
                    created_run = client.create_flow_run_from_deployment(
                        fleet_deployment.id,
                        name=name,
                        parameters=dict(parameters),
                        tags=[*add_fleet_tag(fleet_deployment.tags, find_fleet()), *tags],
                        idempotency_key=idempotency_key,
                        parent_task_run_id=link,
                    )
                except httpx.HTTPStatusError as refusal:
                    if link is not None and refusal.response.is_client_error:
                        with suppress(*NO_ANSWER_ERRORS, PrefectException):
                            client.set_task_run_state(link, Failed(message="Prefect refused its flow run"), force=True)
                    raise
        except (*NO_ANSWER_ERRORS, PrefectException) as error:
            raise _build_error(f"start {name}", error) from error
        return str(created_run.id)

    def find_deployment(self, name: str) -> DeploymentResponse | None:
        """Return a deployment of this fleet; None if there is none."""
        if name not in self._deployments:
            try:
                with open_fail_fast_client() as client:
                    fleet_deployment = find_fleet_deployment(client, name)
            except (*NO_ANSWER_ERRORS, PrefectException) as error:
                raise _build_error(f"look for the deployment {name}", error) from error
            if fleet_deployment is None:
                return None
            self._deployments[name] = fleet_deployment
        return self._deployments[name]

    def find(self, idempotency_key: str) -> str:
        """Return the id of the flow run that was started with this key; "" if there is none."""
        try:
            with open_fail_fast_client() as client:
                found = _read_by_key(client, idempotency_key)
        except (*NO_ANSWER_ERRORS, PrefectException) as error:
            raise _build_error(f"look for the run {idempotency_key}", error) from error
        return str(found.id) if found is not None else ""

    def cancel(self, flow_run_id: str, reason: str) -> None:
        """Cancel a flow run. One that has begun is told to end; one that is over, or was deleted, stays as it is."""
        try:
            with open_fail_fast_client() as client, suppress(ObjectNotFound):
                state = client.read_flow_run(UUID(flow_run_id)).state
                if state is None or not state.is_final():
                    client.set_flow_run_state(UUID(flow_run_id), Cancelling(message=reason))
        except (*NO_ANSWER_ERRORS, PrefectException) as error:
            raise _build_error("cancel a flow run", error) from error

    def describe_end(self, flow_run_id: str) -> str:
        """Return how a flow run ended; "" while it waits, starts or runs."""
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


def _read_by_key(client: SyncPrefectClient, idempotency_key: str) -> FlowRun | None:
    keys = FlowRunFilterIdempotencyKey(any_=[idempotency_key])
    return next(iter(client.read_flow_runs(flow_run_filter=FlowRunFilter(idempotency_key=keys), limit=1)), None)


def _create_link(client: SyncPrefectClient, parent: UUID, name: str, key: str) -> UUID | None:
    """Create the task run that stands for a subflow in its parent, and return its id. Prefect keeps its state.

    It only shows where the subflow belongs. None: Prefect refuses it, for example because the parent was deleted.
    """
    try:
        return client.create_task_run(Task(fn=lambda: None, name="subflow"), parent, dynamic_key=key, name=name).id
    except httpx.HTTPStatusError as refusal:
        if not refusal.response.is_client_error:
            raise
        logger.info("%s is not shown under the flow run %s: %s", name, parent, refusal)
        return None


def _build_error(action: str, error: Exception) -> PatchError:
    if isinstance(error, httpx.HTTPStatusError) and error.response.is_client_error:
        return RequestError(
            f"can't {action}: Prefect refuses it: {error.response.text[:300]}",
            hint="Its deployment may be of another release: `fleetpatch deploy` brings it up to date.",
        )
    return PatchError(
        f"can't {action}: Prefect does not answer ({type(error).__name__})",
        hint="Nothing is lost: it is tried again. Look at the server: fleetpatch doctor",
    )
