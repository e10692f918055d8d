"""Serves the flows as deployments of this process: ``python -P -m deployments.serve``.

People start runs in the forms of the Prefect UI (or through its API). Each run has its own process on this machine.
Every few minutes, reconcile-fleet finds runs whose process died, and resumes or finalizes them.
"""

import os
import sys
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any

from flows.prefect_api.connection import supply_login
from flows.prefect_api.server_settings import SAFE_PATH
from inventory.errors import FleetpatchError

if TYPE_CHECKING:
    from prefect import Flow
    from prefect.deployments.runner import RunnerDeployment

# ruff: noqa: PLC0415 - Prefect is loaded after the check of its settings

RECONCILE_INTERVAL = timedelta(minutes=5)


def build_served_deployments() -> "list[RunnerDeployment]":
    """Return one deployment for each flow. Only reconcile-fleet has a schedule; people start the others."""
    from prefect.deployments.runner import RunnerDeployment
    from prefect.types.entrypoint import EntrypointType

    from flows.assess import assess_fleet
    from flows.patch import patch_fleet, resume_fleet
    from flows.plan import plan_fleet
    from flows.reconcile import reconcile_fleet

    flows: tuple[Flow[Any, Any], ...] = (assess_fleet, plan_fleet, patch_fleet, resume_fleet, reconcile_fleet)
    deployments = (
        flow.to_deployment(
            name="scheduled" if flow is reconcile_fleet else "on-demand",
            description=(flow.description or "").strip(),
            tags=["fleetpatch"],
            interval=RECONCILE_INTERVAL if flow is reconcile_fleet else None,
            entrypoint_type=EntrypointType.MODULE_PATH,
        )
        for flow in flows
    )
    return [deployment for deployment in deployments if isinstance(deployment, RunnerDeployment)]


def main() -> None:
    """Serve the deployments until the process is stopped."""
    os.environ.update(SAFE_PATH)
    try:
        url = supply_login()
    except FleetpatchError as error:
        sys.exit(f"error: {error} {error.hint}")
    if not url:
        sys.exit("error: PREFECT_API_URL is not set: the server is unknown")
    print(f"serving from {Path.cwd()}; stop with Ctrl-C")  # noqa: T201 - said to the person who started it
    from prefect import serve

    serve(*build_served_deployments())


if __name__ == "__main__":
    main()
