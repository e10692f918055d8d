"""The environment of processes that tests start."""

import os
from typing import Final

from tests.ci.tree import TOP

QUICK_PYTHON: Final = str(TOP / "tests/support/python")
"""A folder for PYTHONPATH; see the module in it."""
PYTHONPATH: Final = os.pathsep.join((str(TOP), QUICK_PYTHON))
"""Where the Python processes of the tests find this checkout."""


def without_ours() -> dict[str, str]:
    """Return this process's environment without the settings of Prefect and of fleetpatch."""
    return {key: value for key, value in os.environ.items() if not key.startswith(("PREFECT", "FLEETPATCH"))}
