"""Finds and loads an inventory in any format, and reports all its problems at once."""

import logging
import os
from collections.abc import Iterator
from pathlib import Path

from inventory.builder import InventoryFragment, build_inventory
from inventory.errors import InventoryError
from inventory.files.located_yaml import parse_yaml
from inventory.files.paths import expand_home, find_named_or_default_path, find_working_directory
from inventory.files.problems import ProblemCollector, SourceLocation, did_you_mean
from inventory.files.text_files import MAX_FILE_BYTES, list_directory_names, read_text_file
from inventory.formats.ansible.parsers import AnsibleFile, is_unlike_ini, looks_like_ini, looks_like_yaml_inventory
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

    Args:
        path: the file.
        problems: collects problems. They do not quote a file that is not an inventory, because it may contain secrets.
        must_be_regular: whether it must be a regular file, because the user did not name it.
    """
    fault, hint = "this is a program, and fleetpatch runs no dynamic inventories", DYNAMIC_INVENTORY_HINT
    if path.suffix in YAML_SUFFIXES or path.suffix == ".csv" or not is_script(path):
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
    problems.add(SourceLocation(path), fault, hint)
    return InventoryFragment()


def read_file_if_ansible(path: Path) -> AnsibleFile | None:
    """Read a file whose name is not that of an inventory. Return it if Ansible would read it as an inventory."""
    text = read_text_file(path, ProblemCollector(), must_be_regular=True)
    if text is None:
        return None
    if path.suffix in {"", *YAML_SUFFIXES}:
        located = parse_yaml(path, text, ProblemCollector(), ansible=True)
        if located and looks_like_yaml_inventory(located.data):
            return AnsibleFile(path, located)
    return AnsibleFile(path, text) if path.suffix not in YAML_SUFFIXES and looks_like_ini(text) else None


def is_script(path: Path) -> bool:
    """Return whether a file is a script, which Ansible would run."""
    try:
        if not path.is_file():  # opening a pipe would wait for its writer and consume its data
            return False
        with path.open("rb") as stream:
            return stream.read(2) == b"#!" or (path.suffix in {".py", ".sh"} and path.stat().st_mode & 0o111 != 0)
    except OSError:
        return False  # read_inventory_file reports why the file can't be read


def _read_yaml(path: Path, text: str, problems: ProblemCollector) -> InventoryFragment | AnsibleFile:
    noted = ProblemCollector()
    located = parse_yaml(path, text, noted, ansible=True)
    data = located.data if located else None
    if isinstance(data, dict) and ("plugin" in data or "_meta" in data):
        content = (
            "the configuration of an inventory plugin" if "plugin" in data else "the output of a dynamic inventory"
        )
        problems.add(SourceLocation(path), f"this is {content}, which fleetpatch can't read", DYNAMIC_INVENTORY_HINT)
        return InventoryFragment()
    if (  # a group of Ansible may be named `sets`; a group is a map
        located
        and isinstance(data, dict)
        and looks_like_yaml_inventory(data)
        and not any(key in FLEET_FILE_KEYS and not (key == "sets" and isinstance(data[key], dict)) for key in data)
    ):
        problems.extend(noted)
        return AnsibleFile(path, located)
    if "!vault" in text or "!unsafe" in text:  # Ansible tags without Ansible's format: an error here
        noted = ProblemCollector()
        located = parse_yaml(path, text, noted)
    if located is not None and _is_unrelated_document(located.data):
        problems.add(
            SourceLocation(path), "this is no inventory", _FORMATS_HINT
        )  # ignore the problems of a file that is not an inventory
        return InventoryFragment()
    problems.extend(noted)
    if located is None:
        if not noted:
            problems.add(
                SourceLocation(path), "this file is empty", "Begin it with `machines:` and a list of machines."
            )
        return InventoryFragment()
    return parse_fleet_yaml(located, problems)


def _is_unrelated_document(data: object) -> bool:
    """Return whether a document has no key of fleet.yaml, not even a misspelled one."""
    if not isinstance(data, dict) or not data or data.keys() & set(FLEET_FILE_KEYS):
        return False
    return not any(did_you_mean(key, FLEET_FILE_KEYS) for key in list(data)[:100])


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
            problems.add(
                SourceLocation(folder / "vars_plugins"),
                "fleetpatch runs no plugins for variables",
                DYNAMIC_INVENTORY_HINT,
            )
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
                self._problems.add(
                    SourceLocation(path), "too many files, or directories too deep, are in this directory", hint
                )
                break
            if path.is_dir():
                if path.name != "vars_plugins":
                    fragments |= self.read_ansible_files(list(_list_candidates(path, self._problems)), depth + 1)
            elif (source := self._read_if_ansible(path)) is not None:
                self._report_skipped_cfg(source)
                fragments[path] = source
            elif is_script(path) or path.suffix == ".toml":
                fault = "Ansible takes this for an inventory, and fleetpatch can't read it"
                self._problems.add(
                    SourceLocation(path), fault, f"{DYNAMIC_INVENTORY_HINT}; and move this out of the directory."
                )
            else:
                logger.warning("%s is no inventory by its content, and is not read", path)
        return fragments

    def report_skipped_files(self, items: list[Path]) -> None:
        """Report the skipped files of a directory without Ansible files."""
        for path in items:
            if is_script(path):
                fault = "this is a program, and fleetpatch runs no dynamic inventories"
                self._problems.add(SourceLocation(path), fault, DYNAMIC_INVENTORY_HINT)
            elif path.suffix == ".cfg" and (source := self._read_if_ansible(path)) is not None:
                self._report_skipped_cfg(source)
            elif not path.is_dir() and path.suffix not in _SILENTLY_IGNORED_SUFFIXES:
                logger.warning("%s is no inventory by its name, and is not read", path)

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
