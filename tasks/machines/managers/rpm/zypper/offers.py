"""What zypper's repositories offer: versions, and which of them zypper itself would take. Pure.

A command with an exact version overrides the priorities of repositories and changes a package's vendor. So a version is
only installed if ``zypper update`` would take it, or if it is an older one from a repository of the same priority and
from the same vendor (zypper(8): repository priorities; zypp.conf: solver.allowVendorChange).
"""

import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Final

from inventory.data_class import dataclass
from tasks.machines.managers.rpm.packages import VersionedPackage, format_rpm_version, parse_vendor
from tasks.machines.managers.rpm.repositories import DEFAULT_REPOSITORY_PRIORITY
from tasks.machines.managers.rpm.zypper.xml_answer import (
    ZypperAnswer,
    get_attribute,
    get_child_text,
    parse_install_summary,
    parse_package,
    require_element,
)
from tasks.machines.managers.script_output import parse_natural, split_rows
from tasks.machines.managers.versions import RpmVersion

_POLICY_PATTERN: Final = re.compile(
    r"There is an update candidate for '([^']{1,200})'(?:,| from vendor) .*?(?=\. Use '|$)"
)
_MAX_NAMED: Final = 3


@dataclass(frozen=True, slots=True)
class ZypperOffer:
    """A version in a repository."""

    package: VersionedPackage
    alias: str  # of the repository
    vendor: str
    size_bytes: int  # of the download


def parse_zypper_offers(text: str) -> tuple[ZypperOffer, ...]:
    """Read lines "NAME<tab>ARCH<tab>EPOCH<tab>VERSION<tab>RELEASE<tab>BYTES<tab>ALIAS<tab>VENDOR".

    Lines that are not valid are ignored.
    """
    return tuple(
        ZypperOffer(VersionedPackage(name, arch, format_rpm_version(*version)), alias, parse_vendor(vendor), size)
        for name, arch, *version, digits, alias, vendor in split_rows(text, 8)
        if (size := parse_natural(digits)) is not None
    )


def choose_security_offer(
    versions: Iterable[str], wanted: VersionedPackage, offers: Sequence[ZypperOffer], priorities: Mapping[str, int]
) -> str:
    """Return the newest version with a security fix that zypper itself could have taken; "" for none.

    Args:
        versions: those with security fixes, up to the wanted one.
        wanted: what zypper itself would install.
        offers: all versions that repositories offer; none of a package if they can't be read.
        priorities: alias of a repository -> its priority, where it has another than the default one.
    """
    versions_offered = [o for o in offers if (o.package.name, o.package.arch) == (wanted.name, wanted.arch)]
    best = [offer for offer in versions_offered if offer.package.version == wanted.version]

    def rank(offer: ZypperOffer) -> tuple[int, str]:
        return priorities.get(offer.alias, DEFAULT_REPOSITORY_PRIORITY), offer.vendor

    ranks = {rank(offer) for offer in best}
    equal = {offer.package.version for offer in versions_offered if rank(offer) in ranks}
    return max((version for version in versions if not best or version in equal), key=RpmVersion, default="")


def parse_obstacles(answer: ZypperAnswer, packages: Iterable[VersionedPackage]) -> Mapping[str, str]:
    """Return name of a package -> why zypper does not install its newest version, in its own words.

    ``answer`` is of ``zypper update --dry-run`` for the packages that an update of everything leaves out, ``packages``
    are their newest versions.
    """
    policies = (_POLICY_PATTERN.search(message.text) for message in answer.messages)
    names_by_policy = {policy[1]: policy[0] for policy in policies if policy}
    problems = parse_install_summary(answer).problems
    for package in packages:
        named = re.compile(rf"(?<![\w.+-]){re.escape(package.name)}-{re.escape(package.version)}(?![\w+~^])")
        problems_text = "; ".join([text for text in problems if named.search(text)][:_MAX_NAMED])
        if problems_text:
            names_by_policy[package.name] = problems_text
    return names_by_policy


@dataclass(frozen=True, slots=True)
class ZypperCandidate:
    """A newer version of an installed package, as ``zypper list-updates --all`` has it."""

    package: VersionedPackage
    alias: str  # of the repository
    has_licence: bool  # somebody must accept a licence first, or has


def parse_zypper_candidates(answer: ZypperAnswer) -> tuple[ZypperCandidate, ...]:
    """Return the packages of ``zypper list-updates --all``. Entries that are not valid are left out.

    Raises:
        ManagerError: zypper could not list them.
    """
    require_element(answer, "update-status", "which updates there are")
    return tuple(
        ZypperCandidate(
            package, get_attribute(element.find("source"), "alias"), bool(get_child_text(element, "license"))
        )
        for element in answer.root.iter("update")
        if get_attribute(element, "kind") == "package" and (package := parse_package(element))
    )


_VARIABLE_PATTERN: Final = re.compile(r"\$(?:\{[^{}]{1,60}\}|\w{1,60})")


@dataclass(frozen=True, slots=True)
class ZypperRepository:
    """A repository that is enabled."""

    alias: str
    name: str
    is_read: bool  # zypper has its data
    has_patches: bool  # it says which of its packages are security fixes
    read_at: int = 0  # when its copy was last found to be current, in seconds since 1970; 0: unknown
    # What zypper has read in its place is a web page. zypper takes any answer for an index without packages.
    is_page: bool = False
    is_medium: bool = False  # it is a disc, as that of the installation

    def is_named(self, named: str) -> bool:
        """Whether zypper calls it so: by its name with the values of variables, or by its alias (showAlias = yes)."""
        first, *suffixes = _VARIABLE_PATTERN.split(self.name)
        if not suffixes:
            return named in {first, self.alias}
        return named == self.alias or (named.startswith(first) and named.endswith(suffixes[-1]))
