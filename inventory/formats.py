"""From one file to what it holds: the format is told by the name, and where the name is silent, by the content."""

from dataclasses import dataclass
from pathlib import Path

from inventory.ansible.hosts_ini import is_no_ini, looks_like_ini
from inventory.ansible.hosts_yaml import looks_like_groups
from inventory.drafts import Fragment
from inventory.fleet_csv import read_csv
from inventory.fleet_yaml import KEYS, read_fleet
from inventory.places import Located, Place, Problems, did_you_mean, read_text
from inventory.yaml_tree import parse_yaml

YAML = frozenset({".yaml", ".yml", ".json"})
INI = frozenset({".ini", ".cfg"})
DYNAMIC_HINT = "Let Ansible write it down: ansible-inventory -i FILE --list --yaml > hosts.yml"
_FORMATS_HINT = "An inventory is a fleet.yaml, a CSV whose header has `name`, or Ansible's INI or YAML."


@dataclass(frozen=True, slots=True)
class AnsibleFile:
    """A file of an Ansible inventory: INI as its text, YAML as what was parsed. All files make one inventory."""

    path: Path
    content: str | Located


def read_file(path: Path, problems: Problems, *, regular: bool = False) -> Fragment | AnsibleFile:
    """Read a file that is named as an inventory.

    Args:
        path: the file.
        problems: takes what is wrong with it. What is no inventory is not quoted: it may hold secrets.
        regular: whether it must be a regular file, as nobody named it.
    """
    what, hint = "this is a program, and fleetpatch runs no dynamic inventories", DYNAMIC_HINT
    if path.suffix in YAML or path.suffix == ".csv" or not is_program(path):
        text = read_text(path, problems, regular=regular)
        if text is None:
            return Fragment()
        if text.startswith("$ANSIBLE_VAULT"):
            what, hint = "this file is vaulted as a whole", "Keep the inventory in plain text."
        elif path.suffix == ".toml":
            what, hint = "this is TOML, which fleetpatch does not read", DYNAMIC_HINT
        elif path.suffix == ".csv":
            return read_csv(path, text, problems)
        elif path.suffix in YAML or (path.suffix not in INI and _is_yaml(path, text)):
            return _read_yaml(path, text, problems)
        elif not is_no_ini(text):
            return AnsibleFile(path, text)
        else:
            what, hint = "this is no inventory", _FORMATS_HINT
    problems.add(Place(path), what, hint)
    return Fragment()


def read_if_ansible(path: Path) -> AnsibleFile | None:
    """Read a file that is no inventory by its name, and return it when Ansible would take it for one."""
    text = read_text(path, Problems(), regular=True)
    if text is None:
        return None
    if path.suffix in {"", *YAML}:
        located = parse_yaml(path, text, Problems(), ansible=True)
        if located and looks_like_groups(located.data):
            return AnsibleFile(path, located)
    return AnsibleFile(path, text) if path.suffix not in YAML and looks_like_ini(text) else None


def is_program(path: Path) -> bool:
    """Return whether a file is a script: Ansible would run it."""
    try:
        if not path.is_file():  # looking into a pipe would wait for its writer, and take from it
            return False
        with path.open("rb") as stream:
            return stream.read(2) == b"#!" or (path.suffix in {".py", ".sh"} and path.stat().st_mode & 0o111 != 0)
    except OSError:
        return False  # reading it as an inventory will say why it can't be read


def _read_yaml(path: Path, text: str, problems: Problems) -> Fragment | AnsibleFile:
    noted = Problems()
    located = parse_yaml(path, text, noted, ansible=True)
    data = located.data if located else None
    if isinstance(data, dict) and ("plugin" in data or "_meta" in data):
        what = "the configuration of an inventory plugin" if "plugin" in data else "the output of a dynamic inventory"
        problems.add(Place(path), f"this is {what}, which fleetpatch can't read", DYNAMIC_HINT)
        return Fragment()
    if located and isinstance(data, dict) and looks_like_groups(data) and not data.keys() & set(KEYS):
        problems.take(noted)
        return AnsibleFile(path, located)
    if "!vault" in text or "!unsafe" in text:  # Ansible's tags, but not Ansible's format: those are faults here
        noted = Problems()
        located = parse_yaml(path, text, noted)
    if located is not None and _is_another_kind(located.data):
        problems.add(Place(path), "this is no inventory", _FORMATS_HINT)  # what is wrong with it is nobody's business
        return Fragment()
    problems.take(noted)
    if located is None:
        if not noted:
            problems.add(Place(path), "this file is empty", "Begin it with `machines:` and a list of machines.")
        return Fragment()
    return read_fleet(located, problems)


def _is_another_kind(data: object) -> bool:
    """Return whether a document is no fleet.yaml, not even one with a typing error in its keys."""
    if not isinstance(data, dict) or not data or data.keys() & set(KEYS):
        return False
    return not any(did_you_mean(key, KEYS) for key in list(data)[:100])


def _is_yaml(path: Path, text: str) -> bool:
    first = next((line for line in text.splitlines() if line.strip() and not line.lstrip().startswith("#")), "")
    if first.startswith("---") or first.rstrip().endswith(":") or first.partition(":")[0] in KEYS:
        return True
    located = parse_yaml(path, text, Problems(), ansible=True)
    return located is not None and isinstance(located.data, dict)
