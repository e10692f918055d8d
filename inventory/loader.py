"""Finds and loads an inventory in any format, and reports all its problems at once."""

import logging
import os
from collections.abc import Iterator
from pathlib import Path

from inventory.builder import InventoryFragment, build_inventory
from inventory.errors import InventoryError
from inventory.files.located_yaml import parse_yaml
from inventory.files.paths import expand_home, find_named_or_default_path, find_working_directory
from inventory.files.problems import ProblemCollector, did_you_mean
from inventory.files.text_files import MAX_FILE_BYTES, list_directory_names, read_text_file
from inventory.formats.ansible.parsers import (
    AnsibleFile,
    is_ansible_script,
    is_unlike_ini,
    looks_like_ini,
    looks_like_yaml_inventory,
)
from inventory.formats.fleet_files import FLEET_FILE_KEYS, parse_fleet_csv, parse_fleet_yaml
from inventory.machine import Inventory

YAML_SUFFIXES = frozenset({".yaml", ".yml", ".json"})
INI_SUFFIXES = frozenset({".ini", ".cfg"})
DYNAMIC_INVENTORY_HINT = "Let Ansible write it down: ansible-inventory -i FILE --list --yaml > hosts.yml"
_FORMATS_HINT = "An inventory is a fleet.yaml, a CSV whose header has `name`, or Ansible's INI or YAML."


def read_inventory_file(
    path: Path, problems: ProblemCollector, *, must_be_regular: bool = False
) -> InventoryFragment | AnsibleFile:
    """Read a file of an inventory.

    ``problems``: collects problems. They do not quote a file that is not an inventory, because it may contain secrets.
    ``must_be_regular``: whether it must be a regular file, because the user did not name it.
    """
    fault, hint = "this is a program, and fleetpatch runs no dynamic inventories", DYNAMIC_INVENTORY_HINT
    if path.suffix in YAML_SUFFIXES or path.suffix == ".csv" or not is_ansible_script(path):
        text = read_text_file(path, problems, must_be_regular=must_be_regular)
        if text is None:
            return InventoryFragment()
        if text.startswith("$ANSIBLE_VAULT"):
            fault, hint = "this file is vaulted as a whole", "Keep the inventory in plain text."
        elif path.suffix == ".toml":
            fault, hint = "this is TOML, which fleetpatch does not read", DYNAMIC_INVENTORY_HINT
        elif path.suffix == ".csv":
            return parse_fleet_csv(path, text, problems)
        elif path.suffix in YAML_SUFFIXES or (path.suffix not in INI_SUFFIXES and _looks_like_yaml(path, text)):
            return _read_yaml(path, text, problems)
        elif not is_unlike_ini(text):
            return AnsibleFile(path, text)
        else:
            fault, hint = "this is no inventory", _FORMATS_HINT
    problems.add(path, fault, hint)
    return InventoryFragment()


def _read_yaml(path: Path, text: str, problems: ProblemCollector) -> InventoryFragment | AnsibleFile:
    noted = ProblemCollector()
    located = parse_yaml(path, text, noted, ansible=True)
    data = located.data if located else None
    if isinstance(data, dict):
        if "plugin" in data or "_meta" in data:
            is_plugin = "plugin" in data
            kind = "the configuration of an inventory plugin" if is_plugin else "the output of a dynamic inventory"
            problems.add(path, f"this is {kind}, which fleetpatch can't read", DYNAMIC_INVENTORY_HINT)
            return InventoryFragment()
        # a group of Ansible may be named `sets`; a group is a map
        own_keys = [
            key for key in data if key in FLEET_FILE_KEYS and not (key == "sets" and isinstance(data[key], dict))
        ]
        if located and looks_like_yaml_inventory(data) and not own_keys:
            problems.extend(noted)
            return AnsibleFile(path, located)
    if "!vault" in text or "!unsafe" in text:  # Ansible tags without Ansible's format: an error here
        noted = ProblemCollector()
        located = parse_yaml(path, text, noted)
        data = located.data if located else None
    if isinstance(data, dict) and data and not data.keys() & set(FLEET_FILE_KEYS):
        is_misspelled = any(did_you_mean(key, FLEET_FILE_KEYS) for key in list(data)[:100])
        if not is_misspelled:
            problems.add(path, "this is no inventory", _FORMATS_HINT)  # without the problems in such a file
            return InventoryFragment()
    problems.extend(noted)
    if located is not None:
        return parse_fleet_yaml(located, problems)
    if not noted:
        problems.add(path, "this file is empty", "Begin it with `machines:` and a list of machines.")
    return InventoryFragment()


