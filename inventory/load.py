"""The way in: find an inventory, read it whatever its format, and say everything that is wrong with it at once."""

import os
from contextlib import suppress
from pathlib import Path

import platformdirs

from inventory.drafts import Fragment, assemble
from inventory.errors import InventoryError
from inventory.formats import AnsibleFile, read_file
from inventory.listing import read_directory
from inventory.machine import Inventory
from inventory.places import Problems, own_folder, with_home

ENVIRONMENT_VARIABLE = "FLEETPATCH_INVENTORY"
DEFAULT_NAME = "fleet.yaml"


def load_inventory(path: Path) -> Inventory:
    """Read an inventory.

    Args:
        path: a file (fleet.yaml, CSV, an Ansible inventory in INI or YAML), or a directory of such files.

    Returns:
        Its machines, in the order of the file; files of a directory in the order of their names.

    Raises:
        InvalidInventory: with every fault, its place and its remedy.
    """
    path = with_home(path)
    if not path.is_absolute():
        _here()  # which says when there is none: paths are taken from it
    problems = Problems()
    found = read_directory(path, problems) if _is_folder(path) else [read_file(path, problems)]
    return assemble(_fragments(found, path, problems), path, problems)


def find_inventory(explicit: Path | None = None) -> Path:
    """Return the inventory to use.

    Args:
        explicit: what the person named; wins when given.

    Returns:
        The first of: ``explicit``, $FLEETPATCH_INVENTORY, ./fleet.yaml, fleet.yaml in the user's configuration.

    Raises:
        InventoryError: what was named does not exist, or there is nothing anywhere.
    """
    if explicit is not None:
        return _existing(explicit, "named on the command line or in the request")
    if named := os.environ.get(ENVIRONMENT_VARIABLE):
        return _existing(Path(named), f"named by {ENVIRONMENT_VARIABLE}")
    places = [_here() / DEFAULT_NAME]
    with suppress(InventoryError):  # who has no home has one place less
        places.append(own_folder(platformdirs.user_config_path, InventoryError, "name the inventory") / DEFAULT_NAME)
    for place in places:
        if place.exists():
            return place
    looked = " nor ".join(str(place) for place in places)
    raise InventoryError(
        f"there is no inventory: {'neither ' if len(places) > 1 else 'not even '}{looked}",
        hint=f"Write one there (inventory/fleet.example.yaml is a start), name it, or set {ENVIRONMENT_VARIABLE}.",
    )


def _is_folder(path: Path) -> bool:
    return os.path.isdir(path)  # noqa: PTH112 - Path.is_dir raises when a name is too long


def _here() -> Path:
    """Return the working directory.

    Raises:
        InventoryError: it was removed.
    """
    try:
        return Path.cwd()
    except OSError as error:
        hint = "Change to a directory that exists, and give the path again."
        raise InventoryError("the folder that this was started in is gone", hint=hint) from error


def _existing(path: Path, how: str) -> Path:
    path = with_home(path)
    if not os.path.exists(path):  # noqa: PTH110 - Path.exists raises when a name is too long
        raise InventoryError(f"there is no such file, {how}", file=path, hint="Correct the path.")
    return path


def _fragments(found: list[Fragment | AnsibleFile], path: Path, problems: Problems) -> list[Fragment]:
    """Join the files that are Ansible's: they make one inventory."""
    files = [each for each in found if isinstance(each, AnsibleFile)]
    fragments = [each for each in found if isinstance(each, Fragment)]
    if files:
        from inventory.ansible.read import read_ansible  # noqa: PLC0415 - most inventories are not Ansible's

        joined = read_ansible(files, path if _is_folder(path) else path.parent, problems)
        fragments.insert(found.index(files[0]), joined)
    return fragments
