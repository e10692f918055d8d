"""Builds the pending updates from apt's data: version, publisher, classification and group.

An update is pending if apt's candidate is newer than the installed version. ``apt-get dist-upgrade`` does not decide
this: it leaves out held packages, and those that another upgrade would remove. It only says which new packages would be
installed as dependencies, because the policy of an installed package does not say that.
"""

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

from tasks.managers.apt.output_parsers import AvailableVersion, PackageChange, PackagePolicy, Release, parse_origin
from tasks.managers.boot_packages import is_boot_package
from tasks.model import Update
from tasks.rules.machine_checks.report_limits import MAX_UPDATES, require_count
from tasks.states import Classification

_KERNEL_PATTERN = re.compile(
    r"^(linux-(image|generic|virtual|aws|azure|gcp|oracle)|(pve|proxmox)-kernel|(intel|amd64)-microcode)"
)
_DEPENDENCY_FIELDS = ("Pre-Depends", "Depends", "Recommends")
_DEPENDENCY_NAME_PATTERN = re.compile(r"(?:^|[,|])\s*([a-z0-9][a-z0-9+.\-]*)")
_PHASED_REASON = "PHASED: its publisher is rolling it out step by step and has not reached this machine"


@dataclass(frozen=True, slots=True)
class AptState:
    """What the machine's apt says about newer versions.

    Attributes:
        native_architecture: the machine's own architecture.
        held: names on hold, as apt writes them.
        stanzas: the output of ``apt-cache show`` for every version of these packages.
        changes: what a dist-upgrade would install.
        deferred: names whose phased update has not reached this machine.
    """

    native_architecture: str
    policies: tuple[PackagePolicy, ...]
    releases: Mapping[str, Release]
    held: frozenset[str]
    stanzas: tuple[Mapping[str, str], ...]
    changes: tuple[PackageChange, ...] = ()
    deferred: frozenset[str] = frozenset()


def is_security_release(release: Release) -> bool:
    """Return whether a release has only security fixes: Debian-Security, jammy-security, UbuntuESM's …-security."""
    return release.label == "Debian-Security" or any(
        name.endswith("-security") for name in (release.archive, release.codename)
    )


def classify_releases(releases: Iterable[Release]) -> Classification:
    """Return the classification of a package's newer versions.

    Any security fix among them counts, even if a still newer version that includes it has another publisher.
    """
    urgent = [release for release in releases if is_security_release(release)]
    if not urgent:
        return Classification.OTHER
    paid = all((release.origin or release.label).startswith("UbuntuESM") for release in urgent)
    return Classification.SECURITY_ESM if paid else Classification.SECURITY


def build_pending_updates(apt_state: AptState) -> tuple[Update, ...]:
    """Return the pending updates: first those of installed packages, then their new dependencies.

    Raises:
        ReportTooLarge: there are more of them than any real machine lacks.
    """
    names = {policy.name for policy in apt_state.policies} | {change.name for change in apt_state.changes}
    require_count(len(names), MAX_UPDATES, "updates")
    stanzas = {
        (build_full_name(stanza, apt_state.native_architecture), stanza.get("Version", "")): stanza
        for stanza in apt_state.stanzas
    }
    upgrades = [update for policy in apt_state.policies if (update := _build_upgrade(policy, apt_state, stanzas))]
    fresh = [change for change in apt_state.changes if change.old_version is None]
    updates = (*upgrades, *_build_new_packages(fresh, upgrades, stanzas, apt_state))
    if any(is_security_release(release) for release in apt_state.releases.values()):
        return updates
    # No configured repository marks security fixes. That does not mean that there are none.
    return tuple(replace(update, classification=Classification.UNCLASSIFIED) for update in updates)


def build_full_name(stanza: Mapping[str, str], native: str) -> str:
    """Return a package's name as apt writes it: with its architecture only if that is a foreign one."""
    name, arch = stanza.get("Package", ""), stanza.get("Architecture", "")
    return name if arch in {native, "all", ""} else f"{name}:{arch}"


_StanzasByVersion = Mapping[tuple[str, str], Mapping[str, str]]


def _build_upgrade(policy: PackagePolicy, apt_state: AptState, stanzas: _StanzasByVersion) -> Update | None:
    wanted = next((offer for offer in policy.newer_versions if offer.version == policy.candidate), None)
    pinned = wanted is None
    secure = next((offer for offer in policy.newer_versions if _is_security_version(offer, apt_state)), None)
    if wanted is None:  # apt's preferences pin it: report it only if that prevents a security fix
        wanted = secure
    if wanted is None or policy.installed is None:
        return None
    releases = [
        apt_state.releases[source]
        for offer in policy.newer_versions
        for source in offer.index_files
        if source in apt_state.releases
    ]
    name, stanza = policy.name.partition(":")[0], stanzas.get((policy.name, wanted.version), {})
    return Update(
        id=policy.name,
        name=name,
        arch=stanza.get("Architecture") or policy.name.partition(":")[2] or apt_state.native_architecture,
        installed=policy.installed,
        available=wanted.version,
        classification=classify_releases(releases),
        origins=tuple(dict.fromkeys(str(release) for release in releases)),
        size_bytes=_parse_size(stanza),
        group=_parse_source_package(stanza) or name,
        held=pinned or policy.name in apt_state.held,
        blocked=_PHASED_REASON if policy.name in apt_state.deferred else "",
        requires_reboot=True if _KERNEL_PATTERN.match(name) else None,
        changes_boot=is_boot_package(name),
        security_version="" if secure is None or secure.version == wanted.version else secure.version,
        vendor_change=_describe_vendor_change(policy, wanted, apt_state),
        older_versions=_list_older_versions(policy, wanted),
    )


