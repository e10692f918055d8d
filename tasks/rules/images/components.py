"""Which components a machine has on a disk that is to be replaced, and which of them the new one lacks. Pure."""

from collections.abc import Collection, Iterable, Mapping, Sequence

from inventory.data_class import dataclass
from tasks.domain.components import Component, InstalledComponent
from tasks.rules.components.order import order_components
from tasks.rules.components.versions import find_listed_version, rank_version


@dataclass(frozen=True, slots=True)
class DiskComponents:
    """What is known of the components on one disk."""

    # The versions that come again if the new disk lacks them, by component, in the order of ``after``.
    versions: Mapping[str, str]
    absent: tuple[str, ...] = ()  # enrolled components that are not installed. Nobody installs them.
    # Components that are not enrolled and did not tell whether they are there, each with the reason.
    unknown: Mapping[str, str] | None = None
    refusals: tuple[str, ...] = ()  # why the disk may not be replaced: what could not be installed again


def list_disk_components(
    components: Iterable[Component],
    told: Sequence[InstalledComponent],
    enrolled: Collection[str],
    seen: Collection[str] = (),
) -> DiskComponents:
    """Return what a machine has on its disk.

    Args:
        components: those that the machine can have. Groups of images are left out.
        told: what the machine says of them.
        enrolled: names of those that are enrolled on the machine.
        seen: names of those that it had at an earlier look.
    """
    answers = {answer.name: answer for answer in told}
    versions: dict[str, str] = {}
    absent: list[str] = []
    unknown: dict[str, str] = {}
    known = tuple(component for component in components if component.image is None)
    lost = sorted(set(enrolled).difference(component.name for component in known))
    refusals = [f"{name} is enrolled here, and components.yaml does not have it: it would be lost" for name in lost]
    for component in order_components(known):
        name, answer = component.name, answers.get(component.name)
        if answer is None or answer.problem:
            problem = answer.problem if answer is not None else "the machine was not asked for it"
            # an owner's command may fail where nothing is installed; the questions of the other kinds do not
            if name in {*enrolled, *seen} or not component.version_command:
                refusals.append(f"the version of {name} is not known: {problem}")
            else:
                unknown[name] = problem
        elif answer.version is None:
            absent += [name] if name in enrolled else []
        elif reason := explain_no_return(component, answer.version):
            refusals.append(reason)
        else:
            listed = find_listed_version(component.versions, answer.version)
            versions[name] = listed.version if listed is not None else answer.version
    return DiskComponents(versions, tuple(absent), unknown, tuple(refusals))


def explain_no_return(component: Component, version: str) -> str:
    """Return why a version that a machine has can't be installed again, or ""."""
    listed = find_listed_version(component.versions, version)
    if listed is None:
        return f"{component.name} {version} could not be installed again: components.yaml does not have that version"
    if listed.withdrawn:
        return f"{component.name} {version} could not be installed again: it was withdrawn: {listed.withdrawn}"
    return ""


def is_missing(version: str, answer: InstalledComponent | None) -> bool | None:
    """Return whether a disk lacks a version: nothing is there, or an older one. None: that is not known.

    A newer version, which the image brings, stays.
    """
    if answer is None or answer.problem:
        return None
    if answer.version is None:
        return True
    present, wanted = rank_version(answer.version), rank_version(version)
    return None if present is None or wanted is None else present < wanted
