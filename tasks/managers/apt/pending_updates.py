"""From what apt knows to pending updates: which version, from whom, how urgent, and what goes together.

An update is pending when apt's candidate is newer than what is installed. ``apt-get dist-upgrade`` is not asked which
ones those are: it leaves out what is held, and what another upgrade would remove. It is asked only which new packages
would come along, which no policy of an installed package can say.
"""

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

from tasks.managers.apt.output_parsers import AvailableVersion, PackageChange, PackagePolicy, Release, parse_origin
from tasks.model import Update
from tasks.states import Classification

_KERNEL_PATTERN = re.compile(
    r"^(linux-(image|generic|virtual|aws|azure|gcp|oracle)|(pve|proxmox)-kernel|(intel|amd64)-microcode)"
)
_DEPENDENCY_FIELDS = ("Pre-Depends", "Depends", "Recommends")
_DEPENDENCY_NAME_PATTERN = re.compile(r"(?:^|[,|])\s*([a-z0-9][a-z0-9+.\-]*)")
_PHASED_REASON = "PHASED: its publisher is rolling it out step by step and has not reached this machine"


@dataclass(frozen=True, slots=True)
class AptState:
    """All that the machine's apt said of what is newer.

    Attributes:
        native_architecture: the machine's own architecture.
        held: names on hold, as apt writes them.
        stanzas: what ``apt-cache show`` said of every version of these packages.
        changes: what a dist-upgrade would install.
        deferred: names whose update is not meant for this machine yet.
    """

    native_architecture: str
    policies: tuple[PackagePolicy, ...]
    releases: Mapping[str, Release]
    held: frozenset[str]
    stanzas: tuple[Mapping[str, str], ...]
    changes: tuple[PackageChange, ...] = ()
    deferred: frozenset[str] = frozenset()


def is_security_release(release: Release) -> bool:
    """Return whether a release carries security fixes only: Debian-Security, jammy-security, UbuntuESM's …-security."""
    return release.label == "Debian-Security" or any(
        name.endswith("-security") for name in (release.archive, release.codename)
    )


def classify_releases(releases: Iterable[Release]) -> Classification:
    """Return what a package's newer versions are for.

    Any security fix among them counts, also when a newer version that includes it comes from elsewhere.
    """
    urgent = [release for release in releases if is_security_release(release)]
    if not urgent:
        return Classification.OTHER
    paid = all((release.origin or release.label).startswith("UbuntuESM") for release in urgent)
    return Classification.SECURITY_ESM if paid else Classification.SECURITY


def build_pending_updates(apt_state: AptState) -> tuple[Update, ...]:
    """Return the pending updates, those of installed packages first, then the packages that come along with them."""
    stanzas = {
        (build_full_name(stanza, apt_state.native_architecture), stanza.get("Version", "")): stanza
        for stanza in apt_state.stanzas
    }
    upgrades = [update for policy in apt_state.policies if (update := _build_upgrade(policy, apt_state, stanzas))]
    fresh = [change for change in apt_state.changes if change.old_version is None]
    updates = (*upgrades, *_build_new_packages(fresh, upgrades, stanzas, apt_state))
    if any(is_security_release(release) for release in apt_state.releases.values()):
        return updates
    # nobody tells this machine what is a security fix: that is not the same as there being none
    return tuple(replace(update, classification=Classification.UNCLASSIFIED) for update in updates)


def build_full_name(stanza: Mapping[str, str], native: str) -> str:
    """Return a package's name as apt writes it: with its architecture only where that is a foreign one."""
    name, arch = stanza.get("Package", ""), stanza.get("Architecture", "")
    return name if arch in {native, "all", ""} else f"{name}:{arch}"


_StanzasByVersion = Mapping[tuple[str, str], Mapping[str, str]]


def _build_upgrade(policy: PackagePolicy, apt_state: AptState, stanzas: _StanzasByVersion) -> Update | None:
    wanted = next((offer for offer in policy.newer_versions if offer.version == policy.candidate), None)
    pinned = wanted is None
    secure = next((offer for offer in policy.newer_versions if _is_security_version(offer, apt_state)), None)
    if wanted is None:  # apt's preferences keep it where it is: worth a word only when that keeps a security fix away
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
        security_version="" if secure is None or secure.version == wanted.version else secure.version,
        vendor_change=_describe_vendor_change(policy, wanted, apt_state),
    )


def _describe_vendor_change(policy: PackagePolicy, wanted: AvailableVersion, apt_state: AptState) -> str:
    """Return "A -> B" when none that publishes the wanted version publishes the installed one, or else an older one."""
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
    """Return new packages that upgrades bring along (a kernel's metapackage brings the kernel).

    Each takes the classification and the group of the upgrade that brings it, for it is wanted exactly when that is.
    """
    waiting: dict[str, list[PackageChange]] = {}
    for change in fresh:
        waiting.setdefault(change.name.partition(":")[0], []).append(change)
    found: list[Update] = []
    bringers = list(upgrades)
    while bringers:  # each looks through its dependencies once: a chain of packages may be long
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
    """Give the packages among those that wait which an update depends on; they wait no longer."""
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
    )
