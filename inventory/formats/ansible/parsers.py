"""Parsers of Ansible's files: inventories in YAML and INI, group_vars/* and host_vars/*."""

import os
import re
import shlex
from collections.abc import Iterable, Iterator
from pathlib import Path

from inventory.data_class import dataclass
from inventory.files.located_yaml import VAULTED, TypedScalar, parse_yaml
from inventory.files.problems import LocatedData, ProblemCollector, SourceLocation, did_you_mean
from inventory.files.text_files import list_directory_names, read_text_file
from inventory.formats.ansible.inventory_tree import (
    READ_VARIABLE_PREFIXES,
    UNGROUPED_GROUP,
    Group,
    InventoryTree,
    Variables,
    is_host_pattern,
)
from inventory.formats.ansible.variable_values import IniValue

GROUP_KEYS = ("hosts", "vars", "children")


@dataclass(frozen=True, slots=True)
class AnsibleFile:
    """A file of an Ansible inventory: INI as text, YAML as parsed data. All such files make one inventory."""

    path: Path
    content: str | LocatedData


def is_ansible_script(path: Path) -> bool:
    """Return whether a file is a script, which Ansible would run."""
    try:
        if not path.is_file():  # opening a pipe would wait for its writer and consume its data
            return False
        with path.open("rb") as stream:
            return stream.read(2) == b"#!" or (path.suffix in {".py", ".sh"} and path.stat().st_mode & 0o111 != 0)
    except OSError:
        return False  # the file is read later, and that reports the error


def looks_like_yaml_inventory(data: object) -> bool:
    """Return whether a document looks like an Ansible inventory."""
    if not isinstance(data, dict):
        return False
    return "all" in data or any(isinstance(group, dict) and group.keys() & set(GROUP_KEYS) for group in data.values())


def parse_yaml_inventory(
    located: LocatedData, tree: InventoryTree, problems: ProblemCollector, parent: str | None = None
) -> None:
    """Add a parsed YAML inventory to a tree: a map of groups, which are children of ``parent``."""
    for name in _list_keys(located, "groups", problems):
        part = located.get_child(name)
        _check_name_is_text(name, part, problems)
        tree.get_or_add_group(name, part.locate())
        if parent is not None:
            tree.groups[parent].children.setdefault(name, part.locate())
        for key in _list_keys(part, f"what the group {name[:80]!r} holds", problems):
            if key == "hosts":
                _add_group_hosts(tree, part.get_child(key), name, problems)
            elif key == "vars":
                for variable, value in collect_variables(part.get_child(key), problems).items():
                    tree.set_variable(name, variable, value, problems)
            elif key == "children":
                parse_yaml_inventory(part.get_child(key), tree, problems, name)
            else:
                hint = f"{did_you_mean(key, GROUP_KEYS)}A group has `hosts`, `vars` and `children`."
                problems.add(part.locate((key,)), f"unknown key {key[:80]!r} in a group", hint)


def _add_group_hosts(tree: InventoryTree, located: LocatedData, group: str, problems: ProblemCollector) -> None:
    for pattern in _list_keys(located, "hosts", problems):
        host = located.get_child(pattern)
        _check_name_is_text(pattern, host, problems)
        tree.add_hosts(tree.groups[group], pattern, collect_variables(host, problems), host.locate(), problems)


def _check_name_is_text(name: str, located: LocatedData, problems: ProblemCollector) -> None:
    if isinstance(name, TypedScalar):
        problems.add(located.locate(), "Ansible takes this name for a number or a truth", "Put it in quotes.")


def collect_variables(located: LocatedData, problems: ProblemCollector) -> Variables:
    """Return the variables of a map that fleetpatch reads, each with its place."""
    return {
        name: located.get_child(name)
        for name in _list_keys(located, "variables", problems)
        if name.startswith(READ_VARIABLE_PREFIXES)
    }


def _list_keys(located: LocatedData, what: str, problems: ProblemCollector) -> list[str]:
    if located.data is None:
        return []
    if not isinstance(located.data, dict):
        problems.add(located.locate(), f"{what} must be a map here", "Write `name:` on a line of its own for each.")
        return []
    return list(located.data)


