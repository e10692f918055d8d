"""The environment of processes that tests start."""

import os
from typing import Final

from tests.ci.tree import TOP

QUICK_PYTHON: Final = str(TOP / "tests/support/python")
"""A folder for PYTHONPATH; see the module in it."""
PYTHONPATH: Final = os.pathsep.join((str(TOP), QUICK_PYTHON))
"""Where the Python processes of the tests find this checkout."""


KEYS_VARIABLE: Final = "FLEETPATCH_KEYS"
"""Names the folder of keys. A test and the programs that it starts have the same keys, and never the user's."""
OWNERS_VARIABLE: Final = "FLEETPATCH_TRUSTED_OWNERS"
"""Names the owner of this checkout, so that another user, such as root in a container, can run the tests."""

TEST_RUN_VARIABLE: Final = "TEST_RUN_PROCESS"
"""Names the process that began the tests: what all processes of a test run share ends with it."""

SETTINGS_VARIABLE: Final = "FLEETPATCH_SETTINGS"
"""Names the settings file of all programs that the tests start: an empty one."""


def without_ours() -> dict[str, str]:
    """Return this process's environment without the settings of Prefect and fleetpatch.

    The folder of keys, the owner of the checkout and the empty settings file stay.
    """
    return {
        key: value
        for key, value in os.environ.items()
        if key in {KEYS_VARIABLE, OWNERS_VARIABLE, SETTINGS_VARIABLE} or not key.startswith(("PREFECT", "FLEETPATCH"))
    }
