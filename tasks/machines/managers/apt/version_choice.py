"""Who publishes which versions, which one apt itself would take, and why it takes no other. Pure.

apt's rule (apt_preferences(5), pkgPolicy::GetCandidateVer): of the versions with the highest priority it takes the
newest. So an older version than its candidate is taken only if it has the same priority: then apt would take it if the
candidate were not there.
"""

from collections.abc import Iterable, Mapping

from inventory.data_class import dataclass
from tasks.domain.states import Classification
from tasks.machines.managers.apt.output_parsers import AvailableVersion, PackagePolicy, Release

_DISTRIBUTIONS = frozenset({"Debian", "Ubuntu"})
"""The publishers of which it is certain that they publish security fixes in an archive of their own."""


def is_security_release(release: Release) -> bool:
    """Return whether a release has only security fixes: Debian-Security, jammy-security, UbuntuESM's …-security."""
    return release.label == "Debian-Security" or any(
        name.endswith("-security") for name in (release.archive, release.codename)
    )


def find_security_publishers(releases: Iterable[Release]) -> frozenset[str]:
    """Return the publishers whose security archive is configured.

    Each vouches for itself only: UbuntuESM's archives do not have Ubuntu's fixes, and a vendor's have nobody else's.
    """
    return frozenset(_get_publisher(release) for release in releases if is_security_release(release))


def find_distributions_without_security(releases: Iterable[Release]) -> tuple[str, ...]:
    """Return the distributions that are configured without their security archive."""
    releases = tuple(releases)
    return tuple(sorted(_DISTRIBUTIONS & {*map(_get_publisher, releases)} - find_security_publishers(releases)))


def classify_releases(
    newer: Iterable[Release], wanted: Iterable[Release], security_publishers: frozenset[str]
) -> Classification:
    """Return the classification of a package's newer versions.

    Any security fix among them counts, even if a still newer version that includes it has another publisher. If a
    publisher of ``wanted``, the version to install, has a security archive, the version is no security fix.
    """
    urgent = [release for release in newer if is_security_release(release)]
    if not urgent:
        vouched = any(_get_publisher(release) in security_publishers for release in wanted)
        return Classification.OTHER if vouched else Classification.UNCLASSIFIED
    paid = all(_get_publisher(release).startswith("UbuntuESM") for release in urgent)
    return Classification.SECURITY_ESM if paid else Classification.SECURITY


def find_releases(offers: Iterable[AvailableVersion], releases: Mapping[str, Release]) -> list[Release]:
    """Return the releases of the index files that offer these versions."""
    return [releases[source] for offer in offers for source in offer.index_files if source in releases]


def is_security_version(offer: AvailableVersion, releases: Mapping[str, Release]) -> bool:
    """Return whether an index file of a security archive offers a version."""
    return any(map(is_security_release, find_releases([offer], releases)))


def find_vendors(offers: Iterable[AvailableVersion], releases: Mapping[str, Release]) -> set[str]:
    """Return the vendors of versions. A distribution and its extended support are one vendor."""
    names = {_get_publisher(release) for release in find_releases(offers, releases)} - {""}
    return {"Ubuntu" if name.startswith("UbuntuESM") else name for name in names}


def _get_publisher(release: Release) -> str:
    return release.origin or release.label


_DOWNGRADE_PRIORITY = 1000
"""From this priority on, apt takes a version that is older than the installed one."""
_PHASE_POLICY_PRIORITY = 1
"""What a version that has not reached the machine gets with the option APT::Get::Phase-Policy."""


@dataclass(frozen=True, slots=True)
class WithheldVersion:
    """A newer version that apt does not take, and why."""

    offer: AvailableVersion
    reason: str


@dataclass(frozen=True, slots=True)
class VersionChoice:
    """What apt would do with an installed package.

    Attributes:
        wanted: the newer version that apt would take; None: it keeps the installed one.
        security_version: the newest version of a security archive, older than ``wanted``, that apt would take too.
        older: all versions between the installed one and ``wanted`` that apt would take, newest first.
        withheld: newer versions that apt does not take now, though they are security fixes or its candidate.
    """

    wanted: AvailableVersion | None
    security_version: str = ""
    older: tuple[str, ...] = ()
    withheld: tuple[WithheldVersion, ...] = ()


