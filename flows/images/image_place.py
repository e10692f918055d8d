"""Where the file of images is. Every run looks for it, so this module loads little."""

import os
from pathlib import Path
from typing import Final

from flows.components.component_place import find_named_file

IMAGES_VARIABLE: Final = "FLEETPATCH_IMAGES"
IMAGES_FILE_NAME: Final = "images.yaml"


def find_image_file(inventory: Path | None = None) -> Path | None:
    """Return the path of the file: $FLEETPATCH_IMAGES, or images.yaml beside the inventory. None: none there.

    Raises:
        InventoryError: the variable names what does not exist, or there is no inventory.
    """
    return find_named_file(IMAGES_VARIABLE, IMAGES_FILE_NAME, inventory)


def has_image_file(inventory: Path | None) -> bool:
    """Return whether a run has to look into the file: it is there, or a variable names it, rightly or not."""
    return bool(os.environ.get(IMAGES_VARIABLE)) or find_image_file(inventory) is not None
