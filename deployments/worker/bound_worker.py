"""Prefect's process worker, bound to its parent: ``python -P -m deployments.worker.bound_worker PARENT POOL NAME``.

A killed process can't stop its children. Without its parent (`fleetpatch deploy --serve`), a worker would start runs
with old code and old settings. So a worker without its parent starts no more runs. It ends after its active runs: they
would die with it, because their output goes through the worker.
"""

import asyncio
import atexit
import logging
import os
import shutil
import signal
import sys
import tempfile
from collections.abc import Sequence
from types import FrameType
from typing import Any
from uuid import UUID

from prefect.client.orchestration import PrefectClient
from prefect.client.schemas.objects import FlowRun
from prefect.client.schemas.responses import DeploymentResponse
from prefect.exceptions import ObjectNotFound
from prefect.settings import PREFECT_WORKER_HEARTBEAT_SECONDS
from prefect.workers.process import ProcessWorker

from deployments.worker.installed_flow_start import start_installed_flows_at_once
from deployments.worker.integration_packages import find_integrations_by_name
from flows.long_process import set_signals
from flows.prefect_api.api_client import NO_ANSWER_ERRORS


def use_own_temporary_folder() -> None:
    """Let this process make its temporary files in a new folder, which only its user can open. Its end removes it.

    Prefect 3.8.8 makes ``runner_storage`` in the temporary folder of the host (prefect/runner/runner.py), the only name
    there that it doesn't choose at random. The user who made it first has it alone, and can replace what others put
    there. The processes that this one starts use the temporary folder of the host (`TMPDIR`), as before.
    """
    tempfile.tempdir = tempfile.mkdtemp(prefix="fleetpatch-worker-")
    atexit.register(shutil.rmtree, tempfile.tempdir, ignore_errors=True)


logger = logging.getLogger(__name__)


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


_RUN_LIMIT = 100_000


def build_bound_worker(parent: int, pool: str, name: str) -> ProcessWorker:
    """Return a worker that accepts no more runs after its parent ends."""
    heartbeat = int(PREFECT_WORKER_HEARTBEAT_SECONDS.value())
    worker: Any = ProcessWorker(
        pool,
        name=name,
        limit=_RUN_LIMIT,  # Prefect counts the runs only of a worker with a limit
        create_pool_if_not_found=False,
        heartbeat_interval_seconds=heartbeat,
    )
    poll = worker.get_and_submit_flow_runs
    fetch = worker._get_scheduled_flow_runs  # noqa: SLF001 - Prefect has no other place between its two steps
    messages: list[str] = []
    names = ScheduledRunNames()

    def has_parent() -> bool:
        return os.getppid() == parent

    async def fetch_while_parent_lives() -> list[Any]:
        flow_runs: list[Any] = await fetch()
        await names.rename(worker._client, flow_runs)  # noqa: SLF001 - ``client`` needs one
        return flow_runs if has_parent() else []  # the parent may end while the server answers

    async def poll_while_parent_lives() -> list[Any]:
        if has_parent():
            runs: list[Any] = await poll()
            return runs
        if not messages:
            messages.append(
                "The parent of this worker is gone. It starts no more runs, and ends when its own runs are over."
            )
            print(messages[0], flush=True)  # noqa: T201 - as the worker itself says what it does
        if not worker.limiter.borrowed_tokens:
            os.kill(os.getpid(), signal.SIGTERM)
        return []

    worker.get_and_submit_flow_runs = poll_while_parent_lives
    worker._get_scheduled_flow_runs = fetch_while_parent_lives  # noqa: SLF001
    bound_worker: ProcessWorker = worker
    return bound_worker


def _interrupt_once(_number: int, _frame: FrameType | None) -> None:
    """End as Ctrl-C does: asyncio cancels the worker. A second signal would break its end off."""
    signal.signal(signal.SIGTERM, lambda _number, _frame: None)
    signal.raise_signal(signal.SIGINT)


def run_bound_worker(parent: str, pool: str, name: str) -> None:
    """Work until the process is stopped or the parent ends."""
    set_signals()
    use_own_temporary_folder()
    start_installed_flows_at_once()
    find_integrations_by_name()
    try:
        signal.signal(signal.SIGTERM, _interrupt_once)
        asyncio.run(build_bound_worker(int(parent), pool, name).start())
    except (KeyboardInterrupt, asyncio.CancelledError):
        print(f"Worker {name!r} stopped!")  # noqa: T201


if __name__ == "__main__":
    run_bound_worker(*sys.argv[1:])
