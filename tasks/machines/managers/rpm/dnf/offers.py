"""Which of the versions that repositories offer dnf (or yum) itself would install, and what the owner holds back. Pure.

A command with an exact version overrides the priorities of repositories. So a version is only installed if the tool
would take it by itself: it is what an upgrade of everything takes, or an older one from a repository of the same
priority and from the same vendor (dnf.conf(5): priority, allow_vendor_change).
"""

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from fnmatch import fnmatchcase
from typing import Final

from tasks.machines.managers.rpm.dnf.output_parsers import AvailablePackage, DnfTransaction, find_specs
from tasks.machines.managers.rpm.packages import DEFAULT_REPOSITORY_PRIORITY, InstalledPackage
from tasks.machines.managers.versions import RpmVersion
from tasks.rules.machine_checks.report_limits import MAX_LOCKS, MAX_NAME_LENGTH, require_count, require_length


@dataclass(frozen=True, slots=True)
class OfferJudge:
    """The judge of one package's offers.

    Attributes:
        current: the installed version.
        transaction: what the tool would install if it upgraded everything that it can.
        priorities: repository -> its priority, where it has another than the default. The lowest number comes first.
    """

    current: InstalledPackage
    transaction: DnfTransaction
    priorities: Mapping[str, int]

    def choose(self, offers: Sequence[AvailablePackage]) -> AvailablePackage:
        """Return the version that the tool would install now, else the newest."""
        preferred = self._find_taken(offers[0])
        taken = [offer for offer in offers if offer.version == preferred]
        if taken:
            return min(taken, key=self._get_priority)
        first = min(map(self._get_priority, offers))
        return max(
            (offer for offer in offers if self._get_priority(offer) == first or self.transaction.is_resolved),
            key=lambda offer: RpmVersion(offer.version),
        )

    def is_left_out(self, offer: AvailablePackage) -> bool:
        """Return whether the tool knows what it would install, and this version is not in it.

        Of two new versions that conflict it takes any one. Neither counts as left out: a run takes the more urgent one.
        """
        if not self.transaction.is_resolved or self._find_taken(offer) == offer.version:
            return False
        taken = {f"{name}-{version}.{arch}" for (name, arch), version in self.transaction.changes.items()}
        return not find_specs(self._find_words(offer)) & taken

    def may_replace(self, offer: AvailablePackage, wanted: AvailablePackage) -> bool:
        """Return whether an older version is as good as the wanted one for the tool: in repository and in vendor."""
        vendors = {"", self.current.vendor, wanted.vendor}
        return not self.is_outranked(offer, wanted) and offer.vendor in vendors

    def is_outranked(self, offer: AvailablePackage, wanted: AvailablePackage) -> bool:
        """Return whether the wanted version's repository has priority over the offer's."""
        return self._get_priority(offer) > self._get_priority(wanted)

    def explain(self, offer: AvailablePackage) -> str:
        """Return why the tool leaves out a version: in its own words, or what speaks against it."""
        current = self.current
        if remark := self._find_words(offer):
            return remark
        better = sorted(name for name, number in self.priorities.items() if number < self._get_priority(offer))
        if better:
            return f"an upgrade leaves it out: {offer.repository} has a lower priority than {', '.join(better[:3])}"
        if current.vendor and offer.vendor and current.vendor != offer.vendor:
            return f"an upgrade leaves it out: it is of another vendor ({current.vendor} -> {offer.vendor})"
        return "an upgrade of everything leaves it out"

    def _find_words(self, offer: AvailablePackage) -> str:
        """Return the tool's first words about a version, else those about the installed one."""
        for package in (offer, self.current):
            spec = f"{package.name}-{package.version}.{package.arch}"
            for error in self.transaction.errors:
                if spec in find_specs(error):
                    return error
        return ""

    def _find_taken(self, offer: AvailablePackage) -> str | None:
        return self.transaction.changes.get((offer.name, offer.arch))

    def _get_priority(self, offer: AvailablePackage) -> int:
        return self.priorities.get(offer.repository, DEFAULT_REPOSITORY_PRIORITY)


_LOCK_FILE: Final = "versionlock.list"
_NAME_PATTERN: Final = re.compile(r"!?(.+?)-(?:[0-9]+:)?[^-:]+-[^-]+")


@dataclass(frozen=True, slots=True)
class Holds:
    """The owner's rules.

    Attributes:
        locks: patterns of the versions that locked packages keep.
        forbidden: patterns of versions that must not be installed ("!" in the list of locks).
        excluded: patterns of excluded packages.
    """

    locks: tuple[str, ...] = ()
    forbidden: tuple[str, ...] = ()
    excluded: tuple[str, ...] = ()

    def hides(self, installed: InstalledPackage, version: str) -> bool:
        """Return whether a lock keeps this version of an installed package from being installed.

        Exclusions need no such question: dnf leaves excluded packages out of its answers.
        """
        new = replace(installed, version=version)
        if any(_matches(pattern, new) for pattern in self.forbidden):
            return True
        own = [pattern for pattern in self.locks if _is_about(pattern, installed)]
        return bool(own) and not any(_matches(pattern, new) for pattern in own)

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
    forms = (package.name, *(f"{package.name}-{each}{end}" for each in (full, bare) for end in ends))
    return any(fnmatchcase(form, pattern) for form in forms)
