"""Parser for Ansible's INI format: host lines with variables, `[group]`, `[group:children]`, `[group:vars]`."""

import re
import shlex
from pathlib import Path

from inventory.files.problems import LocatedData, ProblemCollector, SourceLocation, did_you_mean
from inventory.formats.ansible.inventory_tree import UNGROUPED_GROUP, Group, InventoryTree, is_host_pattern
from inventory.formats.ansible.variable_values import IniValue

_SECTION_PATTERN = re.compile(r"\[(?P<group>[^:\[\]\s]+)(?::(?P<kind>\w+))?\]\s*(#.*)?")
_CHILD_PATTERN = re.compile(r"([^:\]\s]+)\s*(?:#.*)?")
_SECTION_KINDS = ("children", "vars", "hosts")
_MAX_LINE_LENGTH = 100_000
_QUOTING_CHARACTERS = frozenset("'\"\\#")
_BLANKS_PATTERN = re.compile(r"[ \t]+")


def looks_like_ini(text: str) -> bool:
    """Return whether a text looks like an INI inventory: it has a section, or it has only hosts."""
    lines = [line.strip() for line in text.splitlines()]
    meant = [line for line in lines if line and not line.startswith(("#", ";"))]
    if any(_SECTION_PATTERN.fullmatch(line) for line in meant):
        return True
    return bool(meant) and all(_is_host_line(line) for line in meant)


def is_unlike_ini(text: str) -> bool:
    """Return whether almost nothing in a text looks like an INI inventory. Then its single lines are not reported."""
    meant = [line.strip() for line in text.splitlines() if line.strip() and not line.lstrip().startswith(("#", ";"))]
    hosts = sum(is_host_pattern(line.split(maxsplit=1)[0]) for line in meant)
    return hosts * 2 < len(meant) and not any(line.startswith("[") for line in meant)


def _is_host_line(line: str) -> bool:
    first, *others = _BLANKS_PATTERN.split(line.partition("#")[0].strip())
    return is_host_pattern(first) and (not others or "=" in others[0])


def parse_ini_inventory(path: Path, text: str, tree: InventoryTree, problems: ProblemCollector) -> None:
    """Parse an INI inventory into a tree.

    Args:
        path: the file.
        text: its content.
        tree: the tree from the files before this one.
        problems: collects each invalid line.
    """
    _IniParser(path, tree, problems).parse(text)


class _IniParser:
    """Parser for one file. A group that it names must be in this file or in a file before it."""

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
        for number, raw in enumerate(text.splitlines(), start=1):
            line, source_location = raw.strip(), SourceLocation(self._path, number)
            if not line or line.startswith(("#", ";")):
                continue
            if len(line) > _MAX_LINE_LENGTH:
                self._problems.add(
                    source_location, f"this line is longer than {_MAX_LINE_LENGTH:,} characters", "Split it."
                )
            elif line.startswith("[") and not _is_bracketed_host(line):
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
        names = self._tree.add_hosts(group, parts[0] if parts else "", place, self._problems)
        for pair in parts[1:]:
            key, equals, value = pair.partition("=")
            if not equals or not key:
                # Do not show the word. It may be the second half of a password that contains a blank.
                hint = "Write name=value, and quote values with blanks."
                self._problems.add(place, "a word here is no variable", hint)
                return
            for name in names:
                self._tree.set_variable(name, key, _build_located_value(place, key, value), self._problems)


def _is_bracketed_host(line: str) -> bool:
    """Return whether a line with a leading bracket is a host: a range or an IPv6 address."""
    head = line.split(maxsplit=1)[0]
    return _SECTION_PATTERN.fullmatch(line) is None and re.match(r"\[[0-9A-Za-z]*:[0-9A-Za-z:.]*\].", head) is not None


def _build_located_value(place: SourceLocation, key: str, value: str) -> LocatedData:
    return LocatedData(IniValue(value), {(): SourceLocation(place.file, place.line, key)})
