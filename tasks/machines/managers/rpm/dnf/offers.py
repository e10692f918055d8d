"""Which of the versions that repositories offer dnf (or yum) itself would install, and what the owner holds back. Pure.

A command with an exact version overrides the priorities of repositories. So a version is only installed if the tool
would take it by itself: it is what an upgrade of everything takes, or an older one from a repository of the same
priority and from the same vendor (dnf.conf(5): priority, allow_vendor_change).
"""

from collections.abc import Mapping, Sequence

from inventory.data_class import dataclass
from tasks.machines.managers.rpm.dnf.transaction import _MAX_TEXT, DnfTransaction, find_specs
from tasks.machines.managers.rpm.packages import (
    ARCH_PATTERN,
    NAME_PATTERN,
    VERSION_PATTERN,
    InstalledPackage,
    build_update_id,
    format_rpm_version,
    parse_vendor,
)
from tasks.machines.managers.rpm.repositories import DEFAULT_REPOSITORY_PRIORITY
from tasks.machines.managers.script_output import parse_natural
from tasks.machines.managers.versions import RpmVersion
from tasks.rules.machine_checks.report_limits import MAX_TEXT_LENGTH, require_length


@dataclass(frozen=True, slots=True)
class OfferedPackage:
    """A package that a repository offers."""

    id: str
    name: str
    arch: str
    version: str
    repository: str
    size_bytes: int | None  # its download size
    source: str  # name of its source package; "" when the repository does not say it
    vendor: str


def parse_offered_packages(text: str, native: str) -> tuple[OfferedPackage, ...]:
    """Read lines "name|epoch|version|release|arch|repository|size|source|vendor" of ``dnf repoquery``."""
    packages: list[OfferedPackage] = []
    for line in text.splitlines():
        fields = line.split("|", 8)
        if len(fields) != 9:
            continue
        require_length(line, MAX_TEXT_LENGTH, "of an available package")
        name, epoch, version, release, arch, repository, size, source, vendor = fields
        full = format_rpm_version(epoch, version, release)
        if NAME_PATTERN.fullmatch(name) and VERSION_PATTERN.fullmatch(full) and ARCH_PATTERN.fullmatch(arch):
            packages.append(
                OfferedPackage(
                    id=build_update_id(name, arch, native),
                    name=name,
                    arch=arch,
                    version=full,
                    repository=repository[:_MAX_TEXT],
                    size_bytes=parse_natural(size),
                    source="" if source == "(none)" else source[:_MAX_TEXT],
                    vendor=parse_vendor(vendor),
                )
            )
    return tuple(dict.fromkeys(packages))


@dataclass(frozen=True, slots=True)
class OfferJudge:
    """The judge of one package's offers."""

    current: InstalledPackage  # the installed version
    transaction: DnfTransaction  # what the tool would install if it upgraded everything that it can
    # Repository -> its priority, where it has another than the default. The lowest number comes first.
    priorities: Mapping[str, int]

    def choose(self, offers: Sequence[OfferedPackage]) -> OfferedPackage:
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

    def is_left_out(self, offer: OfferedPackage) -> bool:
        """Return whether the tool knows what it would install, and this version is not in it.

        Of two new versions that conflict it takes any one. Neither counts as left out: a run takes the more urgent one.
        """
        if not self.transaction.is_resolved or self._find_taken(offer) == offer.version:
            return False
        taken = {f"{name}-{version}.{arch}" for (name, arch), version in self.transaction.changes.items()}
        return not find_specs(self._find_words(offer)) & taken

    def may_replace(self, offer: OfferedPackage, wanted: OfferedPackage) -> bool:
        """Return whether an older version is as good as the wanted one for the tool: in repository and in vendor."""
        vendors = {"", self.current.vendor, wanted.vendor}
        return not self.is_outranked(offer, wanted) and offer.vendor in vendors

    def is_outranked(self, offer: OfferedPackage, wanted: OfferedPackage) -> bool:
        """Return whether the wanted version's repository has priority over the offer's."""
        return self._get_priority(offer) > self._get_priority(wanted)

    def explain(self, offer: OfferedPackage) -> str:
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

    def _find_words(self, offer: OfferedPackage) -> str:
        """Return the tool's first words about a version, else those about the installed one."""
        for package in (offer, self.current):
            spec = f"{package.name}-{package.version}.{package.arch}"
            for error in self.transaction.errors:
                if spec in find_specs(error):
                    return error
        return ""

    def _find_taken(self, offer: OfferedPackage) -> str | None:
        return self.transaction.changes.get((offer.name, offer.arch))

    def _get_priority(self, offer: OfferedPackage) -> int:
        return self.priorities.get(offer.repository, DEFAULT_REPOSITORY_PRIORITY)
