"""Prefect's own command, which can be a worker: ``python -P -m deployments.worker.prefect_command WORDS…``."""

import sys

from prefect.cli import app

from deployments.worker import flow_worker  # noqa: F401 - the worker for pools of processes
from deployments.worker.temporary_folder import use_own_temporary_folder
from flows.long_process import set_signals


def run_prefect_command() -> None:
    """Run Prefect's command with the words of this process."""
    sys.argv[0] = "prefect"
    set_signals()
    use_own_temporary_folder()
    app()


if __name__ == "__main__":
    run_prefect_command()
