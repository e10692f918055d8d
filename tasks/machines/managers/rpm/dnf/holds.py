"""What the owner of a machine with dnf or yum holds back: locked versions and excluded packages. Pure."""

import re
from collections.abc import Iterable
from dataclasses import replace
from fnmatch import fnmatchcase
from typing import Final

from inventory.data_class import dataclass
from tasks.machines.managers.rpm.packages import InstalledPackage
from tasks.rules.machine_checks.report_limits import MAX_LOCKS, MAX_NAME_LENGTH, require_count, require_length

_LOCK_FILE: Final = "versionlock.list"


_NAME_PATTERN: Final = re.compile(r"!?(.+?)-(?:[0-9]+:)?[^-:]+-[^-]+")


@dataclass(frozen=True, slots=True)
class Holds:
    """The owner's rules."""

    locks: tuple[str, ...] = ()  # patterns of the versions that locked packages keep
    forbidden: tuple[str, ...] = ()  # patterns of versions that must not be installed ("!" in the list of locks)
    excluded: tuple[str, ...] = ()  # patterns of excluded packages

    def hides(self, installed: InstalledPackage, version: str) -> bool:
        """Return whether a lock keeps this version of an installed package from being installed.

        Exclusions need no such question: dnf leaves excluded packages out of its answers.
        """
        new = replace(installed, version=version)
        if any(_matches(pattern, new) for pattern in self.forbidden):
            return True
        patterns = [pattern for pattern in self.locks if _is_about(pattern, installed)]
        return bool(patterns) and not any(_matches(pattern, new) for pattern in patterns)

    def list_held(self, installed: Iterable[InstalledPackage]) -> tuple[str, ...]:
        """Return the ids of the installed packages that are locked or excluded."""
        return tuple(
            sorted(
                {
                    package.id
                    for package in installed
                    if any(_is_about(pattern, package) for pattern in (*self.locks, *self.excluded))
                }
            )
        )


def parse_holds(text: str) -> Holds:
    """Read lines "FILE:entry": the entries of versionlock.list, and "exclude=…" of dnf.conf and of repositories.

    Raises:
        ReportTooLarge: there are more of them than any owner writes.
    """
    locks, forbidden, excluded = list[str](), list[str](), list[str]()
    for line in text.splitlines():
        path, _, entry = line.partition(":")
        key, _, value = entry.partition("=")
        if path.endswith(_LOCK_FILE):
            entry = entry.strip()
            (forbidden if entry.startswith("!") else locks).append(entry.lstrip("!"))
        elif key.strip() in {"exclude", "excludepkgs"}:
            excluded += re.split(r"[,\s]+", value.strip())
    require_count(len(locks) + len(forbidden) + len(excluded), MAX_LOCKS, "locks and exclusions")
    for pattern in (*locks, *forbidden, *excluded):
        require_length(pattern, MAX_NAME_LENGTH, "a lock or an exclusion")
    return Holds(tuple(locks), tuple(forbidden), tuple(excluded))


def _is_about(pattern: str, package: InstalledPackage) -> bool:
    match = _NAME_PATTERN.fullmatch(pattern)
    return _matches(pattern, package) or bool(match and fnmatchcase(package.name, match[1]))


def _matches(pattern: str, package: InstalledPackage) -> bool:
    """Compare with all forms in which a list may name a package."""
    version = package.version
    full = version if ":" in version else f"0:{version}"
    bare = version.rpartition(":")[2]
    ends = ("", f".{package.arch}")
    forms = (package.name, *(f"{package.name}-{form}{end}" for form in (full, bare) for end in ends))
    return any(fnmatchcase(form, pattern) for form in forms)


_DNF5_LOCK_PATTERN: Final = re.compile(r"""^\S+versionlock\.toml:\s*name\s*=\s*["']([^"']+)["']""", re.MULTILINE)


def parse_dnf5_holds(text: str) -> Holds:
    """Read the names of versionlock.toml, and exclusions. What is locked is missing from dnf 5's answers."""
    return Holds(excluded=(*_DNF5_LOCK_PATTERN.findall(text), *parse_holds(text).excluded))
