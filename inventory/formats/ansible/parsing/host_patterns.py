"""Parses host patterns of Ansible inventories: names with ranges and ports."""

import ipaddress
import re

from inventory.files.problems import LocatedData, ProblemCollector, SourceLocation
from inventory.formats.ansible.inventory_tree import Group, InventoryTree
from inventory.name_ranges import MAX_MACHINES, InvalidRange, expand_ranges
from inventory.schema.value_types import NAME_PATTERN

_NAME_PATTERN = re.compile(NAME_PATTERN)
_RANGE_EXPRESSION = r"\[[0-9A-Za-z]*:[0-9A-Za-z]+(?::[0-9]+)?\]"
_HOST_PATTERN = re.compile(rf"(?:[A-Za-z0-9._-]|{_RANGE_EXPRESSION})+(?::[0-9]+)?")
_HOST_WITH_PORT_PATTERN = re.compile(r"((?:[^:\[\]]|\[[^\]]*\])*):([0-9]+)")
_DNS_NAME_PATTERN = re.compile(r"\w(?:[\w-]*\w)?(?<!_)(?:\.\w(?:[\w-]*\w)?(?<!_))*")
_MAX_PATTERN_LENGTH = 1000
"""Maximum number of characters in a pattern."""


def is_host_pattern(word: str) -> bool:
    """Return whether a word can be a host pattern: a name with optional ranges and port, or an IP address."""
    return len(word) <= _MAX_PATTERN_LENGTH and (_HOST_PATTERN.fullmatch(word) is not None or _is_ip_address(word))


def add_hosts(
    tree: InventoryTree, group: Group, pattern: str, place: SourceLocation, problems: ProblemCollector
) -> tuple[str, ...]:
    """Add the hosts of a pattern (``web-[01:20]:2222``) to a group.

    Returns:
        The host names; none if the pattern is invalid, which is reported. The report repeats the pattern only if it is
        an IP address, because a line of another kind of file may be a password.
    """
    with_port = _HOST_WITH_PORT_PATTERN.fullmatch(pattern)
    bare, port = with_port.groups() if with_port else (pattern, "")
    try:
        names = expand_ranges(bare) if len(bare) <= _MAX_PATTERN_LENGTH and tree.host_name_count <= MAX_MACHINES else ()
    except InvalidRange as error:
        problems.add(place, str(error), "Write it as [first:last] or [first:last:step].")
        return ()
    tree.host_name_count += len(names)
    if tree.host_name_count > MAX_MACHINES:
        hint = "Correct the ranges, or split the inventory."
        problems.add(place, f"this inventory names more than {MAX_MACHINES:,} machines", hint)
        return ()
    if not names or not all(_NAME_PATTERN.fullmatch(name) for name in names):
        shown = repr(bare) if _is_ip_address(bare) else "the first word here" if " " not in pattern else "this"
        hint = "Use up to 128 letters, digits, '.', '_' and '-'; an address goes under ansible_host, a port after ':'."
        problems.add(place, f"{shown} is no usable name", hint)
        return ()
    if port and (bare.startswith("[") or "[:" in bare or not all(_DNS_NAME_PATTERN.fullmatch(name) for name in names)):
        problems.add(place, "Ansible reads no port after such a name", "Write ansible_port=PORT instead.")
        return ()
    port = port.lstrip("0")
    located = LocatedData(port, {(): SourceLocation(place.file, place.line, "port")}) if port else None
    for name in names:
        tree.add_host(name, place, group, located)
    return names


def _is_ip_address(text: str) -> bool:
    try:
        ipaddress.ip_address(text)
    except ValueError:
        return False
    return True
