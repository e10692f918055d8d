"""Offer the flows as deployments of this process: ``python -m deployments.serve``.

The forms in the Prefect UI (or its API) start runs; each run has a process of its own here.
Every few minutes reconcile-fleet looks for runs whose process died, and continues or settles them.
"""

from pathlib import Path

from prefect import serve

from deployments.worker.served_deployments import build_served_deployments


def main() -> None:
    """Serve until stopped."""
    print(f"serving from {Path.cwd()}; stop with Ctrl-C")  # noqa: T201 - said to the person who started it
    serve(*build_served_deployments())


if __name__ == "__main__":
    main()
