"""Serves the flows as deployments of this process: ``python -m deployments.serve``.

People start runs in the forms of the Prefect UI (or through its API). Each run has its own process on this machine.
Every few minutes, reconcile-fleet finds runs whose process died, and resumes or finalizes them.
"""

from pathlib import Path

from prefect import serve

from deployments.worker.served_deployments import build_served_deployments


def main() -> None:
    """Serve the deployments until the process is stopped."""
    print(f"serving from {Path.cwd()}; stop with Ctrl-C")  # noqa: T201 - said to the person who started it
    serve(*build_served_deployments())


if __name__ == "__main__":
    main()
