"""The members of COM interfaces, with the kinds of their values, as Microsoft's metadata has them.

tests/data/windows/README.md says where it comes from. It has more than any stand-in: only what is used is checked.
"""

import json
from collections.abc import Iterable, Mapping
from functools import cache
from pathlib import Path
from typing import Any

FILE = Path(__file__).parents[2] / "data/windows/com_metadata.json"

Member = Mapping[str, Any]
"""``get`` and ``put``: the types of a property; ``parameters`` and ``returns``: those of a method."""


@cache
def read_metadata() -> Mapping[str, Mapping[str, Any]]:
    """Return ``interfaces`` and ``enumerations``."""
    found: Mapping[str, Mapping[str, Any]] = json.loads(FILE.read_text(encoding="utf-8"))
    return found


def find_enumeration(name: str) -> Mapping[str, int]:
    """Return the values of an enumeration by their names."""
    found: Mapping[str, int] = read_metadata()["enumerations"][name]
    return found


def is_enumeration(name: str) -> bool:
    """Return whether a type is an enumeration: a number."""
    return name in read_metadata()["enumerations"]


def find_members(interfaces: Iterable[str]) -> dict[str, Member]:
    """Return the members of interfaces, without those that they inherit."""
    known = read_metadata()["interfaces"]
    return {name: member for each in interfaces for name, member in known[each]["members"].items()}


def extends(interface: str, other: str) -> bool:
    """Return whether an interface is another one, or extends it."""
    known = read_metadata()["interfaces"]
    return interface == other or (interface in known and extends(known[interface]["extends"], other))
