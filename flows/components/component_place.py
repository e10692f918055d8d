"""Where the file of components is. Every run looks for it, so this module loads little."""

import os
from pathlib import Path
from typing import Final

from inventory.errors import InventoryError
from inventory.files.paths import expand_home
from inventory.loader import find_inventory

COMPONENTS_VARIABLE: Final = "FLEETPATCH_COMPONENTS"
COMPONENTS_FILE_NAME: Final = "components.yaml"


def find_component_file(inventory: Path | None = None) -> Path | None:
    """Return the path of the file: $FLEETPATCH_COMPONENTS, or components.yaml beside the inventory. None: none there.

    Raises:
        InventoryError: the variable names what does not exist, or there is no inventory.
    """
    return find_named_file(COMPONENTS_VARIABLE, COMPONENTS_FILE_NAME, inventory)


def find_named_file(variable: str, file_name: str, inventory: Path | None) -> Path | None:
    """Return the file that a variable of the environment names, or the one beside the inventory. None: none there.

    Raises:
        InventoryError: the variable names what does not exist, or there is no inventory.
    """
    if named := os.environ.get(variable, ""):
        path = expand_home(Path(named)).absolute()
        if not path.exists():
            raise InventoryError(f"there is no such file, named by {variable}", file=path, hint="Correct the variable.")
        return path
    path = find_inventory(inventory).absolute().parent / file_name
    return path if path.exists() else None


def has_component_file(inventory: Path | None) -> bool:
    """Return whether a run has to look into the file: it is there, or a variable names it, rightly or not."""
    return bool(os.environ.get(COMPONENTS_VARIABLE)) or find_component_file(inventory) is not None
