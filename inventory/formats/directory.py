"""Reads an inventory directory. With Ansible files in it, Ansible's rules decide which files count."""

import logging
from collections.abc import Iterator
from pathlib import Path

from inventory.builder import InventoryFragment
from inventory.files.problems import ProblemCollector, SourceLocation
from inventory.files.text_files import MAX_FILE_BYTES, list_directory_names
from inventory.formats.detection import (
    DYNAMIC_INVENTORY_HINT,
    YAML_SUFFIXES,
    AnsibleFile,
    is_script,
    read_file_if_ansible,
    read_inventory_file,
)

logger = logging.getLogger(__name__)

MAX_FILES = 10_000
MAX_TOTAL_BYTES = 100 * 1024 * 1024
MAX_DIRECTORY_DEPTH = 10

_INVENTORY_SUFFIXES = frozenset({*YAML_SUFFIXES, ".csv", ".ini"})
_INVENTORY_FILE_NAMES = frozenset({"hosts", "inventory"})
# Neither Ansible nor fleetpatch reads files with these suffixes. See docs/reference/inventory.md.
_IGNORED_SUFFIXES = (".md", ".txt", ".rst", ".bak", ".orig", ".retry", ".rpm", ".pyc", ".pyo", ".swp", "~")
_IGNORED_NAMES = frozenset({"group_vars", "host_vars", "ansible.cfg"})
_SILENTLY_IGNORED_SUFFIXES = frozenset({".lock", ".pub"})


def read_inventory_directory(folder: Path, problems: ProblemCollector) -> list[InventoryFragment | AnsibleFile]:
    """Read the files of a directory in the order of their names. Report the files that are not read.

    Args:
        folder: the directory.
        problems: collects all problems.
    """
    fragments: dict[Path, InventoryFragment | AnsibleFile] = {}
    others: list[Path] = []
    for item in _list_candidates(folder, problems):
        if item.is_dir() or not (item.suffix in _INVENTORY_SUFFIXES or item.name in _INVENTORY_FILE_NAMES):
            others.append(item)
        else:
            fragments[item] = read_inventory_file(item, problems, must_be_regular=True)
    unrecognized = _UnrecognizedFiles(problems)
    if any(isinstance(fragment, AnsibleFile) for fragment in fragments.values()) or (
        not fragments and unrecognized.has_ansible_inventory(others)
    ):
        fragments |= unrecognized.read_ansible_files(others, 0)
        if (folder / "vars_plugins").is_dir():
            problems.add(
                SourceLocation(folder / "vars_plugins"),
                "fleetpatch runs no plugins for variables",
                DYNAMIC_INVENTORY_HINT,
            )
    else:
        unrecognized.report_skipped_files(others)
    return [fragments[path] for path in sorted(fragments)]


class _UnrecognizedFiles:
    """Files whose names are not those of an inventory. Ansible decides by their content."""

    def __init__(self, problems: ProblemCollector) -> None:
        self._problems = problems
        self._bytes_read = 0

    def has_ansible_inventory(self, items: list[Path]) -> bool:
        """Return whether one of the files is an Ansible inventory."""
        return any(not item.is_dir() and self._read_if_ansible(item) is not None for item in items)

    def read_ansible_files(self, items: list[Path], depth: int) -> dict[Path, InventoryFragment | AnsibleFile]:
        """Read the files that Ansible reads, in subdirectories as well."""
        fragments: dict[Path, InventoryFragment | AnsibleFile] = {}
        for item in items:
            if self._bytes_read > MAX_TOTAL_BYTES or depth > MAX_DIRECTORY_DEPTH:
                hint = "Give a directory that holds nothing but inventories."
                self._problems.add(
                    SourceLocation(item), "too many files, or directories too deep, are in this directory", hint
                )
                break
            if item.is_dir():
                if item.name != "vars_plugins":
                    fragments |= self.read_ansible_files(list(_list_candidates(item, self._problems)), depth + 1)
            elif (source := self._read_if_ansible(item)) is not None:
                self._report_skipped_cfg(source)
                fragments[item] = source
            elif is_script(item) or item.suffix == ".toml":
                fault = "Ansible takes this for an inventory, and fleetpatch can't read it"
                self._problems.add(
                    SourceLocation(item), fault, f"{DYNAMIC_INVENTORY_HINT}; and move this out of the directory."
                )
            else:
                logger.warning("%s is no inventory by its content, and is not read", item)
        return fragments

    def report_skipped_files(self, items: list[Path]) -> None:
        """Report the skipped files of a directory without Ansible files."""
        for item in items:
            if is_script(item):
                fault = "this is a program, and fleetpatch runs no dynamic inventories"
                self._problems.add(SourceLocation(item), fault, DYNAMIC_INVENTORY_HINT)
            elif item.suffix == ".cfg" and (source := self._read_if_ansible(item)) is not None:
                self._report_skipped_cfg(source)
            elif not item.is_dir() and item.suffix not in _SILENTLY_IGNORED_SUFFIXES:
                logger.warning("%s is no inventory by its name, and is not read", item)

    def _report_skipped_cfg(self, source: AnsibleFile) -> None:
        if source.path.suffix == ".cfg":
            fault = "this looks like an inventory, but Ansible leaves .cfg out of directories"
            self._problems.add(
                SourceLocation(source.path), fault, "Rename it to .ini, or move it out of the directory."
            )

    def _read_if_ansible(self, path: Path) -> AnsibleFile | None:
        try:  # files in /proc have size 0: skip empty files
            size = path.stat().st_size if path.is_file() else 0
        except OSError:
            return None
        if (
            not 0 < size <= MAX_FILE_BYTES
            or path.suffix == ".toml"
            or self._bytes_read > MAX_TOTAL_BYTES
            or is_script(path)
        ):
            return None
        self._bytes_read += size
        return read_file_if_ansible(path)


def _list_candidates(folder: Path, problems: ProblemCollector) -> Iterator[Path]:
    """Yield files and directories that may belong to the inventory, in Ansible's order."""
    unreadable = "Correct the path, and make it readable for the user who runs fleetpatch."
    more = "Give a directory that holds nothing but inventories."
    for name in list_directory_names(
        folder, problems, max_entries=MAX_FILES, unreadable_hint=unreadable, too_many_hint=more
    ):
        if not name.startswith(".") and not name.endswith(_IGNORED_SUFFIXES) and name not in _IGNORED_NAMES:
            yield folder / name
