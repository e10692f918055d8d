"""Where the files of components, images and providers are. Every run looks for them, so this module loads little."""

import os
from pathlib import Path
from typing import Final

from inventory.data_class import dataclass
from inventory.errors import InventoryError
from inventory.files.paths import expand_home
from inventory.loader import find_inventory


@dataclass(frozen=True, slots=True)
class NamedFile:
    """A file that a variable of the environment names, or the one of that name beside the inventory."""

    variable: str
    name: str

    def find(self, inventory: Path | None = None) -> Path | None:
        """Return its path. None: none there.

        Raises:
            InventoryError: the variable names what does not exist, or there is no inventory.
        """
        if named := os.environ.get(self.variable, ""):
            path, hint = expand_home(Path(named)).absolute(), "Correct the variable."
            if not path.exists():
                raise InventoryError(f"there is no such file, named by {self.variable}", file=path, hint=hint)
            return path
        path = find_inventory(inventory).absolute().parent / self.name
        return path if path.exists() else None

    def is_used(self, inventory: Path | None) -> bool:
        """Return whether a run has to look into it: it is there, or the variable names it, rightly or not."""
        return bool(os.environ.get(self.variable)) or self.find(inventory) is not None


COMPONENTS_FILE: Final = NamedFile("FLEETPATCH_COMPONENTS", "components.yaml")
IMAGES_FILE: Final = NamedFile("FLEETPATCH_IMAGES", "images.yaml")
PROVIDERS_FILE: Final = NamedFile("FLEETPATCH_PROVIDERS", "providers.yaml")