_SECTION_PATTERN = re.compile(r"\[(?P<group>[^:\[\]\s]+)(?::(?P<kind>\w+))?\]\s*(#.*)?")
_CHILD_PATTERN = re.compile(r"([^:\]\s]+)\s*(?:#.*)?")
_SECTION_KINDS = ("children", "vars", "hosts")
_BRACKETED_HOST_PATTERN = re.compile(r"\[[0-9A-Za-z]*:[0-9A-Za-z:.]*\].")
"""A host with a leading bracket: a range or an IPv6 address."""
_MAX_LINE_LENGTH = 100_000
_QUOTING_CHARACTERS = frozenset("'\"\\#")
_BLANKS_PATTERN = re.compile(r"[ \t]+")


def looks_like_ini(text: str) -> bool:
    """Return whether a text looks like an INI inventory: it has a section, or it has only hosts."""
    lines = [line.strip() for line in text.splitlines()]
    meant = [line for line in lines if line and not line.startswith(("#", ";"))]
    if any(_SECTION_PATTERN.fullmatch(line) for line in meant):
        return True
    words_by_line = [_BLANKS_PATTERN.split(line.partition("#")[0].strip()) for line in meant]
    return bool(meant) and all(is_host_pattern(words[0]) and "=" in (*words, "=")[1] for words in words_by_line)


def is_unlike_ini(text: str) -> bool:
    """Return whether almost nothing in a text looks like an INI inventory. Then its single lines are not reported."""
    meant = [line.strip() for line in text.splitlines() if line.strip() and not line.lstrip().startswith(("#", ";"))]
    hosts = sum(is_host_pattern(line.split(maxsplit=1)[0]) for line in meant)
    return hosts * 2 < len(meant) and not any(line.startswith("[") for line in meant)


class IniInventoryParser:
    """Parses an INI inventory into the tree from the files before it.

    A group that it names must be in this file or in a file before it.
    """

    def __init__(self, path: Path, tree: InventoryTree, problems: ProblemCollector) -> None:
        self._path = path
        self._tree = tree
        self._problems = problems
        self._declared_groups = set(tree.groups)
        self._referenced_groups: dict[str, SourceLocation] = {}
        self._current_group: Group | None = tree.get_or_add_group(
            UNGROUPED_GROUP, SourceLocation(path, 1)
        )  # None below an invalid heading
        self._section_kind = ""

    def parse(self, text: str) -> None:
        """Add the hosts, groups and variables of the file to the tree."""
        for number, raw in enumerate(text.splitlines(), start=1):
            line, source_location = raw.strip(), SourceLocation(self._path, number)
            if not line or line.startswith(("#", ";")):
                continue
            if len(line) > _MAX_LINE_LENGTH:
                self._problems.add(
                    source_location, f"this line is longer than {_MAX_LINE_LENGTH:,} characters", "Split it."
                )
            elif line.startswith("[") and (
                _SECTION_PATTERN.fullmatch(line) or not _BRACKETED_HOST_PATTERN.match(line.split(maxsplit=1)[0])
            ):
                self._parse_section_heading(line, source_location)
            elif self._current_group:
                self._parse_section_line(self._current_group, line, source_location)
        for name, source_location in self._referenced_groups.items():
            if name not in self._declared_groups:
                hint = f"Add a section [{name}] to this file, or correct the name."
                self._problems.add(source_location, f"the group {name!r} is not declared", hint)

    def _parse_section_heading(self, line: str, place: SourceLocation) -> None:
        self._current_group = None
        match = _SECTION_PATTERN.fullmatch(line)
        if match is None:
            hint = "Write [group], [group:children] or [group:vars]."
            self._problems.add(place, "this line is no section", hint)
            return
        kind = match["kind"] or ""
        if kind and kind not in _SECTION_KINDS:
            hint = f"{did_you_mean(kind, _SECTION_KINDS)}A section is [group], [group:children] or [group:vars]."
            self._problems.add(place, f"a section can't be of the kind {kind!r}", hint)
            return
        self._section_kind = "" if kind == "hosts" else kind
        if kind == "vars":
            self._referenced_groups.setdefault(match["group"], place)
        else:
            self._declared_groups.add(match["group"])
        self._current_group = self._tree.get_or_add_group(match["group"], place)

    def _parse_section_line(self, group: Group, line: str, place: SourceLocation) -> None:
        if self._section_kind == "children":
            match = _CHILD_PATTERN.fullmatch(line)
            if match is None:
                self._problems.add(place, "this is no name of a group", "Write one name in a line.")
                return
            self._referenced_groups.setdefault(match[1], place)
            self._tree.get_or_add_group(match[1], place)
            group.children.setdefault(match[1], place)
        elif self._section_kind == "vars":
            key, equals, value = (part.strip() for part in line.partition("="))
            if not equals or not key:
                self._problems.add(place, "this is no variable", "Write it as name=value.")
            else:
                self._tree.set_variable(group.name, key, _build_located_value(place, key, value), self._problems)
        else:
            self._parse_host_line(group, line, place)

    def _parse_host_line(self, group: Group, line: str, place: SourceLocation) -> None:
        try:
            parts = shlex.split(line, comments=True) if _QUOTING_CHARACTERS & set(line) else _BLANKS_PATTERN.split(line)
        except ValueError as error:
            self._problems.add(place, f"this line can't be split: {error}", "Close the quotes, or escape them.")
            return
        variables: Variables = {}
        for pair in parts[1:]:
            key, equals, value = pair.partition("=")
            if not equals or not key:
                # Do not show the word. It may be the second half of a password that contains a blank.
                hint = "Write name=value, and quote values with blanks."
                self._problems.add(place, "a word here is no variable", hint)
                break
            variables[key] = _build_located_value(place, key, value)
        self._tree.add_hosts(group, parts[0] if parts else "", variables, place, self._problems)


