"""Builds the pending updates from apt's data: version, publisher, classification and group.

An update is pending if apt's candidate is newer than the installed version. ``apt-get dist-upgrade`` does not decide
this: it leaves out held packages, and those that another upgrade would remove. It says which new packages would be
installed as dependencies, because the policy of an installed package does not say that, and whether a version that is
rolled out step by step has reached this machine.
"""

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

from tasks.domain.model import Update
from tasks.domain.states import SUBSCRIPTION_REQUIRED, Classification
from tasks.machines.managers.apt.output_parsers import (
    AvailableVersion,
    PackageChange,
    PackagePolicy,
    Release,
    parse_origin,
)
from tasks.machines.managers.apt.version_choice import (
    VersionChoice,
    choose_version,
    classify_releases,
    describe_vendor_change,
    find_releases,
    find_security_publishers,
)
from tasks.machines.managers.boot_packages import is_boot_package
from tasks.rules.machine_checks.report_limits import MAX_UPDATES, require_count

_KERNEL_PATTERN = re.compile(
    r"^(linux-(image|generic|virtual|aws|azure|gcp|oracle)|(pve|proxmox)-kernel|(intel|amd64)-microcode)"
)
_DEPENDENCY_FIELDS = ("Pre-Depends", "Depends", "Recommends")
_DEPENDENCY_NAME_PATTERN = re.compile(r"(?:^|[,|])\s*([A-Za-z0-9][A-Za-z0-9+._\-]*)")


@dataclass(frozen=True, slots=True)
class AptState:
    """What the machine's apt says about newer versions.

    Attributes:
        native_architecture: the machine's own architecture.
        held: names on hold, as apt writes them.
        stanzas: the output of ``apt-cache show`` for every version of these packages.
        changes: what a dist-upgrade would install.
    """

    native_architecture: str
    policies: tuple[PackagePolicy, ...]
    releases: Mapping[str, Release]
    held: frozenset[str]
    stanzas: tuple[Mapping[str, str], ...]
    changes: tuple[PackageChange, ...] = ()


def build_pending_updates(apt_state: AptState) -> tuple[Update, ...]:
    """Return the pending updates: first those of installed packages, then their new dependencies.

    Raises:
        ReportTooLarge: there are more of them than any real machine lacks.
    """
    names = {policy.name for policy in apt_state.policies} | {change.name for change in apt_state.changes}
    require_count(len(names), MAX_UPDATES, "updates")
    index = _Index.build(apt_state)
    upgraded_to = {change.name: change.new_version for change in apt_state.changes}
    upgrades: list[Update] = []
    for policy in apt_state.policies:
        choice = choose_version(policy, apt_state.releases, upgraded_to.get(policy.name))
        upgrades += _build_upgrades(policy, choice, apt_state, index)
    fresh = [change for change in apt_state.changes if change.old_version is None]
    return (*upgrades, *_build_new_packages(fresh, upgrades, apt_state, index))


def build_full_name(stanza: Mapping[str, str], native: str) -> str:
    """Return a package's name as apt writes it: with its architecture only if that is a foreign one."""
    name, arch = stanza.get("Package", ""), stanza.get("Architecture", "")
    return name if arch in {native, "all", ""} else f"{name}:{arch}"


@dataclass(frozen=True, slots=True)
class _Index:
    """What apt says, by names.

    Attributes:
        stanzas: name and version -> the version's stanza.
        sources: name -> source package, of any version: a stanza is not known of every version.
        publishers: name of a release, as a simulation prints it -> the release.
        security_publishers: the publishers whose security archive is configured.
    """

    stanzas: Mapping[tuple[str, str], Mapping[str, str]]
    sources: Mapping[str, str]
    publishers: Mapping[str, Release]
    security_publishers: frozenset[str]

    @classmethod
    def build(cls, apt_state: AptState) -> "_Index":
        """Return the index of what apt says."""
        named = [(build_full_name(stanza, apt_state.native_architecture), stanza) for stanza in apt_state.stanzas]
        return cls(
            stanzas={(name, stanza.get("Version", "")): stanza for name, stanza in named},
            sources={name: _parse_source_package(stanza) for name, stanza in named},
            publishers={str(release): release for release in apt_state.releases.values()},
            security_publishers=find_security_publishers(apt_state.releases.values()),
        )

    def find_stanza(self, name: str, version: str) -> Mapping[str, str]:
        """Return a version's stanza; empty when it is not known."""
        return self.stanzas.get((name, version), {})

    def find_source(self, name: str, version: str) -> str:
        """Return the name of a version's source package, or what it was for another version."""
        stanza = self.stanzas.get((name, version))
        source_package = self.sources.get(name, "") if stanza is None else _parse_source_package(stanza)
        return source_package or name.partition(":")[0]