def choose_version(policy: PackagePolicy, releases: Mapping[str, Release], upgraded_to: str | None) -> VersionChoice:
    """Return the choice of apt for an installed package.

    ``upgraded_to`` is the version to which apt's own upgrade would bring it now; None: it would leave it as it is.
    """
    held_back = frozenset(
        offer
        for offer in policy.newer_versions
        if offer.is_phased and offer.version != upgraded_to and not is_security_version(offer, releases)
    )
    candidate = _find_candidate(policy, held_back)
    newer = [offer for offer in policy.newer_versions if offer not in held_back]
    chosen = candidate if candidate in newer else None
    older = newer[newer.index(chosen) + 1 :] if chosen else []
    have = _find_current_vendors(policy, releases)
    takeable = [
        offer
        for offer in older
        if chosen
        and offer.index_files
        and offer.priority >= chosen.priority
        and not _describe_change(have, find_vendors([offer], releases))
    ]
    withheld: list[WithheldVersion] = []
    fix = next((offer for offer in newer if is_security_version(offer, releases)), None)
    if fix is not None and fix is not chosen and fix not in older:
        withheld.append(WithheldVersion(fix, _describe_pin(policy, fix, candidate, releases)))
    withheld += [
        WithheldVersion(
            offer,
            f"PHASED: its publisher is rolling {offer.version} out step by step ({offer.phased} % of the machines now)"
            ", and apt does not take it on this machine yet",
        )
        for offer in policy.newer_versions
        if offer in held_back and (offer.version == policy.candidate or offer.priority == _PHASE_POLICY_PRIORITY)
    ][:1]
    fixes = (offer.version for offer in takeable if is_security_version(offer, releases))
    return VersionChoice(
        wanted=chosen,
        security_version="" if chosen is None or is_security_version(chosen, releases) else next(fixes, ""),
        older=tuple(offer.version for offer in takeable),
        withheld=tuple(withheld),
    )


def _find_candidate(policy: PackagePolicy, held_back: frozenset[AvailableVersion]) -> AvailableVersion | None:
    """Return apt's candidate, or the version that would be it without those that apt holds back."""
    if any(offer.version == policy.candidate for offer in held_back):
        possible = [offer for offer in policy.newer_versions if offer not in held_back]
        possible += [
            offer
            for offer in policy.older_versions
            if offer.version == policy.installed or offer.priority >= _DOWNGRADE_PRIORITY
        ]
        possible = [offer for offer in possible if offer.priority > 0]
    else:  # two publishers may have a version of the same name: apt lists both
        table = (*policy.newer_versions, *policy.older_versions)
        possible = [offer for offer in table if offer.version == policy.candidate]
    return max(possible, key=lambda offer: offer.priority, default=None)


def describe_vendor_change(policy: PackagePolicy, offer: AvailableVersion, releases: Mapping[str, Release]) -> str:
    """Return "A -> B" if no publisher of a version publishes the installed or an older one, else ""."""
    return _describe_change(_find_current_vendors(policy, releases), find_vendors([offer], releases))


def _find_current_vendors(policy: PackagePolicy, releases: Mapping[str, Release]) -> set[str]:
    current = [offer for offer in policy.older_versions if offer.version == policy.installed]
    return find_vendors(current, releases) or find_vendors(policy.older_versions, releases)


def _describe_change(have: set[str], comes: set[str]) -> str:
    return f"{', '.join(sorted(have))} -> {', '.join(sorted(comes))}" if have and comes and not have & comes else ""


def _describe_pin(
    policy: PackagePolicy, fix: AvailableVersion, candidate: AvailableVersion | None, releases: Mapping[str, Release]
) -> str:
    refused = _describe_priority(fix, releases)
    if fix.priority <= 0 or candidate is None:
        remark = f"apt never takes {refused}"
    else:
        remark = f"apt prefers {_describe_priority(candidate, releases)} to {refused}"
    return f"PINNED: {remark}, by the priorities of the machine (apt-cache policy {policy.name})"


def _describe_priority(offer: AvailableVersion, releases: Mapping[str, Release]) -> str:
    origins = dict.fromkeys(str(release) for release in find_releases([offer], releases))
    return f"{offer.version} (priority {', '.join([str(offer.priority), *origins])})"
