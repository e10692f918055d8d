"""The way in: find an inventory, read it whatever its format, and say everything that is wrong with it at once."""

import logging
import os
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import platformdirs

from inventory.ansible.hosts_yaml import looks_like_groups
from inventory.drafts import Fragment, assemble
from inventory.errors import InventoryError
from inventory.fleet_csv import read_csv
from inventory.fleet_yaml import KEYS, read_fleet
from inventory.machine import Inventory
from inventory.places import Place, Problems, own_folder, read_text, with_home
from inventory.yaml_tree import parse_yaml

logger = logging.getLogger(__name__)

ENVIRONMENT_VARIABLE = "FLEETPATCH_INVENTORY"
DEFAULT_NAME = "fleet.yaml"

_YAML = frozenset({".yaml", ".yml", ".json"})
_INI = frozenset({".ini", ".cfg"})
_BARE_NAMES = frozenset({"hosts", "inventory"})
_NO_INVENTORY = frozenset({".md", ".txt", ".rst", ".lock", ".bak", ".orig", ".retry", ".pub"})
_DYNAMIC_HINT = "Let Ansible write it down: ansible-inventory -i FILE --list --yaml > hosts.yml"


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
    problems = Problems()
    fragments = [_read(file, problems) for file in _files(path, problems)]
    return assemble(fragments, path, problems)


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
    places = [Path.cwd() / DEFAULT_NAME]
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


def _existing(path: Path, how: str) -> Path:
    path = with_home(path)
    if not path.exists():
        raise InventoryError(f"there is no such file, {how}", file=path, hint="Correct the path.")
    return path


def _files(path: Path, problems: Problems) -> Iterator[Path]:
    """Give the files that an inventory is made of. What is left out of a directory is told."""
    if not path.is_dir():
        yield path
        return
    for item in sorted(path.iterdir()):
        if item.name.startswith(".") or item.name.endswith("~") or item.is_dir() or item.suffix in _NO_INVENTORY:
            continue  # never an inventory: documented in docs/inventory.md
        if item.suffix in _YAML | _INI | {".csv"} or item.name in _BARE_NAMES:
            yield item
        elif _is_program(item):
            problems.add(Place(item), "this is a program, and fleetpatch runs no dynamic inventories", _DYNAMIC_HINT)
        else:
            logger.warning("%s is no inventory by its name, and is not read", item)


def _read(path: Path, problems: Problems) -> Fragment:
    if path.suffix not in _YAML and path.suffix != ".csv" and path.is_file() and _is_program(path):
        problems.add(Place(path), "this is a program, and fleetpatch runs no dynamic inventories", _DYNAMIC_HINT)
        return Fragment()
    text = read_text(path, problems)
    if text is None:
        return Fragment()
    if text.startswith("$ANSIBLE_VAULT"):
        problems.add(Place(path), "this file is vaulted as a whole", "Keep the inventory in plain text.")
        return Fragment()
    if path.suffix == ".csv":
        return read_csv(path, text, problems)
    if path.suffix in _YAML or (path.suffix not in _INI and _is_yaml_by_content(text)):
        return _read_yaml(path, text, problems)
    from inventory.ansible.read import read_ansible_ini  # noqa: PLC0415 - most inventories are not Ansible's

    return read_ansible_ini(path, text, problems)


def _read_yaml(path: Path, text: str, problems: Problems) -> Fragment:
    noted = Problems()
    located = parse_yaml(path, text, noted, ansible=True)
    data = located.data if located else None
    if located and looks_like_groups(data) and not (isinstance(data, dict) and data.keys() & set(KEYS)):
        problems.take(noted)
        from inventory.ansible.read import read_ansible_yaml  # noqa: PLC0415 - most inventories are not Ansible's

        return read_ansible_yaml(path, located, problems)
    if isinstance(data, dict) and ("plugin" in data or "_meta" in data):
        what = "the configuration of an inventory plugin" if "plugin" in data else "the output of a dynamic inventory"
        problems.add(Place(path), f"this is {what}, which fleetpatch can't read", _DYNAMIC_HINT)
        return Fragment()
    if "!vault" in text or "!unsafe" in text:  # Ansible's tags, but not Ansible's format: those are faults here
        noted = Problems()
        located = parse_yaml(path, text, noted)
    problems.take(noted)
    if located is None:
        if not problems:
            problems.add(Place(path), "this file is empty", "Begin it with `machines:` and a list of machines.")
        return Fragment()
    return read_fleet(located, problems)


def _is_yaml_by_content(text: str) -> bool:
    first = next((line for line in text.splitlines() if line.strip() and not line.lstrip().startswith("#")), "")
    return first.startswith("---") or first.rstrip().endswith(":") or first.partition(":")[0] in KEYS


def _is_program(path: Path) -> bool:
    try:
        if not path.is_file():  # looking into a pipe would wait for its writer, and take from it
            return False
        with path.open("rb") as stream:
            return stream.read(2) == b"#!" or (path.suffix in {".py", ".sh"} and path.stat().st_mode & 0o111 != 0)
    except OSError:
        return False  # reading it as an inventory will say why it can't be read
