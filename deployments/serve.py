"""Offer the flows as deployments of this process: ``python -m deployments.serve``.

Runs are started from the forms in the Prefect UI (or its API) and carried out here, each in a process of its own.
Runs whose process died are looked for every few minutes, and taken up.
"""

from collections.abc import Mapping
from datetime import timedelta
from pathlib import Path
from typing import Any

from prefect import Flow, serve
from prefect.deployments.runner import RunnerDeployment
from prefect.types.entrypoint import EntrypointType

from flows.assess import assess_fleet
from flows.patch import patch_fleet, resume_fleet
from flows.reconcile import reconcile_fleet

RECONCILE_EVERY = timedelta(minutes=5)

_SCHEDULES: Mapping[str, timedelta] = {reconcile_fleet.name: RECONCILE_EVERY}


def offered() -> list[RunnerDeployment]:
    """Return what is offered: one deployment a flow. Only reconcile-fleet has a schedule: the others are asked for."""
    flows: tuple[Flow[Any, Any], ...] = (assess_fleet, patch_fleet, resume_fleet, reconcile_fleet)
    made = (
        flow.to_deployment(
            name="on-demand" if flow.name not in _SCHEDULES else "scheduled",
            description=(flow.description or "").strip(),
            tags=["fleetpatch"],
            interval=_SCHEDULES.get(flow.name),
            entrypoint_type=EntrypointType.MODULE_PATH,
        )
        for flow in flows
    )
    return [deployment for deployment in made if isinstance(deployment, RunnerDeployment)]


def main() -> None:
    """Serve until stopped."""
    print(f"serving from {Path.cwd()}; stop with Ctrl-C")  # noqa: T201 - said to the person who started it
    serve(*offered())


if __name__ == "__main__":
    main()
