"""A worker bound to its parent: ``python -P -m deployments.worker.bound_worker PARENT POOL NAME``.

A killed process can't stop its children. Without its parent (`fleetpatch deploy --serve`), a worker would start runs
with old code and old settings. So a worker without its parent starts no more runs. It ends after its active runs: they
would die with it, because their output goes through the worker.
"""

import asyncio
import signal
import sys
from types import FrameType
from typing import Final

from prefect.settings import PREFECT_WORKER_HEARTBEAT_SECONDS

from deployments.worker.flow_worker import FlowWorker
from deployments.worker.temporary_folder import use_own_temporary_folder
from flows.long_process import set_signals

_RUN_LIMIT: Final = 100_000


def build_bound_worker(parent: int, pool: str, name: str) -> FlowWorker:
    """Return a worker that accepts no more runs after its parent ends."""
    worker = FlowWorker(
        pool,
        name=name,
        limit=_RUN_LIMIT,  # Prefect counts the runs only of a worker with a limit
        create_pool_if_not_found=False,
        heartbeat_interval_seconds=int(PREFECT_WORKER_HEARTBEAT_SECONDS.value()),
    )
    worker.parent = parent
    return worker


def _interrupt_once(_number: int, _frame: FrameType | None) -> None:
    """End as Ctrl-C does: asyncio cancels the worker. A second signal would break its end off."""
    signal.signal(signal.SIGTERM, lambda _number, _frame: None)
    signal.raise_signal(signal.SIGINT)


def run_bound_worker(parent: str, pool: str, name: str) -> None:
    """Work until the process is stopped or the parent ends."""
    set_signals()
    use_own_temporary_folder()
    try:
        signal.signal(signal.SIGTERM, _interrupt_once)
        asyncio.run(build_bound_worker(int(parent), pool, name).start())
    except (KeyboardInterrupt, asyncio.CancelledError):
        print(f"Worker {name!r} stopped!")  # noqa: T201


if __name__ == "__main__":
    run_bound_worker(*sys.argv[1:])
