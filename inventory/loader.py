"""The way in: find an inventory, read it whatever its format, and say everything that is wrong with it at once."""

import os
from contextlib import suppress
from pathlib import Path

import platformdirs

from inventory.builder import InventoryFragment, build_inventory
from inventory.errors import InventoryError
from inventory.files.paths import expand_home, find_user_directory
from inventory.files.problems import ProblemCollector
from inventory.formats.detection import AnsibleFile, read_inventory_file
from inventory.formats.directory import read_inventory_directory
from inventory.machine import Inventory

INVENTORY_VARIABLE = "FLEETPATCH_INVENTORY"
DEFAULT_FILE_NAME = "fleet.yaml"


def load_inventory(path: Path) -> Inventory:
    """Read an inventory.

    Args:
        path: a file (fleet.yaml, CSV, an Ansible inventory in INI or YAML), or a directory of such files.

    Returns:
        Its machines, in the order of the file; files of a directory in the order of their names.

    Raises:
        InvalidInventory: with every fault, its place and its remedy.
    """
    path = expand_home(path)
    if not path.is_absolute():
        _find_working_directory()  # which says when there is none: paths are taken from it
    problems = ProblemCollector()
    found = read_inventory_directory(path, problems) if _is_directory(path) else [read_inventory_file(path, problems)]
    return build_inventory(_join_ansible_files(found, path, problems), path, problems)


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
        return _require_existing_path(explicit, "named on the command line or in the request")
    if named := os.environ.get(INVENTORY_VARIABLE):
        return _require_existing_path(Path(named), f"named by {INVENTORY_VARIABLE}")
    places = [_find_working_directory() / DEFAULT_FILE_NAME]
    with suppress(InventoryError):  # who has no home has one place less
        places.append(
            find_user_directory(platformdirs.user_config_path, InventoryError, "name the inventory") / DEFAULT_FILE_NAME
        )
    for place in places:
        if place.exists():
            return place
    looked = " nor ".join(str(place) for place in places)
    raise InventoryError(
        f"there is no inventory: {'neither ' if len(places) > 1 else 'not even '}{looked}",
        hint=f"Write one there (inventory/fleet.example.yaml is a start), name it, or set {INVENTORY_VARIABLE}.",
    )


def _is_directory(path: Path) -> bool:
    return os.path.isdir(path)  # noqa: PTH112 - Path.is_dir raises when a name is too long


def _find_working_directory() -> Path:
    """Return the working directory.

    Raises:
        InventoryError: it was removed.
    """
    try:
        return Path.cwd()
    except OSError as error:
        hint = "Change to a directory that exists, and give the path again."
        raise InventoryError("the current folder does not exist any more", hint=hint) from error


def _require_existing_path(path: Path, origin: str) -> Path:
    path = expand_home(path)
    if not os.path.exists(path):  # noqa: PTH110 - Path.exists raises when a name is too long
        raise InventoryError(f"there is no such file, {origin}", file=path, hint="Correct the path.")
    return path


def _join_ansible_files(
    found: list[InventoryFragment | AnsibleFile], path: Path, problems: ProblemCollector
) -> list[InventoryFragment]:
    """Join the files that are Ansible's: they make one inventory."""
    files = [each for each in found if isinstance(each, AnsibleFile)]
    fragments = [each for each in found if isinstance(each, InventoryFragment)]
    if files:
        from inventory.formats.ansible.reader import read_ansible_inventory  # noqa: PLC0415 - most inventories are not Ansible's

        joined = read_ansible_inventory(files, path if _is_directory(path) else path.parent, problems)
        fragments.insert(found.index(files[0]), joined)
    return fragments
