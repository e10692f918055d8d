"""The former process of the forms: ``python -P -m deployments.serve``. It refuses, and says what has replaced it.

It created the built-in deployments a second time: without their fleet, and for itself instead of the work pool.
`fleetpatch deploy` alone owns them. A unit or a container of an earlier release may still start this module, again and
again. There it waits until it is stopped, so that it does not fail in a loop.
"""

import signal
import sys

REMEDY = (
    "`fleetpatch deploy` makes the forms and what recovers runs; a worker executes them. Remove this service: "
    "systemctl disable --now fleetpatch-serve, or the service `serve` of an older compose.yaml. "
    "What it made in Prefect, the next `fleetpatch deploy` takes over."
)


def main() -> None:
    """Say what has replaced this process. Without a terminal, wait until the process is stopped."""
    if sys.stdin is not None and sys.stdin.isatty():
        sys.exit(f"error: deployments.serve is no more. {REMEDY}")
    sys.stderr.write(f"deployments.serve is no more: this process does nothing. {REMEDY}\n")
    sys.stderr.flush()
    signal.sigwait({signal.SIGINT, signal.SIGTERM})


if __name__ == "__main__":
    signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT, signal.SIGTERM})
    main()
