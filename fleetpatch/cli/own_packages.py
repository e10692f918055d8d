"""Requires that the packages of fleetpatch are its own, before one of them is imported.

Their names are common: ``flows`` or ``tasks`` of another program, earlier on the path, would be used instead.
"""

import sys
from importlib.util import find_spec
from pathlib import Path
from typing import Final

CANNOT_RUN: Final = 5
"""As in fleetpatch/cli/runtime/exit_codes.py, which can't be imported yet."""
_PACKAGES: Final = ("flows", "tasks", "deployments", "inventory")


def require_own_packages() -> None:
    """End the program with a message if a package is another program's."""
    own = Path(__file__).parent.parent.parent
    for name in _PACKAGES:
        spec = find_spec(name)
        places = [] if spec is None else [Path(location) for location in spec.submodule_search_locations or ()]
        if own / name not in places[:1]:
            fault = f"{places[0]} of another program is found instead" if places else "it is missing"
            print(
                f"error: the package `{name}` of fleetpatch is not used: {fault}\n"
                "  PYTHONPATH must not name a folder with such a package. "
                "Install fleetpatch into an environment of its own: pipx, uv tool or a venv.",
                file=sys.stderr,
            )
            sys.exit(CANNOT_RUN)
