"""Finds and loads an inventory in any format, and reports all its problems at once."""

import os
from pathlib import Path

from inventory.builder import InventoryFragment, build_inventory
from inventory.errors import InventoryError
from inventory.files.paths import expand_home, find_named_or_default_path, find_working_directory
from inventory.files.problems import ProblemCollector
from inventory.formats.directory import AnsibleFile, read_inventory_directory, read_inventory_file
from inventory.machine import Inventory

INVENTORY_VARIABLE = "FLEETPATCH_INVENTORY"
DEFAULT_FILE_NAME = "fleet.yaml"


def load_inventory(path: Path) -> Inventory:
    """Load an inventory.

    Args:
        path: a file (fleet.yaml, CSV, an Ansible inventory in INI or YAML), or a directory of such files.

    Returns:
        The machines in the order of the file. Files of a directory are read in the order of their names.

    Raises:
        InvalidInventory: the inventory has problems. The error has each problem with its place and its hint.
    """
    path = expand_home(path)
    if not path.is_absolute():
        find_working_directory()  # raises a clear error if the directory was removed; relative paths need it
    problems = ProblemCollector()
    fragments = (
        read_inventory_directory(path, problems) if _is_directory(path) else [read_inventory_file(path, problems)]
    )
    return build_inventory(_join_ansible_files(fragments, path, problems), path, problems)


def find_inventory(explicit: Path | None = None) -> Path:
    """Return the path of the inventory.

    Returns:
        The first of: ``explicit``, $FLEETPATCH_INVENTORY, ./fleet.yaml, fleet.yaml in the user's configuration folder.

    Raises:
        InventoryError: the named path does not exist, or there is no inventory in any place.
    """
    return find_named_or_default_path(
        explicit,
        INVENTORY_VARIABLE,
        [DEFAULT_FILE_NAME],
        what="file",
        explicit_origin="named on the command line or in the request",
        remedy="name the inventory",
        build_missing_error=_build_missing_error,
    )


def _build_missing_error(folders: list[Path]) -> InventoryError:
    looked = " nor ".join(str(folder / DEFAULT_FILE_NAME) for folder in folders)
    example = Path(__file__).with_name("fleet.example.yaml")
    return InventoryError(
        f"there is no inventory: {'neither ' if len(folders) > 1 else 'not even '}{looked}",
        hint=f"Write one there ({example} is an example), name it with --inventory, or set {INVENTORY_VARIABLE}.",
    )


def _is_directory(path: Path) -> bool:
    return os.path.isdir(path)  # noqa: PTH112 - Path.is_dir raises when a name is too long


def _join_ansible_files(
    found: list[InventoryFragment | AnsibleFile], path: Path, problems: ProblemCollector
) -> list[InventoryFragment]:
    """Join all Ansible files into one fragment, because Ansible reads them as one inventory."""
    files = [fragment for fragment in found if isinstance(fragment, AnsibleFile)]
    fragments = [fragment for fragment in found if isinstance(fragment, InventoryFragment)]
    if files:
        from inventory.formats.ansible.reader import read_ansible_inventory  # noqa: PLC0415 - most inventories are not Ansible's

        joined = read_ansible_inventory(files, path if _is_directory(path) else path.parent, problems)
        fragments.insert(found.index(files[0]), joined)
    return fragments