def _looks_like_yaml(path: Path, text: str) -> bool:
    first = next((line for line in text.splitlines() if line.strip() and not line.lstrip().startswith("#")), "")
    if first.startswith("---") or first.rstrip().endswith(":") or first.partition(":")[0] in FLEET_FILE_KEYS:
        return True
    located = parse_yaml(path, text, ProblemCollector(), ansible=True)
    return located is not None and isinstance(located.data, dict)


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

    With Ansible files in it, Ansible's rules decide which files count.
    """
    fragments: dict[Path, InventoryFragment | AnsibleFile] = {}
    other_paths: list[Path] = []
    for path in _list_candidates(folder, problems):
        if path.is_dir() or not (path.suffix in _INVENTORY_SUFFIXES or path.name in _INVENTORY_FILE_NAMES):
            other_paths.append(path)
        else:
            fragments[path] = read_inventory_file(path, problems, must_be_regular=True)
    unrecognized = _UnrecognizedFiles(problems)
    if any(isinstance(fragment, AnsibleFile) for fragment in fragments.values()) or (
        not fragments and unrecognized.has_ansible_inventory(other_paths)
    ):
        fragments |= unrecognized.read_ansible_files(other_paths, 0)
        if (folder / "vars_plugins").is_dir():
            problems.add(folder / "vars_plugins", "fleetpatch runs no plugins for variables", DYNAMIC_INVENTORY_HINT)
    else:
        unrecognized.report_skipped_files(other_paths)
    return [fragments[path] for path in sorted(fragments)]


class _UnrecognizedFiles:
    """Files whose names are not those of an inventory. Ansible decides by their content."""

    def __init__(self, problems: ProblemCollector) -> None:
        self._problems = problems
        self._bytes_read = 0

    def has_ansible_inventory(self, items: list[Path]) -> bool:
        """Return whether one of the files is an Ansible inventory."""
        return any(not path.is_dir() and self._read_if_ansible(path) is not None for path in items)

    def read_ansible_files(self, items: list[Path], depth: int) -> dict[Path, InventoryFragment | AnsibleFile]:
        """Read the files that Ansible reads, in subdirectories as well."""
        fragments: dict[Path, InventoryFragment | AnsibleFile] = {}
        for path in items:
            if self._bytes_read > MAX_TOTAL_BYTES or depth > MAX_DIRECTORY_DEPTH:
                hint = "Give a directory that holds nothing but inventories."
                self._problems.add(path, "too many files, or directories too deep, are in this directory", hint)
                break
            if path.is_dir():
                if path.name != "vars_plugins":
                    fragments |= self.read_ansible_files(list(_list_candidates(path, self._problems)), depth + 1)
            elif (source := self._read_if_ansible(path)) is not None:
                self._report_skipped_cfg(path)
                fragments[path] = source
            elif is_ansible_script(path) or path.suffix == ".toml":
                fault = "Ansible takes this for an inventory, and fleetpatch can't read it"
                self._problems.add(path, fault, f"{DYNAMIC_INVENTORY_HINT}; and move this out of the directory.")
            else:
                logger.warning("%s is no inventory by its content, and is not read", path)
        return fragments

    def report_skipped_files(self, items: list[Path]) -> None:
        """Report the skipped files of a directory without Ansible files."""
        for path in items:
            if is_ansible_script(path):
                fault = "this is a program, and fleetpatch runs no dynamic inventories"
                self._problems.add(path, fault, DYNAMIC_INVENTORY_HINT)
            elif path.suffix == ".cfg" and self._read_if_ansible(path) is not None:
                self._report_skipped_cfg(path)
            elif not path.is_dir() and path.suffix not in _SILENTLY_IGNORED_SUFFIXES:
                logger.warning("%s is no inventory by its name, and is not read", path)

    def _report_skipped_cfg(self, path: Path) -> None:
        if path.suffix == ".cfg":
            fault = "this looks like an inventory, but Ansible leaves .cfg out of directories"
            self._problems.add(path, fault, "Rename it to .ini, or move it out of the directory.")

    def _read_if_ansible(self, path: Path) -> AnsibleFile | None:
        """Return a file if Ansible would read it as an inventory."""
        try:  # files in /proc have size 0: skip empty files
            size = path.stat().st_size if path.is_file() else 0
        except OSError:
            return None
        is_limited = not 0 < size <= MAX_FILE_BYTES or self._bytes_read > MAX_TOTAL_BYTES
        if is_limited or path.suffix == ".toml" or is_ansible_script(path):
            return None
        self._bytes_read += size
        text = read_text_file(path, ProblemCollector(), must_be_regular=True)
        if text is not None and path.suffix in {"", *YAML_SUFFIXES}:
            located = parse_yaml(path, text, ProblemCollector(), ansible=True)
            if located and looks_like_yaml_inventory(located.data):
                return AnsibleFile(path, located)
        is_ini = text is not None and path.suffix not in YAML_SUFFIXES and looks_like_ini(text)
        return AnsibleFile(path, text or "") if is_ini else None


def _list_candidates(folder: Path, problems: ProblemCollector) -> Iterator[Path]:
    """Yield files and directories that may belong to the inventory, in Ansible's order."""
    unreadable = "Correct the path, and make it readable for the user who runs fleetpatch."
    more = "Give a directory that holds nothing but inventories."
    for name in list_directory_names(
        folder, problems, max_entries=MAX_FILES, unreadable_hint=unreadable, too_many_hint=more
    ):
        if not name.startswith(".") and not name.endswith(_IGNORED_SUFFIXES) and name not in _IGNORED_NAMES:
            yield folder / name


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
    problems = ProblemCollector()
    return build_inventory(read_fragments(path, problems), path, problems)


