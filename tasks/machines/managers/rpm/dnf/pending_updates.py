"""Builds the pending updates from dnf's data: version, advisories, classification and group. Pure.

An update is pending if a repository offers a newer version, also when dnf itself would leave it out: then it is held or
blocked. The version to install is the one that dnf would install (see tasks.machines.managers.rpm.dnf.offers). A newer
security fix that it would not install is a pending update of its own. So is one that an advisory names and no
repository has.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import field, replace
from typing import Final

from inventory.data_class import dataclass
from tasks.domain.model import Update
from tasks.domain.states import Classification
from tasks.machines.managers.live_patches import is_live_patch_package
from tasks.machines.managers.pending_updates import build_new_packages, is_boot_package
from tasks.machines.managers.rpm.advisories import AdvisoryIndex, judge_update, require_few_cves
from tasks.machines.managers.rpm.dnf.holds import Holds
from tasks.machines.managers.rpm.dnf.offers import OfferedPackage, OfferJudge
from tasks.machines.managers.rpm.dnf.transaction import DnfTransaction
from tasks.machines.managers.rpm.kernels import replaces_core
from tasks.machines.managers.rpm.packages import InstalledPackage
from tasks.machines.managers.script_output import group_values
from tasks.machines.managers.versions import RpmVersion, find_epoch_prefix
from tasks.rules.machine_checks.report_limits import MAX_UPDATES, require_count

_OLDEST: Final = "0-0"
_MODULE: Final = ".module"
"""Part of the releases of modular packages. Rocky's advisories do not say which stream they are about."""


@dataclass(frozen=True, slots=True)
class DnfState:
    """What the machine's dnf says about newer versions.

    Attributes:
        offers: newer versions of installed packages; others among them do no harm.
        hidden_offers: those that dnf offers only when nothing is excluded.
        new_packages: packages that are not installed and that updates need, or that replace installed ones.
        needed_by: id of a new package -> ids of the packages that need it.
        advisory_sources: repository -> whether it has advisories.
        reboot_suggested: name and version of packages whose advisory suggests a reboot.
        transaction: what dnf would install if it upgraded everything that it can.
        priorities: repository -> its priority, where it has another than 99. The lowest number comes first.
    """

    installed: Sequence[InstalledPackage]
    offers: Sequence[OfferedPackage]
    hidden_offers: Sequence[OfferedPackage] = ()
    new_packages: Sequence[OfferedPackage] = ()
    needed_by: Mapping[str, Sequence[str]] = field(default_factory=dict)
    advisories: AdvisoryIndex = field(default_factory=dict)
    advisory_sources: Mapping[str, bool] = field(default_factory=dict)
    reboot_suggested: frozenset[tuple[str, str]] = frozenset()
    transaction: DnfTransaction = field(default_factory=DnfTransaction)
    holds: Holds = field(default_factory=Holds)
    priorities: Mapping[str, int] = field(default_factory=dict)


def build_pending_updates(state: DnfState) -> tuple[Update, ...]:
    """Return the pending updates: first those of installed packages, then the new packages.

    Raises:
        ReportTooLarge: there are more updates, or CVEs, than any real machine lacks.
    """
    newest: dict[str, InstalledPackage] = {}
    for package in state.installed:
        newest_package = newest.get(package.id)
        if newest_package is None or RpmVersion(package.version) > RpmVersion(newest_package.version):
            newest[package.id] = package
    visible, hidden = _group_newer(state.offers, newest), _group_newer(state.hidden_offers, newest)
    names = tuple(dict.fromkeys((*visible, *hidden)))
    pending = [*(visible.get(name) or hidden[name] for name in names), *([package] for package in state.new_packages)]
    require_count(len(pending), MAX_UPDATES, "updates")
    require_few_cves(state.advisories.get((offers[0].name, offers[0].arch), ()) for offers in pending)
    updates = [
        update
        for name in names
        for update in _build_upgrades(newest[name], visible.get(name, ()), hidden.get(name, ()), state)
    ]
    for package in newest.values():
        updates += _build_lost_fixes(package, (*visible.get(package.id, ()), *hidden.get(package.id, ())), state)
    new_ids = {package.id for package in state.new_packages}
    needs = group_values(
        (needer, new) for new, needers in state.needed_by.items() if new in new_ids for needer in needers
    )
    new_packages = build_new_packages(
        {package.id: package for package in state.new_packages},
        updates,
        lambda update: needs.get(update.id, ()),
        lambda package, bringer: _build_new_package(package, bringer, state),
    )
    new_by_id = {update.id: update for update in new_packages}
    return (*updates, *(new_by_id[package.id] for package in state.new_packages))


def _group_newer(
    offers: Sequence[OfferedPackage], newest: Mapping[str, InstalledPackage]
) -> Mapping[str, Sequence[OfferedPackage]]:
    return group_values(
        (offer.id, offer)
        for offer in dict.fromkeys(offers)
        if (current := newest.get(offer.id)) and RpmVersion(offer.version) > RpmVersion(current.version)
    )


