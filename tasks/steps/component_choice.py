"""The version of a component that one machine gets in a run that upgrades this component."""

from tasks.domain.components import ComponentOrder, ComponentStanding
from tasks.domain.model import Finding, UpdateResult
from tasks.domain.states import FindingLevel, UpdateState
from tasks.rules.components.choice import ComponentChoice, build_component_update, choose_version
from tasks.rules.components.tries import COMPONENT_CHECK
from tasks.rules.images.user_data import explain_missing_identity
from tasks.rules.machine_checks.findings import describe_blocking_findings
from tasks.rules.updates.selection import SelectionResult
from tasks.steps.context.machine_context import MachineContext
from tasks.steps.disk_components import describe_return, explain_no_new_disk, find_disk_components
from tasks.steps.image_disks import read_identity
from tasks.steps.machine.provider_orders import check_identity

_REMEDY = "Look why the machine does not tell the component's version. Until then it gets none."


def get_component_order(context: MachineContext) -> ComponentOrder:
    """Return what a run of a component upgrades."""
    order = context.options.component_order
    if order is None:
        raise ValueError(f"run {context.run.id} upgrades no component")
    return order


def choose_component(context: MachineContext) -> tuple[SelectionResult, str]:
    """Return what a machine gets: the update of the component, and why all others stay; and a note for people."""
    order, packages = get_component_order(context), context.packages
    component = order.component
    choice = _choose_version(context, order)
    update = build_component_update(component, choice)
    alone = f"this run upgrades the component {component.name} alone"
    skipped = [UpdateResult(other, UpdateState.NOT_SELECTED, alone) for other in packages.updates]
    held_back = order.held_back.get(context.name, "")
    returning = ""
    if update is not None and component.image is not None:
        disk = find_disk_components(context, order, packages.components)
        identity = check_identity(context)
        held_back = held_back or describe_blocking_findings(identity) or explain_no_new_disk(context, disk)
        if not held_back:
            kept = read_identity(context, component.image, with_keys=False)
            held_back = explain_missing_identity(component.image, kept)
        remarks = (finding.message for finding in identity if finding.level is FindingLevel.REMARK)
        returning = "; ".join(filter(None, (describe_return(disk), *remarks)))
    if update is not None and held_back:
        skipped.append(UpdateResult(update, UpdateState.BLOCKED, held_back))
    if choice.standing is ComponentStanding.UNKNOWN:
        context.add_finding(Finding(COMPONENT_CHECK, FindingLevel.WARN, choice.reason, _REMEDY))
    elif choice.standing is ComponentStanding.CURRENT and choice.installed is not None and not choice.reason:
        context.add_finding(Finding.good(COMPONENT_CHECK, f"{component.name} {choice.installed.version} is current"))
    note = f"component {component.name}: {choice.standing}"
    chosen = () if update is None or held_back else (update,)
    return (chosen, tuple(skipped)), f"{note}: {held_back or choice.reason or returning}".rstrip(": ")


def _choose_version(context: MachineContext, order: ComponentOrder) -> ComponentChoice:
    name = order.component.name
    installed = next((one for one in context.packages.components if one.name == name), None)
    family, now = context.state.machine.os, context.clock.now()
    return choose_version(order.component, installed, family, order.tries, context.name, now, order.wanted)
