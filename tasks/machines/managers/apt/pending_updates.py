"""Builds the pending updates from apt's data and Ubuntu Pro's: version, publisher, classification and group. Pure.

An update is pending if apt's candidate is newer than the installed version. ``apt-get dist-upgrade`` does not decide
this: it leaves out held packages, and those that another upgrade would remove. It says which new packages would be
installed as dependencies, because the policy of an installed package does not say that, and whether a version that is
rolled out step by step has reached this machine.
"""

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any

from inventory.data_class import dataclass
from tasks.domain.model import Update
from tasks.domain.states import SUBSCRIPTION_REQUIRED, Classification
from tasks.machines.managers.apt.dpkg_state import build_dpkg_name
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
from tasks.machines.managers.pending_updates import build_new_packages, is_boot_package
from tasks.machines.managers.script_output import find_pro_attribute, parse_natural
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
    builder = _UpdateBuilder(apt_state)
    upgraded_to = {change.name: change.new_version for change in apt_state.changes}
    upgrades = [
        update
        for policy in apt_state.policies
        if policy.installed is not None
        for update in builder.build_upgrades(
            policy, choose_version(policy, apt_state.releases, upgraded_to.get(policy.name))
        )
    ]
    new_packages = {change.name: change for change in apt_state.changes if change.old_version is None}
    providers: dict[str, list[str]] = {}
    for change in new_packages.values():
        provides = builder.find_stanza(change.name, change.new_version).get("Provides", "")
        for name in {change.name.partition(":")[0], *_DEPENDENCY_NAME_PATTERN.findall(provides)}:
            providers.setdefault(name, []).append(change.name)

    def list_needs(update: Update) -> Iterator[str]:  # each searches its dependencies only once: a chain may be long
        stanza = builder.find_stanza(update.id, update.available)
        for key in _DEPENDENCY_FIELDS if not update.blocked else ():
            for name in _DEPENDENCY_NAME_PATTERN.findall(stanza.get(key, "")):
                yield from providers.pop(name, ())

    return (*upgrades, *build_new_packages(new_packages, upgrades, list_needs, builder.build_new_package))


class _UpdateBuilder:
    """Builds updates from what apt says, by names."""

    def __init__(self, state: AptState) -> None:
        self._state = state
        self._stanzas: dict[tuple[str, str], Mapping[str, str]] = {}
        self._sources: dict[str, str] = {}  # of any version: a stanza is not known of every version
        for stanza in state.stanzas:
            name = build_dpkg_name(stanza.get("Package", ""), stanza.get("Architecture", ""), state.native_architecture)
            self._stanzas[name, stanza.get("Version", "")] = stanza
            self._sources[name] = stanza.get("Source", "").partition(" ")[0]
        self._publishers = {str(release): release for release in state.releases.values()}
        self._security_publishers = find_security_publishers(state.releases.values())

    def find_stanza(self, name: str, version: str) -> Mapping[str, str]:
        """Return a version's stanza; empty when it is not known."""
        return self._stanzas.get((name, version), {})

    def build_upgrades(self, policy: PackagePolicy, choice: VersionChoice) -> Iterator[Update]:
        """Yield what is pending of an installed package: what apt would take, then the versions that it withholds."""
        if choice.wanted is not None:
            yield self._build_upgrade(
                policy, choice.wanted, security_version=choice.security_version, older_versions=choice.older
            )
        for number, withheld in enumerate(choice.withheld, start=choice.wanted is not None):
            name, version = policy.name, withheld.offer.version
            yield self._build_upgrade(
                policy,
                withheld.offer,
                choice.wanted,
                id=f"{name}={version}" if number else name,
                blocked=withheld.reason,
            )

    def _build_upgrade(
        self,
        policy: PackagePolicy,
        wanted: AvailableVersion,
        beside: AvailableVersion | None = None,
        **fields: Any,  # noqa: ANN401 - of Update
    ) -> Update:
        """Return an update with these fields; what an older one ``beside`` it fixes does not count."""
        newer, all_releases = policy.newer_versions, self._state.releases
        fixed = newer[newer.index(wanted) : newer.index(beside) if beside else None]
        arch = self.find_stanza(policy.name, wanted.version).get("Architecture") or policy.name.partition(":")[2]
        return self._build(
            PackageChange(policy.name, arch or self._state.native_architecture, policy.installed, wanted.version),
            find_releases(fixed, all_releases),
            find_releases([wanted], all_releases),
            vendor_change=describe_vendor_change(policy, wanted, all_releases),
            previous_offered=any(
                offer.version == policy.installed and find_releases([offer], all_releases)
                for offer in policy.older_versions
            ),
            **fields,
        )

    def build_new_package(self, change: PackageChange, bringer: Update | None) -> Update:
        """Return a new package, with the classification and the group of the upgrade that needs it.

        So both are selected together.
        """
        releases = [self._publishers.get(origin) or parse_origin(origin) for origin in change.origins]
        update = replace(self._build(change, releases, releases), origins=change.origins)
        if bringer is None:
            return replace(update, optional="a new package, and no known update needs it")
        return replace(
            update,
            classification=bringer.classification,
            group=bringer.group,
            held=bringer.held or update.held,
            needed_by=bringer.id,
        )

    def _build(
        self,
        change: PackageChange,
        newer: Sequence[Release],
        wanted: Sequence[Release],
        **fields: Any,  # noqa: ANN401 - of Update
    ) -> Update:
        name, stanza = change.name.partition(":")[0], self.find_stanza(change.name, change.new_version)
        source = stanza.get("Source", "").partition(" ")[0] if stanza else self._sources.get(change.name, "")
        return Update(
            id=fields.pop("id", change.name),
            name=name,
            arch=change.arch,
            installed=change.old_version,
            available=change.new_version,
            classification=classify_releases(newer, wanted, self._security_publishers),
            origins=tuple(dict.fromkeys(map(str, newer))),
            size_bytes=parse_natural(stanza.get("Size", "")),
            group=source or name,
            held=change.name in self._state.held,
            requires_reboot=True if _KERNEL_PATTERN.match(name) else None,
            changes_boot=is_boot_package(name),
            **fields,
        )


