"""Which files of a directory are an inventory: as Ansible has it where Ansible's files are in it."""

import logging
from collections.abc import Iterator
from pathlib import Path

from inventory.drafts import Fragment
from inventory.formats import DYNAMIC_HINT, YAML, AnsibleFile, is_program, read_file, read_if_ansible
from inventory.places import MAX_FILE_BYTES, Place, Problems, names_in

logger = logging.getLogger(__name__)

MOST_FILES = 10_000
MOST_BYTES = 100 * 1024 * 1024
DEEPEST = 10

_SUFFIXES = frozenset({*YAML, ".csv", ".ini"})
_BARE_NAMES = frozenset({"hosts", "inventory"})
# Neither Ansible nor fleetpatch ever takes these for an inventory: documented in docs/inventory.md.
_NEVER = (".md", ".txt", ".rst", ".bak", ".orig", ".retry", ".rpm", ".pyc", ".pyo", ".swp", "~")
_NO_SOURCES = frozenset({"group_vars", "host_vars", "ansible.cfg"})
_QUIET = frozenset({".lock", ".pub"})


def read_directory(folder: Path, problems: Problems) -> list[Fragment | AnsibleFile]:
    """Read a directory, in the order of the names. What is left out of it is told.

    Args:
        folder: the directory.
        problems: takes everything that is wrong.
    """
    found: dict[Path, Fragment | AnsibleFile] = {}
    others: list[Path] = []
    for item in _entries(folder, problems):
        if item.is_dir() or not (item.suffix in _SUFFIXES or item.name in _BARE_NAMES):
            others.append(item)
        else:
            found[item] = read_file(item, problems, regular=True)
    rest = _Rest(problems)
    if any(isinstance(each, AnsibleFile) for each in found.values()) or (not found and rest.has_ansible(others)):
        found |= rest.read(others, 0)
        if (folder / "vars_plugins").is_dir():
            problems.add(Place(folder / "vars_plugins"), "fleetpatch runs no plugins for variables", DYNAMIC_HINT)
    else:
        rest.leave_out(others)
    return [found[path] for path in sorted(found)]


class _Rest:
    """The files that are no inventory by their names; Ansible asks what is in them."""

    def __init__(self, problems: Problems) -> None:
        self._problems = problems
        self._bytes = 0

    def has_ansible(self, items: list[Path]) -> bool:
        """Return whether one of them is an Ansible inventory."""
        return any(not item.is_dir() and self._ansible(item) is not None for item in items)

    def read(self, items: list[Path], depth: int) -> dict[Path, Fragment | AnsibleFile]:
        """Read those that Ansible reads, in directories below as well."""
        found: dict[Path, Fragment | AnsibleFile] = {}
        for item in items:
            if self._bytes > MOST_BYTES or depth > DEEPEST:
                hint = "Give a directory that holds nothing but inventories."
                self._problems.add(Place(item), "too many files, or directories too deep, are in this directory", hint)
                break
            if item.is_dir():
                if item.name != "vars_plugins":
                    found |= self.read(list(_entries(item, self._problems)), depth + 1)
            elif (source := self._ansible(item)) is not None:
                self._may_be_read(source)
                found[item] = source
            elif is_program(item) or item.suffix == ".toml":
                what = "Ansible takes this for an inventory, and fleetpatch can't read it"
                self._problems.add(Place(item), what, f"{DYNAMIC_HINT}; and move this out of the directory.")
            else:
                logger.warning("%s is no inventory by its content, and is not read", item)
        return found

    def leave_out(self, items: list[Path]) -> None:
        """Say what is not read of a directory without Ansible's files."""
        for item in items:
            if is_program(item):
                what = "this is a program, and fleetpatch runs no dynamic inventories"
                self._problems.add(Place(item), what, DYNAMIC_HINT)
            elif item.suffix == ".cfg" and (source := self._ansible(item)) is not None:
                self._may_be_read(source)
            elif not item.is_dir() and item.suffix not in _QUIET:
                logger.warning("%s is no inventory by its name, and is not read", item)

    def _may_be_read(self, source: AnsibleFile) -> None:
        if source.path.suffix == ".cfg":
            what = "this looks like an inventory, but Ansible leaves .cfg out of directories"
            self._problems.add(Place(source.path), what, "Rename it to .ini, or move it out of the directory.")

    def _ansible(self, path: Path) -> AnsibleFile | None:
        try:  # what lies in /proc has no length: whatever is empty is not looked at
            size = path.stat().st_size if path.is_file() else 0
        except OSError:
            return None
        if not 0 < size <= MAX_FILE_BYTES or path.suffix == ".toml" or self._bytes > MOST_BYTES or is_program(path):
            return None
        self._bytes += size
        return read_if_ansible(path)


def _entries(folder: Path, problems: Problems) -> Iterator[Path]:
    """Give what in a directory may be an inventory, in Ansible's order; directories as well."""
    unreadable = "Correct the path, and make it readable for the user who runs fleetpatch."
    more = "Give a directory that holds nothing but inventories."
    for name in names_in(folder, problems, most=MOST_FILES, if_unreadable=unreadable, if_more=more):
        if not name.startswith(".") and not name.endswith(_NEVER) and name not in _NO_SOURCES:
            yield folder / name