def read_fragments(path: Path, problems: ProblemCollector) -> list[InventoryFragment]:
    """Return the parts of an inventory as its files have them, not yet compared with each other.

    Args:
        path: a file or a directory, without ``~``.
        problems: collects the problems of each file.
    """
    if not path.is_absolute():
        find_working_directory()  # raises a clear error if the directory was removed; relative paths need it
    is_directory = os.path.isdir(path)  # noqa: PTH112 - Path.is_dir raises when a name is too long
    contents = read_inventory_directory(path, problems) if is_directory else [read_inventory_file(path, problems)]
    files = [content for content in contents if isinstance(content, AnsibleFile)]
    fragments = [content for content in contents if isinstance(content, InventoryFragment)]
    if files:  # one fragment, because Ansible reads all its files as one inventory
        from inventory.formats.ansible.reader import read_ansible_inventory  # noqa: PLC0415 - most inventories are not Ansible's

        joined = read_ansible_inventory(files, path if is_directory else path.parent, problems)
        fragments.insert(contents.index(files[0]), joined)
    return fragments


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
        build_missing_error=lambda folders: InventoryError(
            f"there is no inventory: {'neither ' if len(folders) > 1 else 'not even '}"
            + " nor ".join(str(folder / DEFAULT_FILE_NAME) for folder in folders),
            hint=f"Write one there ({Path(__file__).with_name('fleet.example.yaml')} is an example), name it with "
            f"--inventory, or set {INVENTORY_VARIABLE}.",
        ),
    )
