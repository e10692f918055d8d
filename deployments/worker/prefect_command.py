"""Prefect's own command, which can be a worker: ``python -P -m deployments.worker.prefect_command WORDS…``."""

import sys

from prefect.cli import app

from deployments.worker.bound_worker import use_own_temporary_folder
from deployments.worker.installed_flow_start import start_installed_flows_at_once
from deployments.worker.integration_packages import find_integrations_by_name
from flows.long_process import set_signals


def run_prefect_command() -> None:
    """Run Prefect's command with the words of this process."""
    sys.argv[0] = "prefect"
    set_signals()
    use_own_temporary_folder()
    start_installed_flows_at_once()
    find_integrations_by_name()
    app()


if __name__ == "__main__":
    run_prefect_command()
