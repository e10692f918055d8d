"""The files group_vars/* and host_vars/* beside an inventory."""

import logging
from collections.abc import Iterable
from pathlib import Path

from inventory.ansible.hosts_yaml import variables_in
from inventory.ansible.tree import Variables
from inventory.places import Problems, read_text
from inventory.yaml_tree import parse_yaml

logger = logging.getLogger(__name__)

_SUFFIXES = ("", ".yml", ".yaml", ".json")
_VAULT = "$ANSIBLE_VAULT"


def read_vars(directory: Path, names: Iterable[str], problems: Problems) -> dict[str, Variables]:
    """Read what a directory says of hosts or groups.

    Args:
        directory: ``group_vars`` or ``host_vars``; need not exist.
        names: of the hosts or groups. Names with a slash have no file.
        problems: takes what can't be read.

    Returns:
        Variables by name. A file that is vaulted as a whole is left out, with a warning that names it.
    """
    if not directory.is_dir():
        return {}
    found: dict[str, Variables] = {}
    for name in names:
        variables: Variables = {}
        for path in _files(directory, name):
            variables |= _read(path, problems)
        if variables:
            found[name] = variables
    return found


def _files(directory: Path, name: str) -> list[Path]:
    if "/" in name or name in {".", ".."}:
        return []
    candidates = [directory / f"{name}{suffix}" for suffix in _SUFFIXES]
    files: list[Path] = []
    for path in candidates:
        if path.is_dir():
            inside = (item for item in path.rglob("*") if item.is_file() and item.suffix in _SUFFIXES)
            files += sorted(item for item in inside if not item.name.startswith(".") and not item.name.endswith("~"))
        elif path.is_file():
            files.append(path)
    return files


def _read(path: Path, problems: Problems) -> Variables:
    text = read_text(path, problems)
    if text is None:
        return {}
    if text.startswith(_VAULT):
        logger.warning("%s is vaulted as a whole: fleetpatch does not read its variables", path)
        return {}
    located = parse_yaml(path, text, problems, ansible=True)
    return variables_in(located, problems) if located else {}
