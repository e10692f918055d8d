"""Offer the flows as deployments of this process: ``python -m deployments.serve``.

Runs are started from the forms in the Prefect UI (or its API) and carried out here, each in a process of its own.
"""

from pathlib import Path

from prefect import serve
from prefect.deployments.runner import RunnerDeployment
from prefect.types.entrypoint import EntrypointType

from flows.assess import assess_fleet
from flows.patch import patch_fleet


def offered() -> list[RunnerDeployment]:
    """Return what is offered: one deployment a flow, with an empty schedule."""
    made = (
        flow.to_deployment(
            name="on-demand",
            description=(flow.description or "").strip(),
            tags=["fleetpatch"],
            entrypoint_type=EntrypointType.MODULE_PATH,
        )
        for flow in (assess_fleet, patch_fleet)
    )
    return [deployment for deployment in made if isinstance(deployment, RunnerDeployment)]


def main() -> None:
    """Serve until stopped."""
    print(f"serving from {Path.cwd()}; stop with Ctrl-C")  # noqa: T201 - said to the person who started it
    serve(*offered())


if __name__ == "__main__":
    main()
