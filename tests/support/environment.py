"""The environment of processes that tests start."""

import os


def without_ours() -> dict[str, str]:
    """Return this process's environment without the settings of Prefect and of fleetpatch."""
    return {key: value for key, value in os.environ.items() if not key.startswith(("PREFECT", "FLEETPATCH"))}