def _build_upgrades(
    current: InstalledPackage, visible: Sequence[OfferedPackage], hidden: Sequence[OfferedPackage], state: DnfState
) -> list[Update]:
    """Return what is pending for an installed package: the version to install, and newer fixes that can't be."""
    judge = OfferJudge(current, state.transaction, state.priorities)
    offers = visible or hidden
    choice = judge.choose(offers)
    usable = [offer for offer in offers if offer == choice or judge.may_replace(offer, choice)]
    first = _build_update(current, choice, usable, state, since=current.version)
    if not visible:
        first = replace(first, held=True)
    elif judge.is_left_out(choice) and not first.held:
        first = replace(first, blocked=judge.explain(choice))
    candidates = [first]
    for pool, is_hidden in ((visible, False), (hidden, True)):
        since = max((choice.version, candidates[-1].available), key=RpmVersion)
        later = [offer for offer in pool if RpmVersion(offer.version) > RpmVersion(since)]
        if not later:
            continue
        newest = max(later, key=lambda offer: RpmVersion(offer.version))
        fix = _build_update(current, newest, later, state, since=since)
        fix = replace(fix, id=f"{fix.id}={newest.version}", held=is_hidden or fix.held)
        # what a repository without advisories has is the owner's to judge if another one has priority over it
        is_unknown = fix.classification is Classification.UNCLASSIFIED and not judge.is_outranked(newest, choice)
        if fix.classification.is_urgent or (is_unknown and not fix.held):
            candidates.append(fix if fix.held else replace(fix, blocked=judge.explain(newest)))
    return candidates


def _build_lost_fixes(current: InstalledPackage, offers: Sequence[OfferedPackage], state: DnfState) -> Iterator[Update]:
    """Yield the newest security fix of which there is an advisory, if it is newer than all that repositories offer."""
    since = max((current.version, *(offer.version for offer in offers)), key=RpmVersion)
    versions = [
        (find_epoch_prefix(current.version) if not advisory.knows_epochs else "") + version
        for advisory in state.advisories.get((current.name, current.arch), ())
        for version in advisory.packages[current.name, current.arch]
        if advisory.is_security and _MODULE not in current.version + version
    ]
    version = max(versions, key=RpmVersion, default=since)
    if RpmVersion(version) <= RpmVersion(since):
        return
    lost = OfferedPackage(current.id, current.name, current.arch, version, "", None, "", "")
    fix = _build_update(current, lost, [lost], state, since=since)
    reason = f"no enabled repository has this version, which {fix.advisories[0]} names"
    if current.name in state.transaction.removals:
        reason = f"an upgrade replaces {current.name} by another package: {fix.advisories[0]} names this version"
    yield replace(fix, id=f"{fix.id}={version}", origins=(), blocked="" if fix.held else reason)


def _build_update(
    current: InstalledPackage | None,
    wanted: OfferedPackage,
    offers: Sequence[OfferedPackage],
    state: DnfState,
    *,
    since: str | None,
) -> Update:
    """Return the update to a version. ``offers`` are it and older ones that can be installed too, after ``since``."""
    newer = [offer for offer in offers if RpmVersion(offer.version) <= RpmVersion(wanted.version)]
    view = judge_update(
        state.advisories,
        (wanted.name, wanted.arch),
        installed=since,
        available=wanted.version,
        repository_has_advisories=state.advisory_sources.get(wanted.repository, False),
    )
    secure = [offer.version for offer in newer if offer.version in view.security_versions]
    security_version = max(secure, key=RpmVersion, default="")
    vendors = (current.vendor if current else "", wanted.vendor)
    older = {offer.version for offer in newer} - {wanted.version}
    suggests_reboot = any((offer.name, offer.version) in state.reboot_suggested for offer in newer)
    requires_reboot = True if suggests_reboot or replaces_core(wanted.name) else None
    return Update(
        id=wanted.id,
        name=wanted.name,
        arch=wanted.arch,
        installed=current.version if current else None,
        available=wanted.version,
        classification=view.classification,
        severity=view.severity,
        origins=tuple(dict.fromkeys(offer.repository for offer in newer)),
        cves=view.cves if view.ids or view.classification is not Classification.UNCLASSIFIED else None,
        size_bytes=wanted.size_bytes,
        group=wanted.source or wanted.name,
        held=current is not None and state.holds.hides(current, wanted.version),
        requires_reboot=False if is_live_patch_package(wanted.name) else requires_reboot,
        published=view.published,
        security_version="" if security_version == wanted.version else security_version,
        vendor_change=f"{vendors[0]} -> {vendors[1]}" if all(vendors) and vendors[0] != vendors[1] else "",
        changes_boot=is_boot_package(wanted.name),
        advisories=view.ids,
        older_versions=tuple(sorted(older, key=RpmVersion, reverse=True)),
    )


def _build_new_package(package: OfferedPackage, bringer: Update | None, state: DnfState) -> Update:
    """Return a new package. It gets classification and group of the update that needs it."""
    replaces = (package.name, package.arch) in state.transaction.obsoleters
    update = _build_update(None, package, [package], state, since=_OLDEST if replaces else None)
    if bringer is None or (replaces and update.classification.is_urgent):
        return update  # it is the fix of what it replaces, whatever else needs it
    return replace(
        update,
        classification=bringer.classification,
        severity=bringer.severity,
        group=bringer.group,
        held=bringer.held,
        needed_by=bringer.id,
    )
