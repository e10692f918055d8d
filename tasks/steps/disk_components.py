"""Finds which components a machine has on the disk that is to be replaced, and why it may not be replaced."""

from collections.abc import Sequence

from tasks.domain.components import ComponentOrder, InstalledComponent
from tasks.domain.errors import RequestError
from tasks.domain.model import Finding
from tasks.domain.states import FindingLevel
from tasks.rules.images.components import DiskComponents, list_disk_components
from tasks.steps.component_own_files import require_own_file
from tasks.steps.context.machine_context import MachineContext

RETURN_CHECK = "components of its disk"
"""The name of findings about components before and after a new OS disk."""
_KEEP = (
    "Upgrade it first, or put its version into components.yaml. "
    "What you no longer want, remove from the machine, and end its enrolment."
)
_ASK = "Let `version.command` print nothing, and succeed, where it is not installed."


def find_disk_components(
    context: MachineContext, order: ComponentOrder, told: Sequence[InstalledComponent]
) -> DiskComponents:
    """Return what the machine has on its disk, by what it told."""
    components = context.run_context.list_components(context.state.machine)
    seen = [one.name for one in context.packages.components if one.version is not None]
    return list_disk_components(components, told, order.enrolled.get(context.name, ()), seen)


def explain_no_new_disk(context: MachineContext, disk: DiskComponents) -> str:
    """Return why the disk may not be replaced: a component of it could not be installed again. Or "".

    Files of this controller are read. What is known of the other components becomes findings.
    """
    refusals = list(disk.refusals)
    for component in context.run_context.list_components(context.state.machine):
        version = component.find_version(disk.versions.get(component.name, ""))
        try:
            if version is not None and component.image is None:
                require_own_file(component, version)
        except RequestError as error:
            refusals.append(error.message)
    reason = "; ".join(refusals)
    if reason:
        context.add_finding(Finding(RETURN_CHECK, FindingLevel.WARN, reason, _KEEP))
    for name in disk.absent:
        text = f"{name} is enrolled here, and is not installed: a new disk does not get it"
        context.add_finding(Finding.good(RETURN_CHECK, text))
    for name, problem in (disk.unknown or {}).items():
        text = (
            f"whether {name} is there is not known, and it is not enrolled here: a new disk does not get it: {problem}"
        )
        context.add_finding(Finding(RETURN_CHECK, FindingLevel.WARN, text, _ASK))
    return reason


def describe_return(disk: DiskComponents) -> str:
    """Return which components a new disk gets again, or ""."""
    names = ", ".join(f"{name} {version}" for name, version in disk.versions.items())
    return f"its new disk gets, unless the image has it: {names}" if names else ""
