"""Ansible's INI format: hosts with variables in one line, `[group]`, `[group:children]`, `[group:vars]`."""

import ast
import re
import shlex
from pathlib import Path

from inventory.ansible.tree import ALL, UNGROUPED, Group, Tree, Variables
from inventory.places import Located, Place, Problems, did_you_mean
from inventory.ranges import BadRange, expand

_SECTION = re.compile(r"\[(?P<group>[^:\[\]\s]+)(?::(?P<kind>\w+))?\]\s*([#;].*)?")
_KINDS = ("children", "vars", "hosts")


def parse_ini(path: Path, text: str, problems: Problems) -> Tree:
    """Read an INI inventory.

    Args:
        path: the file.
        text: its content.
        problems: takes every line that makes no sense.
    """
    tree = Tree()
    group, kind = tree.group(UNGROUPED, Place(path, 1)), ""
    tree.group(ALL, Place(path, 1))
    skipping = False  # below a heading that makes no sense; one fault is enough
    for number, raw in enumerate(text.splitlines(), start=1):
        line, place = raw.strip(), Place(path, number)
        if not line or line.startswith(("#", ";")):
            continue
        if line.startswith("[") and not _is_address(line):
            heading = _heading(line, place, problems)
            skipping = heading is None
            if heading:
                name, kind = heading
                group = tree.group(name, place, declared=kind != "vars")
        elif not skipping:
            _content(tree, group, kind, line, place, problems)
    tree.check(problems)
    return tree


def _is_address(line: str) -> bool:
    """A line that begins with a bracket may be a host, too: a range, or an IPv6 address."""
    head = line.split(maxsplit=1)[0]
    return _SECTION.fullmatch(line) is None and re.match(r"\[[0-9A-Za-z]*:[0-9A-Za-z:.]*\].", head) is not None


def _heading(line: str, place: Place, problems: Problems) -> tuple[str, str] | None:
    match = _SECTION.fullmatch(line)
    if match is None:
        problems.add(place, f"{line!r} is no section", "Write [group], [group:children] or [group:vars].")
        return None
    kind = match["kind"] or ""
    if kind and kind not in _KINDS:
        hint = f"{did_you_mean(kind, _KINDS)}A section is [group], [group:children] or [group:vars]."
        problems.add(place, f"a section can't be of the kind {kind!r}", hint)
        return None
    return match["group"], "" if kind == "hosts" else kind


def _content(tree: Tree, group: Group, kind: str, line: str, place: Place, problems: Problems) -> None:
    if kind == "children":
        name = line.partition("#")[0].strip()
        group.children[name] = place
        tree.group(name, place, declared=False)
    elif kind == "vars":
        key, equals, value = (part.strip() for part in line.partition("="))
        if not equals or not key:
            problems.add(place, "this is no variable", "Write it as name=value.")
        else:
            group.variables[key] = _located(place, key, _unquoted(value))
    else:
        _host_line(tree, group, line, place, problems)


def _host_line(tree: Tree, group: Group, line: str, place: Place, problems: Problems) -> None:
    try:
        pattern, *pairs = shlex.split(line, comments=True)
    except ValueError as error:
        problems.add(place, f"this line can't be split: {error}", "Close the quotes, or escape them.")
        return
    variables: Variables = {}
    for pair in pairs:
        key, equals, value = pair.partition("=")
        if not equals or not key:
            # The word is not repeated: it may be the second half of a password with a blank in it.
            problems.add(place, "a word here is no variable", "Write name=value, and quote values with blanks.")
        else:
            variables[key] = _located(place, key, value)
    add_hosts(tree, group, pattern, variables, place, problems)


def add_hosts(tree: Tree, group: Group, pattern: str, variables: Variables, place: Place, problems: Problems) -> None:
    """Put the hosts that a pattern (``web-[01:20]:2222``) stands for into a group."""
    pattern, port = _split_port(pattern)
    if port:
        variables = {"ansible_port": _located(place, "port", port), **variables}
    try:
        names = expand(pattern)
    except BadRange as error:
        problems.add(place, str(error), "Write it as [first:last] or [first:last:step].")
        return
    for name in names:
        tree.host(name, place, group, variables)


def _split_port(pattern: str) -> tuple[str, str]:
    head, _, tail = pattern.rpartition(":")
    outside = re.sub(r"\[[^\]]*\]", "", head)  # colons of ranges and bracketed addresses don't count
    return (head, tail) if head and tail.isdecimal() and ":" not in outside else (pattern, "")


def _located(place: Place, key: str, value: str) -> Located:
    return Located(value, {(): Place(place.file, place.line, key)})


def _unquoted(value: str) -> str:
    """Return what a quoted value says. Below [group:vars], Ansible takes values for Python literals."""
    if value[:1] not in {"'", '"'}:
        return value
    try:
        literal = ast.literal_eval(value)
    except (ValueError, SyntaxError):
        return value
    return literal if isinstance(literal, str) else value