def _build_upgrades(policy: PackagePolicy, choice: VersionChoice, apt_state: AptState, index: _Index) -> list[Update]:
    """Return what is pending of an installed package: what apt would take, then the versions that it withholds."""
    if policy.installed is None:
        return []
    updates: list[Update] = []
    if choice.wanted is not None:
        upgrade = _build_upgrade(policy, choice.wanted, apt_state, index)
        updates.append(replace(upgrade, security_version=choice.security_version, older_versions=choice.older))
    for withheld in choice.withheld:
        update = _build_upgrade(policy, withheld.offer, apt_state, index, beside=choice.wanted)
        update = replace(update, blocked=withheld.reason)
        updates.append(replace(update, id=f"{update.id}={update.available}") if updates else update)
    return updates


def _build_upgrade(
    policy: PackagePolicy,
    wanted: AvailableVersion,
    apt_state: AptState,
    index: _Index,
    beside: AvailableVersion | None = None,
) -> Update:
    """Return an update; what an older one ``beside`` it fixes does not count."""
    newer = policy.newer_versions
    fixed = newer[newer.index(wanted) : newer.index(beside) if beside else None]
    releases = find_releases(fixed, apt_state.releases)
    name, stanza = policy.name.partition(":")[0], index.find_stanza(policy.name, wanted.version)
    return Update(
        id=policy.name,
        name=name,
        arch=stanza.get("Architecture") or policy.name.partition(":")[2] or apt_state.native_architecture,
        installed=policy.installed,
        available=wanted.version,
        classification=classify_releases(
            releases, find_releases([wanted], apt_state.releases), index.security_publishers
        ),
        origins=tuple(dict.fromkeys(str(release) for release in releases)),
        size_bytes=_parse_size(stanza),
        group=index.find_source(policy.name, wanted.version),
        held=policy.name in apt_state.held,
        requires_reboot=True if _KERNEL_PATTERN.match(name) else None,
        changes_boot=is_boot_package(name),
        vendor_change=describe_vendor_change(policy, wanted, apt_state.releases),
    )


def _parse_size(stanza: Mapping[str, str]) -> int | None:
    size = stanza.get("Size", "")
    return int(size) if size.isascii() and size.isdigit() and len(size) < 19 else None


def _parse_source_package(stanza: Mapping[str, str]) -> str:
    return stanza.get("Source", "").partition(" ")[0]


def _build_new_packages(
    fresh: Sequence[PackageChange], upgrades: Sequence[Update], apt_state: AptState, index: _Index
) -> list[Update]:
    """Return the new packages that upgrades install as dependencies (a kernel's metapackage installs the kernel).

    Each gets the classification and the group of the upgrade that needs it, so that both are selected together.
    """
    waiting = {change.name: change for change in fresh}
    providers: dict[str, list[str]] = {}
    for change in fresh:
        provides = index.find_stanza(change.name, change.new_version).get("Provides", "")
        for name in {change.name.partition(":")[0], *_DEPENDENCY_NAME_PATTERN.findall(provides)}:
            providers.setdefault(name, []).append(change.name)
    updates: list[Update] = []
    bringers = [update for update in upgrades if not update.blocked]
    while bringers:  # each searches its dependencies only once: a chain of packages may be long
        brought = [
            (waiting.pop(name), update)
            for update in bringers
            for name in _list_dependencies(update, providers, index)
            if name in waiting
        ]
        bringers = [_build_new_package(change, by, apt_state, index) for change, by in brought]
        updates += bringers
    return [*updates, *(_build_new_package(change, None, apt_state, index) for change in waiting.values())]


