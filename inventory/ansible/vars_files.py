"""The files group_vars/* and host_vars/* beside an inventory."""

import os
from collections.abc import Iterable, Iterator
from pathlib import Path

from inventory.ansible.hosts_yaml import variables_in
from inventory.ansible.tree import Variables
from inventory.places import Located, Place, Problems, names_in, read_text
from inventory.yaml_tree import VAULTED, parse_yaml

_SUFFIXES = ("", ".yml", ".yaml", ".json")
_VAULT = "$ANSIBLE_VAULT"
VAULTED_FILE = "fleetpatch_vaulted_files"
"""The owner's word on files that are vaulted as a whole. With a path behind it: such a file."""
_DEEPEST = 10
_MOST_ENTRIES = 100_000


def read_vars(directory: Path, names: Iterable[str], problems: Problems) -> dict[str, Variables]:
    """Read what a directory says of hosts or groups.

    Args:
        directory: ``group_vars`` or ``host_vars``; need not exist.
        names: of the hosts or groups. Names with a slash have no file.
        problems: takes what can't be read.

    Returns:
        Variables by name. A file that is vaulted as a whole has one, VAULTED_FILE and its path.
    """
    if not directory.is_dir():
        return {}
    there = set(_entries(directory, problems))
    found: dict[str, Variables] = {}
    for name in names:
        variables: Variables = {}
        for path in _files(directory, name, there, problems):
            variables |= _read(path, problems)
        if variables:
            found[name] = variables
    return found


def _entries(directory: Path, problems: Problems) -> list[str]:
    unreadable = "Make it readable for the user who runs fleetpatch."
    return names_in(directory, problems, most=_MOST_ENTRIES, if_unreadable=unreadable, if_more="Tidy it up.")


def _files(directory: Path, name: str, there: set[str], problems: Problems) -> Iterator[Path]:
    """Give what Ansible reads for a name: the first of these that exists, and no other."""
    first = next((f"{name}{suffix}" for suffix in _SUFFIXES if f"{name}{suffix}" in there), None)
    if first is not None:
        yield from _inside(directory / first, 0, problems) if (directory / first).is_dir() else [directory / first]


def _inside(directory: Path, depth: int, problems: Problems) -> Iterator[Path]:
    if depth > _DEEPEST:
        problems.add(Place(directory), f"directories nest deeper than {_DEEPEST} levels", "Make them flatter.")
        return
    for name in _entries(directory, problems):
        path = directory / name
        suffix = os.path.splitext(name)[1]  # noqa: PTH122 - Ansible's own rule: Path takes "x." for no suffix
        if name.startswith(".") or name.endswith("~"):
            continue
        if path.is_dir() and not suffix:
            yield from _inside(path, depth + 1, problems)
        elif path.is_file() and suffix in _SUFFIXES:
            yield path


def _read(path: Path, problems: Problems) -> Variables:
    text = read_text(path, problems, regular=True)
    if text is None:
        return {}
    if text.startswith(_VAULT):
        variable = f"{VAULTED_FILE}:{path}"
        return {variable: Located(VAULTED, {(): Place(path)})}
    located = parse_yaml(path, text, problems, ansible=True)
    return variables_in(located, problems) if located else {}
