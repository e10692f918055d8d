"""Chooses the version of a component that a machine gets, or says why it gets none. Pure."""

from collections.abc import Sequence
from datetime import datetime

from inventory.data_class import dataclass
from inventory.machine import OsFamily
from tasks.domain.components import (
    Component,
    ComponentStanding,
    ComponentTry,
    ComponentVersion,
    InstalledComponent,
    build_way_back_command,
)
from tasks.domain.model import Update
from tasks.domain.states import Classification
from tasks.rules.components.retries import find_retry_wait
from tasks.rules.components.versions import VersionRank, find_listed_version, is_minor_upgrade, rank_version


@dataclass(frozen=True, slots=True)
class ComponentChoice:
    """How a component stands on a machine, and what it gets.

    Attributes:
        target: the version that it gets; None: none now.
        installed: the version of the list that it has; None: none, or one that the list does not have.
        reason: why it gets none, or "".
        not_before: when it is tried again, if it waits for that.
    """

    standing: ComponentStanding
    target: ComponentVersion | None = None
    installed: ComponentVersion | None = None
    reason: str = ""
    not_before: datetime | None = None


def choose_version(
    component: Component,
    installed: InstalledComponent | None,
    family: OsFamily | None,
    tries: Sequence[ComponentTry],
    machine: str,
    now: datetime,
    wanted: str = "",
) -> ComponentChoice:
    """Return what a machine gets.

    By itself it gets the newest minor version alone: never another major version, none before a release, and none that
    was withdrawn. A person may order any version of the list, also one that failed before.

    Args:
        component: what is to be upgraded.
        installed: what the machine said last; None: nothing yet.
        family: of the machine's system; None: not known.
        tries: of all versions of this component, on all machines.
        machine: its name.
        now: the present time.
        wanted: the version that a person orders; "": what comes by itself.
    """
    present = _find_present_version(component, installed, family)
    if isinstance(present, ComponentChoice):
        # the disk before is kept, so a person may order the first image of a machine
        may_be_ordered = component.image is not None and present.standing is ComponentStanding.NOT_INSTALLED
        return _choose_ordered(component, None, wanted) if wanted and may_be_ordered else present
    version, rank = present
    listed = find_listed_version(component.versions, version)
    if listed is None and component.image is not None:
        listed = ComponentVersion(version)
    if wanted:
        return _choose_ordered(component, listed, wanted)
    target, standing = _find_newest(component, rank)
    if target is None and listed is not None and not listed.is_kept:
        return _choose_nothing(component, standing, listed, tries, machine)
    if target is None or listed is None:
        way_back = "" if listed is not None else ": it could not be put back"
        reason = f"the file of components does not have its version {version}{way_back}"
        return ComponentChoice(ComponentStanding.UNLISTED, installed=listed, reason=reason)
    wait = find_retry_wait([one for one in tries if one.version == target.version], machine, now)
    if wait is not None:
        return ComponentChoice(
            ComponentStanding.RETRY_LATER, installed=listed, reason=wait.reason, not_before=wait.until
        )
    return ComponentChoice(ComponentStanding.PENDING, target, listed)


def _choose_nothing(
    component: Component,
    standing: ComponentStanding,
    listed: ComponentVersion,
    tries: Sequence[ComponentTry],
    machine: str,
) -> ComponentChoice:
    """Return the choice for a machine to which no version comes by itself."""
    reason = ""
    if listed.withdrawn:
        standing = ComponentStanding.NON_CURRENT
        command = build_way_back_command(
            component.name, machine, find_version_before(component, listed, tries, machine)
        )
        reason = f"version {listed.version} was withdrawn: {listed.withdrawn}. To take it back: {command}"
    elif standing is ComponentStanding.MAJOR_AVAILABLE:
        reason = "only a newer major version is there, which a person must order"
    return ComponentChoice(standing, installed=listed, reason=reason)


