"""Carry runs out on this machine: Prefect's own process worker, in our interpreter."""

import os
import signal
import socket
import subprocess
import sys
from pathlib import Path

from deployments.server.settings import settings_of
from flows.server_settings import Part
from inventory.load import ENVIRONMENT_VARIABLE

QUERY_SECONDS = 5
"""How often the worker asks for runs. Prefect's own 15 s are a good part of a short window's lead."""


def work(pool: str, inventory: Path) -> int:
    """Work until stopped.

    The worker is Prefect's; it starts each run as a process of its own. Stopping it stops those as well, at once; what
    runs on machines does not notice.

    Args:
        pool: whose runs are carried out.
        inventory: of runs that name none, such as those that are started from a form: each run has a folder of its
            own, where none is found. What the environment says stands.

    Returns:
        Its exit code.
    """
    command = [sys.executable, "-m", "prefect", "worker", "start", "--pool", pool, "--type", "process"]
    command += ["--name", f"fleetpatch-{socket.gethostname()}-{os.getpid()}"]
    environment = {
        **settings_of(Part.WORKER),
        "PREFECT_WORKER_QUERY_SECONDS": str(QUERY_SECONDS),
        ENVIRONMENT_VARIABLE: str(inventory),
        **os.environ,
    }
    process = subprocess.Popen(command, env=environment)
    # Whoever ends this command means the worker: it must not stay behind and take runs with what is old by then.
    signal.signal(signal.SIGTERM, lambda number, frame: process.terminate())  # noqa: ARG005 - the handler's parameters
    try:
        return process.wait()
    except KeyboardInterrupt:  # the terminal told the worker as well
        return process.wait()
