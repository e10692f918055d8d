"""Builds the pending updates from zypper's lists. Pure.

The unit of an update is a package, as everywhere, not a patch: so masks, holds and equal versions on canaries work.
An update is pending if ``zypper update`` would install it, if an administrator's lock is the only thing that prevents
it, or if zypper's own candidate is newer but can't be installed beside what is there. A version from another vendor, or
from a repository of lower priority, is none of these: zypper does not change to it, so it is not pending.

A patch gives the packages that it fixes its name, its classification and its CVEs. A needed patch that no pending
update fulfils is reported by itself, blocked, with the reason, so that none is lost: also if its packages have an
update to a version between, or come from another vendor.
"""

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import field, replace
from typing import Final

from inventory.data_class import dataclass
from tasks.domain.model import Update
from tasks.domain.states import Classification
from tasks.machines.managers.pending_updates import build_new_packages, is_boot_package
from tasks.machines.managers.rpm.advisories import AdvisoryView, judge_update, require_few_cves
from tasks.machines.managers.rpm.kernels import replaces_core
from tasks.machines.managers.rpm.packages import InstalledPackage, VersionedPackage, build_update_id, parse_vendor
from tasks.machines.managers.rpm.zypper.offers import (
    ZypperCandidate,
    ZypperOffer,
    ZypperRepository,
    choose_security_offer,
)
from tasks.machines.managers.rpm.zypper.patches import FaultyPackage, Patch, ZypperDescription
from tasks.machines.managers.rpm.zypper.xml_answer import InstallSummary
from tasks.machines.managers.script_output import group_values
from tasks.machines.managers.versions import RpmVersion
from tasks.rules.machine_checks.report_limits import MAX_UPDATES, require_count

PATCH_ID_PREFIX: Final = "patch:"
_ROLLING_REASON: Final = "ROLLING: this distribution is only updated as a whole, by zypper dup on the machine"
_UNFULFILLED_REASON: Final = (
    "zypper needs this patch, but has no update of a package that fulfils it now; "
    "zypper patch --dry-run on the machine says more"
)
_MAX_NAMED: Final = 3
_SOURCE_PATTERN: Final = re.compile(r"(.+)-[^-]+-[^-]+\.(?:no)?src")


@dataclass(frozen=True, slots=True)
class ZypperState:
    """What the machine's zypper says about newer versions.

    Attributes:
        native: the machine's own architecture.
        newest: update id -> the installed package; the newest, if several versions are (kernels).
        patches: those that apply: needed, optional and locked ones.
        patched: name of a package -> the patches that fix it, and the versions that have the fault.
        candidates: the newest version of each package in any repository.
        upgrade: what zypper would do with all of them.
        packages: name -> what zypper says about its own candidate.
        new_packages: name of a package that is not installed -> what it provides.
        offers: all versions of these packages in the repositories that offer updates.
        priorities: alias of a repository -> its priority, where it has another than the default one.
        obstacles: name of a package -> why zypper does not install its newest version.
        locked: names that an administrator has locked.
        is_rolling: the distribution is updated as a whole.
    """

    native: str
    newest: Mapping[str, InstalledPackage]
    patches: tuple[Patch, ...]
    patched: Mapping[str, tuple[tuple[Patch, FaultyPackage], ...]]
    candidates: tuple[ZypperCandidate, ...]
    upgrade: InstallSummary
    packages: Mapping[str, ZypperDescription]
    new_packages: Mapping[str, ZypperDescription]
    repositories: tuple[ZypperRepository, ...]
    offers: tuple[ZypperOffer, ...] = ()
    priorities: Mapping[str, int] = field(default_factory=dict)
    obstacles: Mapping[str, str] = field(default_factory=dict)
    locked: frozenset[str] = frozenset()
    is_rolling: bool = False