def _list_dependencies(update: Update, providers: dict[str, list[str]], index: _Index) -> Iterator[str]:
    """Yield the new packages on which an update depends, and remove them from ``providers``."""
    stanza = index.find_stanza(update.id, update.available)
    for key in _DEPENDENCY_FIELDS:
        for name in _DEPENDENCY_NAME_PATTERN.findall(stanza.get(key, "")):
            yield from providers.pop(name, ())


def _build_new_package(change: PackageChange, bringer: Update | None, apt_state: AptState, index: _Index) -> Update:
    releases = [index.publishers.get(origin) or parse_origin(origin) for origin in change.origins]
    name, stanza = change.name.partition(":")[0], index.find_stanza(change.name, change.new_version)
    return Update(
        id=change.name,
        name=name,
        arch=change.arch,
        installed=None,
        available=change.new_version,
        classification=bringer.classification
        if bringer
        else classify_releases(releases, releases, index.security_publishers),
        origins=change.origins,
        size_bytes=_parse_size(stanza),
        group=bringer.group if bringer else index.find_source(change.name, change.new_version),
        held=bool(bringer and bringer.held) or change.name in apt_state.held,
        requires_reboot=True if _KERNEL_PATTERN.match(name) else None,
        changes_boot=is_boot_package(name),
        needed_by=bringer.id if bringer else "",
        optional="" if bringer else "a new package, and no known update needs it",
    )


_PRO_SERVICE_NAMES = {"esm-infra": "Ubuntu Pro (esm-infra)", "esm-apps": "Ubuntu Pro (esm-apps)"}


def with_pro_updates(
    updates: Sequence[Update], answer: str, native: str, installed: Mapping[str, str]
) -> tuple[Update, ...]:
    """Add the data of Ubuntu Pro's client: CVEs, and fixes that need a subscription.

    ``answer`` is the JSON of ``pro api u.pro.packages.updates.v1`` or ``…updates_with_cves.v1``; invalid JSON adds
    nothing.
    """
    pro_updates = _parse_pro_updates(answer)
    cves = {str(item["package"]): _parse_cves(item["related_cves"]) for item in pro_updates if "related_cves" in item}
    enriched = tuple(replace(update, cves=cves.get(update.name, update.cves)) for update in updates)
    taken = {update.id for update in updates}
    lacking = (
        _build_unpaid_update(item, native, installed, taken)
        for item in pro_updates
        if str(item.get("status")) in {"pending_attach", "pending_enable"}
    )
    return (*enriched, *lacking)


def _parse_pro_updates(answer: str) -> list[dict[str, object]]:
    try:
        items = json.loads(answer)["data"]["attributes"]["updates"]
    except (ValueError, TypeError, KeyError, RecursionError):
        return []
    return [item for item in items if isinstance(item, dict) and item.get("package")] if isinstance(items, list) else []


def _parse_cves(names: object) -> tuple[str, ...] | None:
    return tuple(str(name) for name in names) if isinstance(names, list) else None


def _build_unpaid_update(
    item: Mapping[str, object], native: str, installed: Mapping[str, str], taken: set[str]
) -> Update:
    name, size = str(item["package"]), item.get("download_size")
    service = _PRO_SERVICE_NAMES.get(str(item.get("provided_by")), "Ubuntu Pro")
    blocked = f"{SUBSCRIPTION_REQUIRED}: needs {service}; run: pro attach"
    if item.get("status") != "pending_attach":  # it is paid
        blocked = f"{service} is not enabled on this machine; run: pro enable {item.get('provided_by')}"
    return Update(
        id=f"{name}+esm" if name in taken else name,
        name=name,
        arch=native,
        installed=installed.get(name),
        available=str(item.get("version") or "UA_ESM_Required"),
        classification=Classification.SECURITY_ESM,
        origins=(str(item.get("origin") or service),),
        cves=_parse_cves(item.get("related_cves")),
        size_bytes=size if isinstance(size, int) and not isinstance(size, bool) and 0 <= size < 2**63 else None,
        group=name,
        changes_boot=is_boot_package(name),
        blocked=blocked,
    )
