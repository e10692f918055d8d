"""Reads the lock files that `make lock` writes."""

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from packaging.markers import Marker
from packaging.utils import canonicalize_name

PRODUCTION: Final = "requirements.lock"
BUILD: Final = "requirements-build.lock"
DEVELOPMENT: Final = "requirements-dev.lock"

_ENTRY = re.compile(r"^(?=[A-Za-z0-9])", re.MULTILINE)
_HEAD = re.compile(r"([A-Za-z0-9._-]+)==(\S+)(?: ; (.+?))? \\")
_SOURCE = re.compile(r"^ +#(?: via)? +(?!via$)([^-\s]\S*)(?: \(.*\))?$", re.MULTILINE)


@dataclass(frozen=True, slots=True)
class LockedPackage:
    """One entry of a lock. A package has two where systems or Pythons get different versions.

    Attributes:
        name: the normalized name.
        marker: for which systems and Pythons the entry is, as PEP 508 writes it; "": for all.
        sha256: a hash for each file of this version, in the order of the lock.
        needed_by: normalized names of packages that ask for it; the project is one of them.
    """

    name: str
    version: str
    marker: str
    sha256: tuple[str, ...]
    needed_by: frozenset[str]

    def is_for_this_machine(self) -> bool:
        """Return whether this Python on this system installs it."""
        return not self.marker or Marker(self.marker).evaluate()


def read_lock(path: Path) -> list[LockedPackage]:
    """Return the entries of a lock.

    Raises:
        ValueError: an entry is not of the form that uv writes.
    """
    return [_read_entry(path, text) for text in _ENTRY.split(path.read_text())[1:]]


def _read_entry(path: Path, text: str) -> LockedPackage:
    head = _HEAD.match(text)
    hashes = tuple(re.findall(r"--hash=sha256:([0-9a-f]{64})", text))
    if head is None or not hashes:
        raise ValueError(f"{path}: no version or no hash in {text.splitlines()[0]!r}: run `make lock`")
    name, version, marker = head.groups()
    needed_by = frozenset(canonicalize_name(source) for source in _SOURCE.findall(text) if not source.endswith(".lock"))
    return LockedPackage(canonicalize_name(name), version, marker or "", hashes, needed_by)