def build_pending_updates(state: ZypperState) -> tuple[Update, ...]:
    """Return the pending updates: of installed packages, then their new dependencies, then patches by themselves.

    Raises:
        ReportTooLarge: there are more updates, or CVEs, than any real machine lacks.
    """
    changes = {build_update_id(change.name, change.arch, state.native): change for change in state.upgrade.changes}
    candidates = {
        build_update_id(candidate.package.name, candidate.package.arch, state.native): candidate
        for candidate in state.candidates
    }
    wanted_changes = {update_id: change for update_id, change in changes.items() if update_id in state.newest}
    for update_id, candidate in candidates.items():
        # zypper itself would choose this version if it could: not if its vendor or its priority is another
        description = state.packages.get(candidate.package.name)
        is_own_choice = description is not None and description.fields.get("Version") == candidate.package.version
        if update_id not in wanted_changes and is_own_choice:
            wanted_changes[update_id] = candidate.package
    require_count(len(wanted_changes.keys() | changes.keys()), MAX_UPDATES, "updates")
    require_few_cves(
        [patch.advisory for patch, _ in state.patched.get(change.name, ())]
        for change in (wanted_changes | changes).values()
    )
    offers = group_values((offer.package.name, offer) for offer in state.offers)
    updates = [
        _build_upgrade(update_id, change, candidates.get(update_id), offers.get(change.name, ()), state)
        for update_id, change in wanted_changes.items()
    ]
    fresh = {update_id: change for update_id, change in changes.items() if update_id not in state.newest}
    providers: dict[str, list[str]] = {}
    for update_id, change in fresh.items():
        description = state.new_packages.get(change.name)
        for capability in description.dependencies.get("Provides", ()) if description else ():
            providers.setdefault(capability.split(" ")[0], []).append(update_id)

    def list_needs(update: Update) -> Iterator[str]:
        description = state.packages.get(update.name)
        for capability in description.dependencies.get("Requires", ()) if description else ():
            yield from providers.pop(capability.split(" ")[0], ())

    updates += build_new_packages(
        fresh, updates[::-1], list_needs, lambda change, bringer: _build_new_package(change, bringer, state)
    )
    if state.is_rolling:
        updates = [replace(update, blocked=_ROLLING_REASON) for update in updates]
    return (*updates, *_build_unfulfilled_patches(updates, state))


def _build_upgrade(
    update_id: str,
    change: VersionedPackage,
    candidate: ZypperCandidate | None,
    offers: Sequence[ZypperOffer],
    state: ZypperState,
) -> Update:
    installed = state.newest[update_id]
    same = candidate if candidate and candidate.package == change else None
    update, view = _build_update(change, installed.version, offers, same.alias if same else "", state)
    ids = frozenset(view.ids)
    patches = [patch for patch, _ in state.patched.get(change.name, ()) if patch.name in ids]
    secure = choose_security_offer(view.security_versions, change, offers, state.priorities)
    description = state.packages.get(change.name)
    vendor = parse_vendor(description.fields.get("Vendor", "")) if description else ""
    return replace(
        update,
        held=change.name in state.locked or bool(patches and _is_newest_locked(change.name, ids, state)),
        requires_reboot=True if any(patch.reboot for patch in patches) else update.requires_reboot,
        security_version="" if secure == change.version else secure,
        vendor_change=f"{installed.vendor or '?'} -> {vendor or '?'}"
        if change.name in state.upgrade.vendor_changes
        else "",
        updates_manager=any(patch.updates_manager for patch in patches),
        needs_licence=bool(same and same.has_licence and state.upgrade.unaccepted),
        blocked="" if change in state.upgrade.changes else state.obstacles.get(change.name, ""),
    )


def _is_newest_locked(name: str, ids: frozenset[str], state: ZypperState) -> bool:
    """Whether an administrator has locked the newest of the patches with these ids that fix a package.

    Of an older one, the package has a newer version than the unwanted one.
    """
    fixes = [(RpmVersion(package.fixed_version), patch) for patch, package in state.patched[name] if patch.name in ids]
    newest = max(version for version, _ in fixes)
    return any(patch.is_locked and version == newest for version, patch in fixes)


def _build_new_package(change: VersionedPackage, bringer: Update | None, state: ZypperState) -> Update:
    """Return a new package. It gets classification and group of the update that needs it: both go together.

    If only an older version of that update is a security fix, the new package has its own classification. If the older
    version needs it too, it comes along.
    """
    update, _ = _build_update(change, None, state.offers, "", state)
    if bringer is None:
        return update
    if not bringer.security_version:
        update = replace(update, classification=bringer.classification, severity=bringer.severity)
    return replace(update, group=bringer.group, held=bringer.held, updates_manager=bringer.updates_manager)


