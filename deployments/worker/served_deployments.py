"""The deployments of ``python -m deployments.serve``."""

from collections.abc import Mapping
from datetime import timedelta
from typing import Any

from prefect import Flow
from prefect.deployments.runner import RunnerDeployment
from prefect.types.entrypoint import EntrypointType

from flows.assess import assess_fleet
from flows.patch import patch_fleet, resume_fleet
from flows.reconcile import reconcile_fleet

RECONCILE_INTERVAL = timedelta(minutes=5)


_SCHEDULE_INTERVALS: Mapping[str, timedelta] = {reconcile_fleet.name: RECONCILE_INTERVAL}


def build_served_deployments() -> list[RunnerDeployment]:
    """Return one deployment for each flow. Only reconcile-fleet has a schedule; people start the others."""
    flows: tuple[Flow[Any, Any], ...] = (assess_fleet, patch_fleet, resume_fleet, reconcile_fleet)
    deployments = (
        flow.to_deployment(
            name="on-demand" if flow.name not in _SCHEDULE_INTERVALS else "scheduled",
            description=(flow.description or "").strip(),
            tags=["fleetpatch"],
            interval=_SCHEDULE_INTERVALS.get(flow.name),
            entrypoint_type=EntrypointType.MODULE_PATH,
        )
        for flow in flows
    )
    return [deployment for deployment in deployments if isinstance(deployment, RunnerDeployment)]
