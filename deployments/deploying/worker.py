"""Carry runs out on this machine: Prefect's own process worker, in our interpreter."""

import os
import socket
import subprocess
import sys

QUERY_SECONDS = 5
"""How often the worker asks for runs. Prefect's own 15 s are a good part of a short window's lead."""


def work(pool: str) -> int:
    """Work until stopped.

    The worker is Prefect's; it starts each run as a process of its own, which a worker's end does not end.

    Returns:
        Its exit code.
    """
    command = [sys.executable, "-m", "prefect", "worker", "start", "--pool", pool, "--type", "process"]
    command += ["--name", f"fleetpatch-{socket.gethostname()}-{os.getpid()}"]
    environment = {
        "PREFECT_WORKER_QUERY_SECONDS": str(QUERY_SECONDS),
        "PREFECT_FLOWS_HEARTBEAT_FREQUENCY": "30",
        "PREFECT_TASKS_DEFAULT_NO_CACHE": "true",
        **os.environ,
    }
    process = subprocess.Popen(command, env=environment)
    try:
        return process.wait()
    except KeyboardInterrupt:  # the terminal told the worker as well
        return process.wait()