def _build_located_value(place: SourceLocation, key: str, value: str) -> LocatedData:
    return LocatedData(IniValue(value), {(): SourceLocation(place.file, place.line, key)})


_VARIABLE_FILE_SUFFIXES = ("", ".yml", ".yaml", ".json")
_VAULT_HEADER = "$ANSIBLE_VAULT"
VAULTED_FILE_VARIABLE = "fleetpatch_vaulted_files"
"""The owner's setting for completely encrypted files. In the result of a read, its value is the path of such a file."""
_MAX_DIRECTORY_DEPTH = 10
_MAX_ENTRIES = 100_000


def parse_variable_files(directory: Path, names: Iterable[str], problems: ProblemCollector) -> dict[str, Variables]:
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
    entry_names = set(_list_entries(directory, problems))
    variables_by_name: dict[str, Variables] = {}
    for name in names:
        first = _find_first(name, entry_names)
        if first is None:
            continue
        path, variables = directory / first, Variables()
        for file in _find_files_in_directory(path, 0, problems) if path.is_dir() else (path,):
            variables |= _read_variable_file(file, problems)
        if variables:
            variables_by_name[name] = variables
    return variables_by_name


def find_variable_file(directory: Path, name: str, variable: str, problems: ProblemCollector) -> Path | None:
    """Return the file in which a variable of a host is to be written: where it stands last, or could stand.

    None: the host has no file yet. In a folder of the host, it may be a file that does not exist yet.
    """
    entry_names = set(_list_entries(directory, problems)) if directory.is_dir() else set()
    first = _find_first(name, entry_names)
    if first is None:
        return None
    path = directory / first
    if not path.is_dir():
        return path
    files = list(_find_files_in_directory(path, 0, problems))
    having = [file for file in files if variable in _read_variable_file(file, problems)]
    return having[-1] if having else path / "fleetpatch.yml"


def is_vaulted(text: str) -> bool:
    """Return whether a file is encrypted as a whole."""
    return text.startswith(_VAULT_HEADER)


def _find_first(name: str, entry_names: set[str]) -> str | None:
    """Return the entry of a directory that has the variables of a name: Ansible reads only the first that exists."""
    return next((name + suffix for suffix in _VARIABLE_FILE_SUFFIXES if name + suffix in entry_names), None)


def _list_entries(directory: Path, problems: ProblemCollector) -> list[str]:
    unreadable = "Make it readable for the user who runs fleetpatch."
    return list_directory_names(
        directory, problems, max_entries=_MAX_ENTRIES, unreadable_hint=unreadable, too_many_hint="Tidy it up."
    )


def _find_files_in_directory(directory: Path, depth: int, problems: ProblemCollector) -> Iterator[Path]:
    if depth > _MAX_DIRECTORY_DEPTH:
        problems.add(directory, f"directories nest deeper than {_MAX_DIRECTORY_DEPTH} levels", "Make them flatter.")
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
    if is_vaulted(text):
        variable = f"{VAULTED_FILE_VARIABLE}:{path}"
        return {variable: LocatedData(VAULTED, {(): SourceLocation(path)})}
    located = parse_yaml(path, text, problems, ansible=True)
    return collect_variables(located, problems) if located else {}
