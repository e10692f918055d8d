"""A worker on this machine: Prefect's own process worker, in our interpreter."""

import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

from deployments.server.settings import build_environment
from flows.prefect_api.server_settings import SettingTarget
from inventory.loader import INVENTORY_VARIABLE

WORKER_POLL_SECONDS = 5
"""How often the worker asks for runs. Prefect's own 15 s are a good part of a short window's lead."""
STOP_SECONDS = 15.0
"""How long a worker without runs may take to stop."""
STOP_SECONDS_WITH_RUNS = 60.0
"""How long a worker with runs may take to stop: Prefect gives each run half a minute."""
_POLL_SECONDS = 0.5


def run_worker(pool: str, inventory: Path) -> int:
    """Work until stopped.

    The worker is Prefect's; it starts each run as a process of its own. Stopping it stops those as well, at once; what
    runs on machines does not notice. Where this process is killed, its worker takes no more runs, and ends when those
    that it had started are over.

    Args:
        pool: whose runs the worker executes.
        inventory: of runs that name none, such as those that are started from a form: each run has a folder of its
            own, where none is found. What the environment says stands.

    Returns:
        Its exit code.
    """
    name = f"fleetpatch-{socket.gethostname()}-{os.getpid()}"
    command = [sys.executable, "-m", "deployments.worker.bound_worker", str(os.getpid()), pool, name]
    environment = {
        **build_environment(SettingTarget.WORKER),
        "PREFECT_WORKER_QUERY_SECONDS": str(WORKER_POLL_SECONDS),
        INVENTORY_VARIABLE: str(inventory),
        **os.environ,
    }
    return supervise_worker(command, environment)


def supervise_worker(
    command: Sequence[str],
    environment: Mapping[str, str],
    *,
    stop_seconds: float = STOP_SECONDS,
    stop_seconds_with_runs: float = STOP_SECONDS_WITH_RUNS,
) -> int:
    """Run a worker until it ends, or until this process gets a signal to stop: then stop the worker.

    Args:
        command: of the worker.
        environment: whole.
        stop_seconds: how long it may take to stop when it has no child processes.
        stop_seconds_with_runs: how long it may take to stop when it has some.

    Returns:
        Its exit code; 0 when it did not stop in time and was killed.
    """
    stop_times: list[float] = []
    # Before there is a worker: a signal in between would leave it behind, to take runs with what is old by then.
    previous_handler = signal.signal(signal.SIGTERM, lambda _number, _frame: stop_times.append(time.monotonic()))
    process = subprocess.Popen(command, env=environment)
    is_forwarded = False
    try:
        while True:
            try:
                return process.wait(_POLL_SECONDS)
            except subprocess.TimeoutExpired:
                if stop_times and not is_forwarded:
                    process.terminate()
                    is_forwarded = True
                if stop_times and time.monotonic() > stop_times[0] + (
                    stop_seconds_with_runs if _has_children(process.pid) else stop_seconds
                ):
                    process.kill()
                    process.wait()
                    return 0
            except KeyboardInterrupt:  # the worker got the signal from the terminal too
                stop_times.append(time.monotonic())
                is_forwarded = True
    finally:
        signal.signal(signal.SIGTERM, previous_handler)


def _has_children(process_id: int) -> bool:
    """Whether a process has started others that are alive; where the system does not tell, it may have."""
    try:
        return bool(Path(f"/proc/{process_id}/task/{process_id}/children").read_text(encoding="ascii").strip())
    except OSError:
        return True
