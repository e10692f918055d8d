"""Ansible's INI format: hosts with variables in one line, `[group]`, `[group:children]`, `[group:vars]`."""

import re
import shlex
from pathlib import Path

from inventory.ansible.hosts import add_hosts, is_host
from inventory.ansible.tree import UNGROUPED, Group, Tree
from inventory.ansible.values import IniText
from inventory.places import Located, Place, Problems, did_you_mean

_SECTION = re.compile(r"\[(?P<group>[^:\[\]\s]+)(?::(?P<kind>\w+))?\]\s*(#.*)?")
_CHILD = re.compile(r"([^:\]\s]+)\s*(?:#.*)?")
_KINDS = ("children", "vars", "hosts")
_LONGEST_LINE = 100_000
_QUOTING = frozenset("'\"\\#")
_BLANKS = re.compile(r"[ \t]+")


def looks_like_ini(text: str) -> bool:
    """Return whether a text has the form of an INI inventory: a section, or else nothing but hosts."""
    lines = [line.strip() for line in text.splitlines()]
    meant = [line for line in lines if line and not line.startswith(("#", ";"))]
    if any(_SECTION.fullmatch(line) for line in meant):
        return True
    return bool(meant) and all(_is_host_line(line) for line in meant)


def is_no_ini(text: str) -> bool:
    """Return whether hardly anything in a text is as in an INI inventory, so that none of it needs to be told."""
    meant = [line.strip() for line in text.splitlines() if line.strip() and not line.lstrip().startswith(("#", ";"))]
    hosts = sum(is_host(line.split(maxsplit=1)[0]) for line in meant)
    return hosts * 2 < len(meant) and not any(line.startswith("[") for line in meant)


def _is_host_line(line: str) -> bool:
    first, *others = _BLANKS.split(line.partition("#")[0].strip())
    return is_host(first) and (not others or "=" in others[0])


def parse_ini(path: Path, text: str, tree: Tree, problems: Problems) -> None:
    """Read an INI inventory into a tree.

    Args:
        path: the file.
        text: its content.
        tree: what files before this one made.
        problems: takes every line that makes no sense.
    """
    _File(path, tree, problems).read(text)


class _File:
    """One file while it is read. Groups that it names must stand in it, or in a file before it."""

    def __init__(self, path: Path, tree: Tree, problems: Problems) -> None:
        self._path = path
        self._tree = tree
        self._problems = problems
        self._known = set(tree.groups)
        self._named: dict[str, Place] = {}
        self._group: Group | None = tree.group(UNGROUPED, Place(path, 1))  # None below a heading that makes no sense
        self._kind = ""

    def read(self, text: str) -> None:
        for number, raw in enumerate(text.splitlines(), start=1):
            line, place = raw.strip(), Place(self._path, number)
            if not line or line.startswith(("#", ";")):
                continue
            if len(line) > _LONGEST_LINE:
                self._problems.add(place, f"this line is longer than {_LONGEST_LINE:,} characters", "Split it.")
            elif line.startswith("[") and not _is_address(line):
                self._heading(line, place)
            elif self._group:
                self._content(self._group, line, place)
        for name, place in self._named.items():
            if name not in self._known:
                hint = f"Add a section [{name}] to this file, or correct the name."
                self._problems.add(place, f"the group {name!r} is not declared", hint)

    def _heading(self, line: str, place: Place) -> None:
        self._group = None
        match = _SECTION.fullmatch(line)
        if match is None:
            hint = "Write [group], [group:children] or [group:vars]."
            self._problems.add(place, "this line is no section", hint)
            return
        kind = match["kind"] or ""
        if kind and kind not in _KINDS:
            hint = f"{did_you_mean(kind, _KINDS)}A section is [group], [group:children] or [group:vars]."
            self._problems.add(place, f"a section can't be of the kind {kind!r}", hint)
            return
        self._kind = "" if kind == "hosts" else kind
        if kind == "vars":
            self._named.setdefault(match["group"], place)
        else:
            self._known.add(match["group"])
        self._group = self._tree.group(match["group"], place)

    def _content(self, group: Group, line: str, place: Place) -> None:
        if self._kind == "children":
            match = _CHILD.fullmatch(line)
            if match is None:
                self._problems.add(place, "this is no name of a group", "Write one name in a line.")
                return
            self._named.setdefault(match[1], place)
            self._tree.group(match[1], place)
            group.children.setdefault(match[1], place)
        elif self._kind == "vars":
            key, equals, value = (part.strip() for part in line.partition("="))
            if not equals or not key:
                self._problems.add(place, "this is no variable", "Write it as name=value.")
            else:
                self._tree.set_variable(group.name, key, _located(place, key, value), self._problems)
        else:
            self._host_line(group, line, place)

    def _host_line(self, group: Group, line: str, place: Place) -> None:
        try:
            words = shlex.split(line, comments=True) if _QUOTING & set(line) else _BLANKS.split(line)
        except ValueError as error:
            self._problems.add(place, f"this line can't be split: {error}", "Close the quotes, or escape them.")
            return
        names = add_hosts(self._tree, group, words[0] if words else "", place, self._problems)
        for pair in words[1:]:
            key, equals, value = pair.partition("=")
            if not equals or not key:
                # The word is not repeated: it may be the second half of a password with a blank in it.
                hint = "Write name=value, and quote values with blanks."
                self._problems.add(place, "a word here is no variable", hint)
                return
            for name in names:
                self._tree.set_variable(name, key, _located(place, key, value), self._problems)


def _is_address(line: str) -> bool:
    """A line that begins with a bracket may be a host, too: a range, or an IPv6 address."""
    head = line.split(maxsplit=1)[0]
    return _SECTION.fullmatch(line) is None and re.match(r"\[[0-9A-Za-z]*:[0-9A-Za-z:.]*\].", head) is not None


def _located(place: Place, key: str, value: str) -> Located:
    return Located(IniText(value), {(): Place(place.file, place.line, key)})
