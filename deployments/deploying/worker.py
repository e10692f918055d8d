"""Carry runs out on this machine: Prefect's own process worker, in our interpreter."""

import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

from deployments.server.settings import settings_of
from flows.server_settings import Part
from inventory.load import ENVIRONMENT_VARIABLE

QUERY_SECONDS = 5
"""How often the worker asks for runs. Prefect's own 15 s are a good part of a short window's lead."""
END_SECONDS = 15.0
"""How long a worker that was told to end, and carries no run, may take."""
END_SECONDS_WITH_RUNS = 60.0
"""The same of one that carries runs: Prefect gives each half a minute."""
_LOOK_SECONDS = 0.5


def work(pool: str, inventory: Path) -> int:
    """Work until stopped.

    The worker is Prefect's; it starts each run as a process of its own. Stopping it stops those as well, at once; what
    runs on machines does not notice. Where this process is killed, its worker takes no more runs, and ends when those
    that it had started are over.

    Args:
        pool: whose runs are carried out.
        inventory: of runs that name none, such as those that are started from a form: each run has a folder of its
            own, where none is found. What the environment says stands.

    Returns:
        Its exit code.
    """
    name = f"fleetpatch-{socket.gethostname()}-{os.getpid()}"
    command = [sys.executable, "-m", "deployments.deploying.bound", str(os.getpid()), pool, name]
    environment = {
        **settings_of(Part.WORKER),
        "PREFECT_WORKER_QUERY_SECONDS": str(QUERY_SECONDS),
        ENVIRONMENT_VARIABLE: str(inventory),
        **os.environ,
    }
    return attend(command, environment)


def attend(
    command: Sequence[str],
    environment: Mapping[str, str],
    *,
    end_seconds: float = END_SECONDS,
    with_runs: float = END_SECONDS_WITH_RUNS,
) -> int:
    """Run a worker until it ends, or until this process is told to end: then the worker is as well.

    Args:
        command: of the worker.
        environment: whole.
        end_seconds: how long it may take to end once it was told to, when it has no processes of its own.
        with_runs: the same when it has some.

    Returns:
        Its exit code; 0 when it was told to end and had to be killed.
    """
    told: list[float] = []
    # Before there is a worker: a signal in between would leave it behind, to take runs with what is old by then.
    before = signal.signal(signal.SIGTERM, lambda _number, _frame: told.append(time.monotonic()))
    process = subprocess.Popen(command, env=environment)
    passed_on = False
    try:
        while True:
            try:
                return process.wait(_LOOK_SECONDS)
            except subprocess.TimeoutExpired:
                if told and not passed_on:
                    process.terminate()
                    passed_on = True
                if told and time.monotonic() > told[0] + (with_runs if _has_children(process.pid) else end_seconds):
                    process.kill()
                    process.wait()
                    return 0
            except KeyboardInterrupt:  # the terminal told the worker as well
                told.append(time.monotonic())
                passed_on = True
    finally:
        signal.signal(signal.SIGTERM, before)


def _has_children(process: int) -> bool:
    """Whether a process has started others that are alive; where the system does not tell, it may have."""
    try:
        return bool(Path(f"/proc/{process}/task/{process}/children").read_text(encoding="ascii").strip())
    except OSError:
        return True
