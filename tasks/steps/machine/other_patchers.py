"""Decides what a run does with a machine that others patch: the system's own updaters, or another patch manager."""

from dataclasses import replace

from tasks.domain.model import PackageState
from tasks.domain.states import FindingLevel, OperationState
from tasks.rules.machine_checks.auto_updaters import check_auto_updaters, describe_left_out
from tasks.rules.machine_checks.findings import describe_blocking_findings
from tasks.steps.context.machine_context import MachineContext
from tasks.steps.context.machine_state import MachineState
from tasks.steps.machine.package_state import read_package_state_with_retry
from tasks.steps.start_checks import is_visit_needed


def explain_left_out(context: MachineContext) -> str:
    """Return why a planned machine is left out, by its assessment, or "". Without anything to do, none is."""
    if not is_visit_needed(context.state, context.options):
        return ""
    return _describe(context, context.packages)


def leave_out(context: MachineContext, packages: PackageState, why: str) -> MachineState:
    """Return the state of a machine that is left out: NotStarted, with what was found."""
    for auto_updater in check_auto_updaters(packages, paused=context.options.pauses_updaters):
        context.add_finding(auto_updater)
    return replace(context.state, halted=why, halted_as=OperationState.NOT_STARTED)


def halt_if_others_patch(context: MachineContext) -> bool:
    """Look again just before the first change, if the request asks for it. Return whether the machine is halted.

    The pre-check goes by the assessment, which may be hours old: the run waited for its approval or its window, or was
    resumed.

    Raises:
        FleetpatchError: the packages can't be read. Nothing was changed.
    """
    policy = context.options.patched_by_others
    if policy == "warn":
        return False
    packages = read_package_state_with_retry(context)
    if reason := _describe(context, packages):
        context.state = leave_out(context, packages, reason)
        return True
    findings = tuple(check_auto_updaters(packages, policy, paused=context.options.pauses_updaters))
    for finding in findings:
        if finding.level is FindingLevel.BLOCK:
            context.add_finding(finding)
    halted = describe_blocking_findings(findings)
    context.state = replace(context.state, halted=halted, halted_as=OperationState.FAILED)
    return bool(halted)


def _describe(context: MachineContext, packages: PackageState) -> str:
    options = context.options
    return describe_left_out(packages, options.patched_by_others, paused=options.pauses_updaters)
