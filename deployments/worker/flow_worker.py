"""Prefect's process worker for flows that are installed beside it."""

import os
import signal
import warnings
from collections.abc import Sequence
from typing import Any
from uuid import UUID

from prefect.client.orchestration import PrefectClient
from prefect.client.schemas.objects import FlowRun
from prefect.client.schemas.responses import DeploymentResponse
from prefect.exceptions import ObjectNotFound
from prefect.logging import get_logger
from prefect.utilities.processutils import command_to_string, get_sys_executable
from prefect.workers.process import ProcessJobConfiguration, ProcessWorker
from pydantic import Field

from flows.prefect_api.api_client import NO_ANSWER_ERRORS

logger = get_logger("worker")


def _build_run_command() -> str:
    return command_to_string([get_sys_executable(), "-P", "-m", "deployments.worker.flow_process"])


class RunConfiguration(ProcessJobConfiguration):
    """How a worker starts the process of a run.

    With a command, Prefect's worker starts it at once. Else it starts a program that fetches the flow's code, which
    then becomes the program of the run. The flows are modules of this interpreter, so there is nothing to fetch.
    ``-P``: nothing is imported from the current folder.
    """

    command: str | None = Field(default_factory=_build_run_command)


class ScheduledRunNames:
    """Gives scheduled flow runs the name of their deployment and the time they are scheduled for.

    Prefect's scheduler invents names ("tacky-ape"), which the worker would log.
    """

    def __init__(self) -> None:
        self._deployment_names: dict[UUID, str] = {}

    async def rename(self, client: PrefectClient, responses: Sequence[Any]) -> None:
        """Rename flow runs on the server, and in what a worker got from it. A run without an answer keeps its name."""
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


with warnings.catch_warnings():
    warnings.simplefilter("ignore", UserWarning)  # it takes the place of Prefect's worker for its type of pools

    class FlowWorker(ProcessWorker):
        """A worker that starts runs by ``RunConfiguration``, and names scheduled ones.

        Attributes:
            parent: the process without which it accepts no more runs, and ends after its own; None: it has none.
        """

        job_configuration = RunConfiguration
        parent: int | None = None

        def __init__(self, *arguments: Any, **options: Any) -> None:  # noqa: ANN401 - Prefect's
            super().__init__(*arguments, **options)
            self._names = ScheduledRunNames()
            self._is_left = False

        async def get_and_submit_flow_runs(self) -> list[Any]:
            """Ask for runs, and start them."""
            if self._has_parent():
                return await super().get_and_submit_flow_runs()
            if not self._is_left:
                self._is_left = True
                message = "The parent of this worker is gone. It starts no more runs, and ends when its own are over."
                print(message, flush=True)  # noqa: T201 - as the worker itself says what it does
            if not self.limiter.borrowed_tokens:
                os.kill(os.getpid(), signal.SIGTERM)
            return []

        async def _get_scheduled_flow_runs(self) -> list[Any]:  # Prefect has no other place between its two steps
            flow_runs: list[Any] = await super()._get_scheduled_flow_runs()
            await self._names.rename(self.client, flow_runs)
            return flow_runs if self._has_parent() else []  # the parent may end while the server answers

        def _has_parent(self) -> bool:
            return self.parent is None or os.getppid() == self.parent