def find_version_before(
    component: Component, installed: ComponentVersion, tries: Sequence[ComponentTry], machine: str
) -> str | None:
    """Return the version to go back to: the one before the machine's last upgrade, or else the newest older one."""
    good = [known for known in component.versions if not known.withdrawn]
    for attempt in reversed(tries):
        if attempt.machine == machine and attempt.version == installed.version and attempt.version_before:
            before = find_listed_version(tuple(good), attempt.version_before)
            if before is not None:
                return before.version
    rank = rank_version(installed.version)
    ranked = [(known_rank, known.version) for known in good if (known_rank := rank_version(known.version)) is not None]
    return max((pair for pair in ranked if rank is not None and pair[0] < rank), default=(None, None))[1]


def _find_present_version(
    component: Component, installed: InstalledComponent | None, family: OsFamily | None
) -> tuple[str, VersionRank] | ComponentChoice:
    """Return the version of a machine with its rank, or the choice where no version can be compared."""
    if family is not None and family is not component.family:
        reason = f"{component.name} is a component of {component.family}, and the machine has {family}"
        return ComponentChoice(ComponentStanding.NOT_SUPPORTED, reason=reason)
    if installed is None or installed.problem:
        reason = installed.problem if installed is not None else "the machine was not asked for it yet"
        return ComponentChoice(ComponentStanding.UNKNOWN, reason=reason)
    if installed.version is None:
        reason = "it is not installed: only upgrades are done"
        if component.image is not None:
            reason = "its OS disk is of no known version: a person must order its first one"
        return ComponentChoice(ComponentStanding.NOT_INSTALLED, reason=reason)
    rank = rank_version(installed.version)
    if rank is None:
        reason = f"the machine has the version {installed.version!r}, which can't be compared"
        return ComponentChoice(ComponentStanding.UNKNOWN, reason=reason)
    return installed.version, rank


def _find_newest(component: Component, rank: VersionRank) -> tuple[ComponentVersion | None, ComponentStanding]:
    ranked = [
        (offered, offered_rank)
        for offered in component.versions
        if not (offered.withdrawn or offered.is_kept) and (offered_rank := rank_version(offered.version)) is not None
    ]
    is_image = component.image is not None  # a channel of an image has no versions that people have to order
    minor = [
        (offered, one)
        for offered, one in ranked
        if (one > rank and not one.is_prerelease if is_image else is_minor_upgrade(rank, one))
    ]
    if minor:
        return max(minor, key=lambda pair: pair[1])[0], ComponentStanding.PENDING
    has_major = any(one.major > rank.major and not one.is_prerelease for _, one in ranked)
    return None, ComponentStanding.MAJOR_AVAILABLE if has_major else ComponentStanding.CURRENT


def _choose_ordered(component: Component, listed: ComponentVersion | None, wanted: str) -> ComponentChoice:
    target = find_listed_version(component.versions, wanted)
    if target is None or target.withdrawn:
        why = f"was withdrawn: {target.withdrawn}" if target is not None else "is not in the file of components"
        standing = ComponentStanding.CURRENT if listed is not None else ComponentStanding.UNLISTED
        return ComponentChoice(standing, installed=listed, reason=f"version {wanted} {why}")
    if listed is None and component.image is None:
        reason = "the file of components does not have its present version: it could not be put back"
        return ComponentChoice(ComponentStanding.UNLISTED, reason=reason)
    if target == listed:
        return ComponentChoice(ComponentStanding.CURRENT, installed=listed)
    return ComponentChoice(ComponentStanding.PENDING, target, listed)


def build_component_update(component: Component, choice: ComponentChoice) -> Update | None:
    """Return the update that a plan has for a choice, or None: there is nothing to install."""
    if choice.target is None or (choice.installed is None and component.image is None):
        return None
    return Update(
        id=component.update_id,
        name=component.name,
        arch="",
        installed=choice.installed.version if choice.installed is not None else None,
        available=choice.target.version,
        classification=Classification.OTHER,
        origins=(component.kind,),
        requires_reboot=False,
    )
