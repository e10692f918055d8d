"""A worker on this machine: Prefect's process worker in the same interpreter."""

import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

from deployments.server.settings import build_environment
from flows.long_process import set_signals
from flows.policy.policy_file import CONFIGURATIONS_VARIABLE, POLICY_VARIABLE
from flows.prefect_api.server_settings import SettingTarget
from inventory.loader import INVENTORY_VARIABLE

WORKER_POLL_SECONDS = 5
"""How often the worker asks for runs. Prefect's default of 15 s is a large part of a short window's lead."""
STOP_SECONDS = 15.0
"""How long a worker without runs may take to stop."""
STOP_SECONDS_WITH_RUNS = 60.0
"""How long a worker with runs may take to stop. Prefect gives each run 30 s."""
_POLL_SECONDS = 0.5


def run_worker(pool: str, inventory: Path, configurations: Path) -> int:
    """Run a worker until it is stopped. Return its exit code.

    The worker is Prefect's. It starts each run as a separate process, and stops these processes when it stops. Jobs on
    machines continue. If this process is killed, its worker accepts no more runs and ends after its active runs.

    ``inventory``: the inventory of runs that name none, for example runs from a form. Each run starts in its own
    folder, where no inventory is found. A value in the environment has priority.
    ``configurations``: their file or folder: each run enforces the policy beside them.
    """
    set_signals()
    name = f"fleetpatch-{socket.gethostname()}-{os.getpid()}"
    command = [sys.executable, "-P", "-m", "deployments.worker.bound_worker", str(os.getpid()), pool, name]
    environment = {
        **build_environment(SettingTarget.WORKER),
        "PREFECT_WORKER_QUERY_SECONDS": str(WORKER_POLL_SECONDS),
        INVENTORY_VARIABLE: str(inventory),
        **os.environ,
        CONFIGURATIONS_VARIABLE: str(configurations.absolute()),
    }
    if policy := environment.get(POLICY_VARIABLE):  # each run starts in its own folder
        environment[POLICY_VARIABLE] = str(Path(policy).absolute())
    return supervise_worker(command, environment)


def supervise_worker(
    command: Sequence[str],
    environment: Mapping[str, str],
    *,
    stop_seconds: float = STOP_SECONDS,
    stop_seconds_with_runs: float = STOP_SECONDS_WITH_RUNS,
) -> int:
    """Run a worker until it ends. If this process gets a stop signal, stop the worker.

    Return the exit code of the worker; 0 if it did not stop in time and was killed.
    """
    stop_times: list[float] = []
    # Install the handler before the worker starts. Otherwise a signal could leave a worker behind that runs old code.
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
            except KeyboardInterrupt:  # the terminal sends the signal to the worker, too
                stop_times.append(time.monotonic())
                is_forwarded = True
    finally:
        signal.signal(signal.SIGTERM, previous_handler)


def _has_children(process_id: int) -> bool:
    """Return whether a process has live child processes. Return True if the system can't tell."""
    try:
        return bool(Path(f"/proc/{process_id}/task/{process_id}/children").read_text(encoding="ascii").strip())
    except OSError:
        return True
