"""Chooses the version of an installed package that apt itself would take, and says why it takes no other. Pure.

apt's rule (apt_preferences(5), pkgPolicy::GetCandidateVer): of the versions with the highest priority it takes the
newest. So an older version than its candidate is taken only if it has the same priority: then apt would take it if the
candidate were not there.
"""

from collections.abc import Mapping
from dataclasses import dataclass

from tasks.machines.managers.apt.output_parsers import AvailableVersion, PackagePolicy, Release
from tasks.machines.managers.apt.publishers import find_releases, find_vendors, is_security_version

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

    Args:
        policy: apt's answer about it.
        releases: index file -> publisher.
        upgraded_to: the version to which apt's own upgrade would bring it now; None: it would leave it as it is.
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
        WithheldVersion(offer, _describe_phase(offer))
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


def _describe_phase(offer: AvailableVersion) -> str:
    return (
        f"PHASED: its publisher is rolling {offer.version} out step by step ({offer.phased} % of the machines now), "
        "and apt does not take it on this machine yet"
    )
