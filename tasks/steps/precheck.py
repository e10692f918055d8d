"""The precheck step: may this machine be patched now? Each finding that blocks or warns has a remedy."""

from dataclasses import replace
from datetime import timedelta

from tasks.domain.model import Finding, PackageState
from tasks.domain.protocols.clock import Deadline
from tasks.domain.states import FindingLevel, OperationState, Step
from tasks.rules.machine_checks.findings import describe_blocking_findings
from tasks.rules.machine_checks.precheck import check_same_machine
from tasks.rules.runs.snapshots import PROVIDER_CHECK
from tasks.steps.assess import check_state_for_updates, excuse_faults, replan_updates
from tasks.steps.context.machine_context import MachineContext, MachineState
from tasks.steps.machine.auto_updaters import explain_left_out, leave_out
from tasks.steps.machine.custom_checks import run_check
from tasks.steps.machine.facts import read_facts_again
from tasks.steps.machine.health import check_health
from tasks.steps.machine.lock_removal import lock_machine
from tasks.steps.machine.machine_lock import acquire_lock, renew_lock
from tasks.steps.machine.next_boot import check_next_boot_needs
from tasks.steps.machine.package_state import read_package_state_with_retry, wait_for_idle_packages
from tasks.steps.machine.provider_orders import check_disks, check_identity
from tasks.steps.machine.reboot_watch import wait_for_boot
from tasks.steps.snapshots import check_snapshot
from tasks.steps.start_checks import find_machine_cut_off


def precheck(context: MachineContext) -> MachineState:
    """Look at the machine just before it is changed, once its boot has ended. A blocking finding halts it.

    A machine that others patch is left out, if the request says so. If another run has the machine lock, this run
    changes nothing there: two windows may be open at the same time. It still looks: the health script, the pre-checks
    and the probes run, so the report also says what else is wrong.
    Connection and administrator rights need no finding: both raise when they fail.
    """
    if reason := explain_left_out(context):
        return leave_out(context, context.packages, reason)
    facts, why_not = wait_for_boot(context, Step.PRECHECK)
    if why_not:
        return replace(context.state, halted=why_not, halted_as=OperationState.NOT_STARTED)
    other_name = context.run_context.instances.meet(facts, context.name)
    if other_name and not context.state.was_changed_before_resume:
        same = check_same_machine(other_name, changes_machines=True)
        halted = describe_blocking_findings(same)
        return replace(context.state, findings=same, halted=halted, halted_as=OperationState.NOT_STARTED)
    context.state = replace(context.state, baseline=facts, may_hold_lock=True)
    lock_result = lock_machine(context)
    if lock_result.finding.level is not FindingLevel.BLOCK and _replan_changing_packages(context):
        # facts again: changes that others made meanwhile are not changes of this run
        facts = read_facts_again(context)
        context.state = replace(context.state, baseline=facts)
        lock_result = acquire_lock(context)  # the wait may have been long
    component_order = context.options.component_order
    replaces_os_disk = component_order is not None and component_order.component.image is not None
    identity = check_identity(context) if replaces_os_disk else ()
    of_machine = [
        *check_state_for_updates(context, facts, context.plan.chosen),
        *check_health(context),
        *check_next_boot_needs(context),
        *dict.fromkeys((*check_disks(context), *check_snapshot(context), *identity)),
        *(run_check(context, check) for check in context.state.machine.pre_checks),
        *(run_check(context, probe) for probe in context.state.machine.probes),
    ]
    findings = [
        lock_result.finding,
        Finding("login", FindingLevel.GOOD, f"logged in; privilege: {facts.privilege}"),
        *excuse_faults(context, context.plan, of_machine),
    ]
    blocking = [finding for finding in findings if finding.level is FindingLevel.BLOCK]
    halted = describe_blocking_findings(findings)
    # held elsewhere, or a provider that does not answer: then nothing is wrong with the machine
    passing = [finding for finding in findings if finding.check == PROVIDER_CHECK]
    passing += [lock_result.finding] if lock_result.is_held_elsewhere else []
    is_blameless = all(finding in passing for finding in blocking)
    halted_as = OperationState.NOT_STARTED if is_blameless else OperationState.FAILED
    return replace(context.state, findings=tuple(findings), halted=halted, halted_as=halted_as)


def _replan_changing_packages(context: MachineContext) -> bool:
    """Plan again if packages were half changed at the assessment, which may be hours ago.

    Wait for another process that changes them as long as an installation can still begin in the window.

    If an earlier process of this run has changed the machine, the half changed packages may be its own: then do
    nothing.

    Returns:
        Whether it planned again.
    """
    if context.state.was_changed_before_resume or not (context.packages.problems or context.packages.at_work):
        return False
    shortest = timedelta(seconds=context.rates.transaction_seconds)
    until = Deadline(find_machine_cut_off(context) - shortest)
    context.state = replan_updates(context, wait_for_idle_packages(context, Step.PRECHECK, until, _read_and_keep_lock))
    return True


def _read_and_keep_lock(context: MachineContext) -> PackageState:
    packages = read_package_state_with_retry(context)
    renew_lock(context)
    return packages