_PRO_SERVICE_NAMES = {"esm-infra": "Ubuntu Pro (esm-infra)", "esm-apps": "Ubuntu Pro (esm-apps)"}


def with_pro_updates(
    updates: Sequence[Update], answer: str, native: str, installed: Mapping[str, str]
) -> tuple[Update, ...]:
    """Add the data of Ubuntu Pro's client: CVEs, and fixes that need a subscription.

    ``answer`` is the JSON of ``pro api u.pro.packages.updates.v1`` or ``…updates_with_cves.v1``; invalid JSON adds
    nothing.
    """
    listed = find_pro_attribute(answer, "updates")
    entries = listed if isinstance(listed, list) else []
    pro_updates = [entry for entry in entries if isinstance(entry, dict) and entry.get("package")]
    cves = {
        str(pro_update["package"]): _parse_cves(pro_update["related_cves"])
        for pro_update in pro_updates
        if "related_cves" in pro_update
    }
    enriched = tuple(replace(update, cves=cves.get(update.name, update.cves)) for update in updates)
    update_ids = {update.id for update in updates}
    lacking = (
        _build_unpaid_update(pro_update, native, installed, update_ids)
        for pro_update in pro_updates
        if str(pro_update.get("status")) in {"pending_attach", "pending_enable"}
    )
    return (*enriched, *lacking)


def _parse_cves(names: object) -> tuple[str, ...] | None:
    return tuple(str(name) for name in names) if isinstance(names, list) else None


def _build_unpaid_update(
    pro_update: Mapping[str, object], native: str, installed: Mapping[str, str], update_ids: set[str]
) -> Update:
    name, size = str(pro_update["package"]), pro_update.get("download_size")
    service = _PRO_SERVICE_NAMES.get(str(pro_update.get("provided_by")), "Ubuntu Pro")
    blocked = f"{SUBSCRIPTION_REQUIRED}: needs {service}; run: pro attach"
    if pro_update.get("status") != "pending_attach":  # it is paid
        blocked = f"{service} is not enabled on this machine; run: pro enable {pro_update.get('provided_by')}"
    return Update(
        id=f"{name}+esm" if name in update_ids else name,
        name=name,
        arch=native,
        installed=installed.get(name),
        available=str(pro_update.get("version") or "UA_ESM_Required"),
        classification=Classification.SECURITY_ESM,
        origins=(str(pro_update.get("origin") or service),),
        cves=_parse_cves(pro_update.get("related_cves")),
        size_bytes=size if isinstance(size, int) and not isinstance(size, bool) and 0 <= size < 2**63 else None,
        group=name,
        changes_boot=is_boot_package(name),
        blocked=blocked,
    )