def _build_update(
    change: VersionedPackage, installed: str | None, offers: Iterable[ZypperOffer], alias: str, state: ZypperState
) -> tuple[Update, AdvisoryView]:
    """Return what an update and a new package have in common, and what the patches say of it.

    ``alias`` is of its repository; without one, it is the repository that ``zypper info`` names.
    """
    description = state.packages.get(change.name)
    fields = description.fields if description else {}
    repositories = [repository for repository in state.repositories if repository.alias == alias] if alias else []
    repositories = repositories or [r for r in state.repositories if r.is_named(fields.get("Repository", ""))]
    repository = next(iter(repositories), None)
    key = (change.name, change.arch)
    advisories = [
        replace(patch.advisory, packages={key: (package.fixed_version,)})
        for patch, package in state.patched.get(change.name, ())
        if package.arch in {"", change.arch}
    ]
    view = judge_update(
        {key: advisories},
        key,
        installed=installed,
        available=change.version,
        repository_has_advisories=bool(repository and repository.has_patches),
    )
    source = _SOURCE_PATTERN.fullmatch(fields.get("Source package", ""))
    update = Update(
        id=build_update_id(change.name, change.arch, state.native),
        name=change.name,
        arch=change.arch,
        installed=installed,
        available=change.version,
        classification=view.classification,
        severity=view.severity,
        origins=(repository.name,) if repository else (),
        cves=view.cves if view.classification is not Classification.UNCLASSIFIED else None,
        size_bytes=next((offer.size_bytes for offer in offers if offer.package == change), None),
        group=source[1] if source else change.name,
        requires_reboot=True if replaces_core(change.name) else None,
        published=view.published,
        changes_boot=is_boot_package(change.name),
        advisories=view.ids,
        # only repositories that offer updates were looked at
        previous_offered=any((o.package.arch, o.package.version) == (change.arch, installed) for o in offers) or None,
    )
    return update, view


def _build_unfulfilled_patches(updates: Iterable[Update], state: ZypperState) -> list[Update]:
    """Return the needed patches of which a package, or all, have no pending update."""
    covered = {(update.name, advisory) for update in updates for advisory in update.advisories}
    fulfilled = {advisory for _, advisory in covered}
    faulty: dict[str, list[FaultyPackage]] = {}
    for name, pairs in state.patched.items():
        for patch, package in pairs:
            if _is_faulty(package, state) and (name, patch.name) not in covered:
                faulty.setdefault(patch.name, []).append(package)
    unfulfilled = [
        patch for patch in state.patches if patch.is_needed and (patch.name in faulty or patch.name not in fulfilled)
    ]
    return [_build_unfulfilled_patch(patch, faulty.get(patch.name, ()), state) for patch in unfulfilled]


def _is_faulty(package: FaultyPackage, state: ZypperState) -> bool:
    fixed = RpmVersion(package.fixed_version)
    names = (package.name, f"{package.name}.{package.arch}") if package.arch else (package.name,)
    newest_packages = [state.newest[name] for name in names if name in state.newest]
    return any(package.arch in {"", newest.arch} and RpmVersion(newest.version) < fixed for newest in newest_packages)


def _build_unfulfilled_patch(patch: Patch, faulty: Iterable[FaultyPackage], state: ZypperState) -> Update:
    key = (patch.name, "noarch")
    about = replace(patch.advisory, packages={key: (patch.edition,)})
    view = judge_update({key: [about]}, key, installed=None, available=patch.edition, repository_has_advisories=True)
    offered = {candidate.package.name for candidate in state.candidates}
    reasons = [
        state.obstacles.get(package.name, f"no repository has {package.name} {package.fixed_version} or newer")
        for package in faulty
        if package.name in state.obstacles or package.name not in offered
    ]
    return Update(
        id=f"{PATCH_ID_PREFIX}{patch.name}",
        name=patch.name,
        arch="noarch",
        installed=None,
        available=patch.edition,
        classification=view.classification,
        severity=view.severity,
        cves=view.cves,
        blocked="; ".join(tuple(dict.fromkeys(reasons))[:_MAX_NAMED]) or _UNFULFILLED_REASON,
        requires_reboot=patch.reboot or None,
        published=view.published,
        advisories=view.ids,
        updates_manager=patch.updates_manager,
    )
