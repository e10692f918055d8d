"""Names of hosts as Ansible's INI and YAML have them: with ranges, and with a port."""

import ipaddress
import re

from inventory.ansible.tree import Group, Tree
from inventory.places import Located, Place, Problems
from inventory.ranges import MAX_MACHINES, BadRange, expand
from inventory.schema import NAME_PATTERN

_NAME = re.compile(NAME_PATTERN)
_RANGE = r"\[[0-9A-Za-z]*:[0-9A-Za-z]+(?::[0-9]+)?\]"
_HOST = re.compile(rf"(?:[A-Za-z0-9._-]|{_RANGE})+(?::[0-9]+)?")
_WITH_PORT = re.compile(r"((?:[^:\[\]]|\[[^\]]*\])*):([0-9]+)")
_LABELS = re.compile(r"\w(?:[\w-]*\w)?(?<!_)(?:\.\w(?:[\w-]*\w)?(?<!_))*")
_LONGEST = 1000
"""Characters of a name with ranges."""


def is_host(word: str) -> bool:
    """Return whether a word looks like a host's name, with or without ranges and a port, or is an IP address."""
    return len(word) <= _LONGEST and (_HOST.fullmatch(word) is not None or _is_ip(word))


def add_hosts(tree: Tree, group: Group, pattern: str, place: Place, problems: Problems) -> tuple[str, ...]:
    """Put the hosts that a pattern (``web-[01:20]:2222``) stands for into a group.

    Returns:
        Their names; none when the pattern makes no sense, which was noted. It is repeated only when it is an IP
        address: a line of another kind of file may be a password.
    """
    with_port = _WITH_PORT.fullmatch(pattern)
    bare, port = with_port.groups() if with_port else (pattern, "")
    try:
        names = expand(bare) if len(bare) <= _LONGEST and tree.named <= MAX_MACHINES else ()
    except BadRange as error:
        problems.add(place, str(error), "Write it as [first:last] or [first:last:step].")
        return ()
    tree.named += len(names)
    if tree.named > MAX_MACHINES:
        hint = "Correct the ranges, or split the inventory."
        problems.add(place, f"this inventory names more than {MAX_MACHINES:,} machines", hint)
        return ()
    if not names or not all(_NAME.fullmatch(name) for name in names):
        shown = repr(bare) if _is_ip(bare) else "the first word here" if " " not in pattern else "this"
        hint = "Use up to 128 letters, digits, '.', '_' and '-'; an address goes under ansible_host, a port after ':'."
        problems.add(place, f"{shown} is no usable name", hint)
        return ()
    if port and (bare.startswith("[") or "[:" in bare or not all(_LABELS.fullmatch(name) for name in names)):
        problems.add(place, "Ansible reads no port after such a name", "Write ansible_port=PORT instead.")
        return ()
    port = port.lstrip("0")
    located = Located(port, {(): Place(place.file, place.line, "port")}) if port else None
    for name in names:
        tree.host(name, place, group, located)
    return names


def _is_ip(text: str) -> bool:
    try:
        ipaddress.ip_address(text)
    except ValueError:
        return False
    return True
