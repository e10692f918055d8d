"""Detects the format of an inventory file: by its name, or else by its content."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from inventory.builder import InventoryFragment
from inventory.files.located_yaml import parse_yaml
from inventory.files.problems import LocatedData, ProblemCollector, SourceLocation, did_you_mean
from inventory.files.text_files import read_text_file
from inventory.formats.ansible.parsing.ini_inventory import is_unlike_ini, looks_like_ini
from inventory.formats.ansible.parsing.yaml_inventory import looks_like_yaml_inventory
from inventory.formats.fleet_csv import parse_fleet_csv
from inventory.formats.fleet_yaml import FLEET_FILE_KEYS, parse_fleet_yaml

YAML_SUFFIXES = frozenset({".yaml", ".yml", ".json"})
INI_SUFFIXES = frozenset({".ini", ".cfg"})
DYNAMIC_INVENTORY_HINT = "Let Ansible write it down: ansible-inventory -i FILE --list --yaml > hosts.yml"
_FORMATS_HINT = "An inventory is a fleet.yaml, a CSV whose header has `name`, or Ansible's INI or YAML."


@dataclass(frozen=True, slots=True)
class AnsibleFile:
    """A file of an Ansible inventory: INI as text, YAML as parsed data. All such files make one inventory."""

    path: Path
    content: str | LocatedData


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
    if located and isinstance(data, dict) and looks_like_yaml_inventory(data) and not _has_fleet_keys(data):
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


def _has_fleet_keys(data: Mapping[str, object]) -> bool:
    """Return whether a document has a key of fleet.yaml. An Ansible group may be named `sets`; a group is a map."""
    return any(key in FLEET_FILE_KEYS and not (key == "sets" and isinstance(data[key], dict)) for key in data)


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