def _list_older_versions(policy: PackagePolicy, wanted: AvailableVersion) -> tuple[str, ...]:
    """Return the versions between the installed one and the wanted one that index files still offer, newest first."""
    newer = policy.newer_versions  # newest first
    return tuple(offer.version for offer in newer[newer.index(wanted) + 1 :] if offer.index_files)


def _describe_vendor_change(policy: PackagePolicy, wanted: AvailableVersion, apt_state: AptState) -> str:
    """Return "A -> B" if no publisher of the wanted version publishes the installed or an older one, else ""."""
    current = [offer for offer in policy.older_versions if offer.version == policy.installed]
    have = _find_vendors(current, apt_state) or _find_vendors(policy.older_versions, apt_state)
    comes = _find_vendors([wanted], apt_state)
    return f"{', '.join(sorted(have))} -> {', '.join(sorted(comes))}" if have and comes and not have & comes else ""


def _find_vendors(offers: Iterable[AvailableVersion], apt_state: AptState) -> set[str]:
    releases = [
        apt_state.releases[source] for offer in offers for source in offer.index_files if source in apt_state.releases
    ]
    names = {release.origin or release.label for release in releases} - {""}
    return {"Ubuntu" if name.startswith("UbuntuESM") else name for name in names}


def _is_security_version(offer: AvailableVersion, apt_state: AptState) -> bool:
    return any(
        is_security_release(apt_state.releases[source]) for source in offer.index_files if source in apt_state.releases
    )


def _parse_size(stanza: Mapping[str, str]) -> int | None:
    size = stanza.get("Size", "")
    return int(size) if size.isascii() and size.isdigit() and len(size) < 19 else None


def _parse_source_package(stanza: Mapping[str, str]) -> str:
    return stanza.get("Source", "").partition(" ")[0]


def _build_new_packages(
    fresh: Sequence[PackageChange], upgrades: Sequence[Update], stanzas: _StanzasByVersion, apt_state: AptState
) -> list[Update]:
    """Return the new packages that upgrades install as dependencies (a kernel's metapackage installs the kernel).

    Each gets the classification and the group of the upgrade that needs it, so that both are selected together.
    """
    waiting: dict[str, list[PackageChange]] = {}
    for change in fresh:
        waiting.setdefault(change.name.partition(":")[0], []).append(change)
    found: list[Update] = []
    bringers = list(upgrades)
    while bringers:  # each searches its dependencies only once: a chain of packages may be long
        brought = [(change, update) for update in bringers for change in _pop_dependencies(update, waiting, stanzas)]
        bringers = [
            _build_new_package(change, by, stanzas.get((change.name, change.new_version), {}), apt_state)
            for change, by in brought
        ]
        found += bringers
    left = [change for changes in waiting.values() for change in changes]
    return [
        *found,
        *(_build_new_package(each, None, stanzas.get((each.name, each.new_version), {}), apt_state) for each in left),
    ]


def _pop_dependencies(
    update: Update, waiting: dict[str, list[PackageChange]], stanzas: _StanzasByVersion
) -> Iterator[PackageChange]:
    """Yield the waiting packages on which an update depends, and remove them from ``waiting``."""
    stanza = stanzas.get((update.id, update.available), {})
    for key in _DEPENDENCY_FIELDS:
        for name in _DEPENDENCY_NAME_PATTERN.findall(stanza.get(key, "")):
            yield from waiting.pop(name, ())


def _build_new_package(
    change: PackageChange, bringer: Update | None, stanza: Mapping[str, str], apt_state: AptState
) -> Update:
    name, releases = change.name.partition(":")[0], [parse_origin(origin) for origin in change.origins]
    return Update(
        id=change.name,
        name=name,
        arch=change.arch,
        installed=None,
        available=change.new_version,
        classification=bringer.classification if bringer else classify_releases(releases),
        origins=change.origins,
        size_bytes=_parse_size(stanza),
        group=bringer.group if bringer else _parse_source_package(stanza) or name,
        held=bool(bringer and bringer.held) or change.name in apt_state.held,
        requires_reboot=True if _KERNEL_PATTERN.match(name) else None,
        changes_boot=is_boot_package(name),
    )
