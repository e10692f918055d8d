"""Prefect's process worker, bound to its parent: ``python -P -m deployments.worker.bound_worker PARENT POOL NAME``.

A killed process can't stop its children. Without its parent (`fleetpatch deploy --serve`), a worker would start runs
with old code and old settings. So a worker without its parent starts no more runs. It ends after its active runs: they
would die with it, because their output goes through the worker.
"""

import asyncio
import os
import signal
import sys
from typing import Any

from prefect.settings import PREFECT_WORKER_HEARTBEAT_SECONDS
from prefect.utilities.processutils import setup_signal_handlers_worker
from prefect.workers.process import ProcessWorker

from deployments.worker.run_names import ScheduledRunNames
from deployments.worker.temporary_folder import use_own_temporary_folder

_RUN_LIMIT = 100_000


def build_bound_worker(parent: int, pool: str, name: str) -> ProcessWorker:
    """Return a worker that accepts no more runs after its parent ends.

    Args:
        parent: process id of the parent.
        pool: the work pool.
        name: the name of the worker.
    """
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


def main(parent: str, pool: str, name: str) -> None:
    """Work until the process is stopped or the parent ends."""
    use_own_temporary_folder()
    setup_signal_handlers_worker(os.getpid(), "the process worker", print)
    try:
        asyncio.run(build_bound_worker(int(parent), pool, name).start())
    except (KeyboardInterrupt, asyncio.CancelledError):
        print(f"Worker {name!r} stopped!")  # noqa: T201


if __name__ == "__main__":
    main(*sys.argv[1:])
