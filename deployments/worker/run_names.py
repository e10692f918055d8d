"""Names of flow runs that Prefect's scheduler has made, before the worker logs their invented ones ("tacky-ape")."""

import logging
from collections.abc import Sequence
from typing import Any
from uuid import UUID

from prefect.client.orchestration import PrefectClient
from prefect.client.schemas.objects import FlowRun
from prefect.client.schemas.responses import DeploymentResponse
from prefect.exceptions import ObjectNotFound

from flows.prefect_api.api_client import NO_ANSWER_ERRORS

logger = logging.getLogger(__name__)


class ScheduledRunNames:
    """Gives scheduled flow runs the name of their deployment and the time they are scheduled for."""

    def __init__(self) -> None:
        self._deployment_names: dict[UUID, str] = {}

    async def rename(self, client: PrefectClient, responses: Sequence[Any]) -> None:
        """Rename flow runs on the server, and in what a worker got from it. A run without an answer keeps its name.

        Args:
            client: the worker's client.
            responses: the runs that the worker is about to start.
        """
        for response in responses:
            run: FlowRun = response.flow_run
            if not run.auto_scheduled or run.deployment_id is None or (due := run.expected_start_time) is None:
                continue
            try:
                name = f"{await self._read_name(client, run.deployment_id)} {due:%Y-%m-%d %H:%M} UTC"
                if name != run.name:
                    await client.update_flow_run(run.id, name=name)
                    run.name = name
            except (ObjectNotFound, *NO_ANSWER_ERRORS) as error:
                logger.info("flow run %s keeps its name: %s", run.name, error)

    async def _read_name(self, client: PrefectClient, deployment_id: UUID) -> str:
        if deployment_id not in self._deployment_names:
            deployment: DeploymentResponse = await client.read_deployment(deployment_id)
            flow = await client.read_flow(deployment.flow_id)
            is_configuration = flow.name == "patch-fleet"
            self._deployment_names[deployment_id] = deployment.name if is_configuration else flow.name
        return self._deployment_names[deployment_id]
