"""How Prefect's process worker starts a run of an installed flow: at once, without a process that prepares it.

For each run, Prefect 3.8.8 starts a program that fetches the flow's code (prefect/runner/_workspace_supervisor.py). It
then becomes the program of the run. So a run loads Prefect twice, which takes seconds. The flows of fleetpatch are
modules in the worker's interpreter: there is nothing to fetch.
"""

import os
from pathlib import Path
from typing import Any, Final

from prefect.client.orchestration import get_client
from prefect.client.schemas.objects import FlowRun
from prefect.client.schemas.responses import DeploymentResponse
from prefect.exceptions import ObjectNotFound
from prefect.runner import _workspace_starter
from prefect.runner._starter_engine import EngineCommandStarter
from prefect.runner._workspace_runtime import PreparedWorkspaceManifest, write_private_model
from prefect.runner._workspace_starter import WorkspaceResolvingEngineCommandStarter
from prefect.settings import get_current_settings
from prefect.utilities.processutils import get_sys_executable, sanitize_subprocess_env
from prefect.workers import process

from flows.prefect_api.api_client import NO_ANSWER_ERRORS

_HOOK_PROGRAM: Final = str(Path(_workspace_starter.__file__).with_name("_workspace_runtime_bootstrap.py"))


def find_installed_entrypoint(deployment: DeploymentResponse) -> str | None:
    """Return the module path of a deployment's flow; None if its code has to be fetched first, or is a file."""
    entrypoint: str | None = deployment.entrypoint
    is_fetched = deployment.pull_steps or deployment.path or deployment.storage_document_id
    return None if is_fetched or not entrypoint or ":" in entrypoint else entrypoint


async def _read_installed_entrypoint(flow_run: FlowRun) -> str | None:
    if flow_run.deployment_id is None:
        return None
    try:
        async with get_client() as client:
            return find_installed_entrypoint(await client.read_deployment(flow_run.deployment_id))
    except (ObjectNotFound, *NO_ANSWER_ERRORS):
        return None  # Prefect's program asks again, and says what is wrong


class InstalledFlowStart(WorkspaceResolvingEngineCommandStarter):
    """Starts the process of a run. What is not installed, Prefect's own program prepares."""

    async def start(self, flow_run: FlowRun, *arguments: Any, **options: Any) -> None:  # noqa: ANN401 - Prefect's
        """Start the process of a run, and wait for its end."""
        entrypoint = None if self._command else await _read_installed_entrypoint(flow_run)
        if entrypoint is None:
            await super().start(flow_run, *arguments, **options)
            return
        folder = self._workspace_root
        write_private_model(self._manifest_path, self._describe(flow_run, entrypoint, folder))
        starter = EngineCommandStarter(
            entrypoint=entrypoint,
            cwd=folder,
            env=self._environment,
            stream_output=self._stream_output,
            heartbeat_seconds=self._heartbeat_seconds,
            deployment_name=self._deployment_name,
            control_channel=self._control_channel,
            isolate_process_group=True,
            env_overrides_settings=True,
        )
        await starter.start(flow_run, *arguments, **options)

    def _describe(self, flow_run: FlowRun, entrypoint: str, folder: Path) -> PreparedWorkspaceManifest:
        """Describe the program in which the worker runs the flow's hooks, if the process of the run dies."""
        settings = get_current_settings().to_environment_variables(exclude_unset=True)
        own = {
            "PREFECT__FLOW_RUN_ID": str(flow_run.id),
            "PREFECT__ENABLE_CANCELLATION_AND_CRASHED_HOOKS": "false",
            "PREFECT__FLOW_ENTRYPOINT": entrypoint,
        }
        return PreparedWorkspaceManifest(
            working_directory=folder,
            runtime_entrypoint=entrypoint,
            hook_command=[get_sys_executable(), "-P", _HOOK_PROGRAM, "hook"],
            environment=sanitize_subprocess_env({**os.environ, **settings, **self._environment, **own}),
        )


def start_installed_flows_at_once() -> None:
    """Let the process workers of this process start runs by ``InstalledFlowStart``."""
    setattr(process, "WorkspaceResolvingEngineCommandStarter", InstalledFlowStart)  # noqa: B010 - Prefect has no setting for it
