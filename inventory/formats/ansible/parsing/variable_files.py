"""Reads the files group_vars/* and host_vars/* of an inventory."""

import os
from collections.abc import Iterable, Iterator
from pathlib import Path

from inventory.files.located_yaml import VAULTED, parse_yaml
from inventory.files.problems import LocatedData, ProblemCollector, SourceLocation
from inventory.files.text_files import list_directory_names, read_text_file
from inventory.formats.ansible.inventory_tree import Variables
from inventory.formats.ansible.parsing.yaml_inventory import collect_variables

_VARIABLE_FILE_SUFFIXES = ("", ".yml", ".yaml", ".json")
_VAULT_HEADER = "$ANSIBLE_VAULT"
VAULTED_FILE_VARIABLE = "fleetpatch_vaulted_files"
"""The owner's setting for completely encrypted files. In the result of a read, its value is the path of such a file."""
_MAX_DIRECTORY_DEPTH = 10
_MAX_ENTRIES = 100_000


def read_variable_files(directory: Path, names: Iterable[str], problems: ProblemCollector) -> dict[str, Variables]:
    """Read the variables of hosts or groups from a directory.

    Args:
        directory: ``group_vars`` or ``host_vars``; it need not exist.
        names: names of hosts or groups. A name with a slash has no file.
        problems: collects files that can't be read.

    Returns:
        Variables by name. A completely encrypted file sets only VAULTED_FILE_VARIABLE, with its path.
    """
    if not directory.is_dir():
        return {}
    there = set(_list_entries(directory, problems))
    variables_by_name: dict[str, Variables] = {}
    for name in names:
        variables: Variables = {}
        for path in _find_variable_files(directory, name, there, problems):
            variables |= _read_variable_file(path, problems)
        if variables:
            variables_by_name[name] = variables
    return variables_by_name


def _list_entries(directory: Path, problems: ProblemCollector) -> list[str]:
    unreadable = "Make it readable for the user who runs fleetpatch."
    return list_directory_names(
        directory, problems, max_entries=_MAX_ENTRIES, unreadable_hint=unreadable, too_many_hint="Tidy it up."
    )


def _find_variable_files(directory: Path, name: str, there: set[str], problems: ProblemCollector) -> Iterator[Path]:
    """Yield the files that Ansible reads for a name: only the first candidate that exists."""
    first = next((f"{name}{suffix}" for suffix in _VARIABLE_FILE_SUFFIXES if f"{name}{suffix}" in there), None)
    if first is not None:
        yield from (
            _find_files_in_directory(directory / first, 0, problems)
            if (directory / first).is_dir()
            else [directory / first]
        )


def _find_files_in_directory(directory: Path, depth: int, problems: ProblemCollector) -> Iterator[Path]:
    if depth > _MAX_DIRECTORY_DEPTH:
        problems.add(
            SourceLocation(directory),
            f"directories nest deeper than {_MAX_DIRECTORY_DEPTH} levels",
            "Make them flatter.",
        )
        return
    for name in _list_entries(directory, problems):
        path = directory / name
        suffix = os.path.splitext(name)[1]  # noqa: PTH122 - Ansible's own rule: Path takes "x." for no suffix
        if name.startswith(".") or name.endswith("~"):
            continue
        if path.is_dir() and not suffix:
            yield from _find_files_in_directory(path, depth + 1, problems)
        elif path.is_file() and suffix in _VARIABLE_FILE_SUFFIXES:
            yield path


def _read_variable_file(path: Path, problems: ProblemCollector) -> Variables:
    text = read_text_file(path, problems, must_be_regular=True)
    if text is None:
        return {}
    if text.startswith(_VAULT_HEADER):
        variable = f"{VAULTED_FILE_VARIABLE}:{path}"
        return {variable: LocatedData(VAULTED, {(): SourceLocation(path)})}
    located = parse_yaml(path, text, problems, ansible=True)
    return collect_variables(located, problems) if located else {}
