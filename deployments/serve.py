"""Offer the flows as deployments of this process: ``python -m deployments.serve``.

Runs are started from the forms in the Prefect UI (or its API) and carried out here, each in a process of its own.
Runs whose process died are looked for every few minutes, and taken up.
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
