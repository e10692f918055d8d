"""The report step: build a machine's Outcome and store it. For a plan: whether anything would begin in its window."""

from dataclasses import replace
from datetime import timedelta

from inventory.machine import OsFamily
from tasks.domain.errors import RebootFailed
from tasks.domain.model import Assessment, ErrorInfo, Finding, Outcome, UpdateResult
from tasks.domain.states import (
    FindingLevel,
    HookPoint,
    OperationState,
    RebootPolicy,
    RebootState,
    UpdateState,
    YesNoUnknown,
)
from tasks.reports.formatting import format_count
from tasks.rules.components.foreign import is_reboot_foreign, remark_foreign
from tasks.rules.machine_checks.findings import describe_blocking_findings
from tasks.rules.machine_checks.packages import (
    PENDING_REBOOT_CHECK,
    check_concurrent_changes,
    check_known_faults,
    check_package_problems,
    clear_passed_warnings,
)
from tasks.rules.machine_checks.precheck import find_next_boot_warnings
from tasks.rules.machine_checks.services import check_outdated_services
from tasks.rules.runs.hooks import is_blocking_failure, to_finding
from tasks.rules.runs.outcome import determine_outcome_state
from tasks.rules.runs.power import describe_power_cycle
from tasks.rules.runs.reboot_decision import describe_wait
from tasks.rules.runs.snapshots import PROVIDER_CHECK
from tasks.rules.timing.maintenance_window import compute_overrun_seconds
from tasks.rules.undo import describe_undo
from tasks.steps.context.machine_context import MachineContext, MachineState
from tasks.steps.machine.auto_updaters import explain_left_out
from tasks.steps.start_checks import describe_time_shortage


def record_outcome(context: MachineContext) -> Outcome:
    """Return a machine's outcome, and store it. Every machine ends with it, also after an error.

    After a reboot that failed, nothing is known of the machine: that is stored, too.
    """
    outcome = build_outcome(context)
    context.records.save(outcome)
    error, snapshot = outcome.error, context.state.snapshot
    is_reverted = snapshot is not None and snapshot.reverted_at is not None
    if error is not None and error.is_a(RebootFailed) and not is_reverted:
        context.records.save(Assessment(context.name, context.clock.now(), 0.0, error=error, run_id=context.run.id))
    return outcome


def build_outcome(context: MachineContext) -> Outcome:
    """Return a machine's outcome."""
    before = clear_passed_warnings(context.state.findings, context.state.packages_after)
    machine_state = replace(context.state, findings=(*before, *_find_untouched_machine_findings(context)))
    updates = build_update_results(machine_state)
    of_hooks = tuple(to_finding(result) for result in machine_state.hooks)
    own_findings: tuple[Finding, ...] = (
        *machine_state.findings,
        *_check_pending_reboot(context),
        *describe_power_cycle(machine_state.power),
        *_describe_undo(context, updates),
    )
    packages, validation = machine_state.assessed_packages, machine_state.validation
    is_reboot_ignored = False
    if context.options.component_order is not None and packages is not None:
        own_findings = remark_foreign(own_findings, packages, machine_state.packages_after)
        if validation is not None:
            left = remark_foreign(validation.findings, packages, machine_state.packages_after)
            machine_state = replace(machine_state, validation=replace(validation, findings=left))
        is_reboot_ignored = is_reboot_foreign(packages)
    findings = (*own_findings, *(machine_state.validation.findings if machine_state.validation else ()), *of_hooks)
    final = machine_state.reboots[-1] if machine_state.reboots else None
    state, reason = determine_outcome_state(
        results=updates,
        findings=own_findings,
        hooks=of_hooks,
        reboot=None if is_reboot_ignored else final,
        validation=machine_state.validation,
        error=machine_state.error or (machine_state.install.error if machine_state.install else None),
        window_exceeded_seconds=find_machine_overrun_seconds(context),
    )
    rebooted = any(result.count for result in machine_state.reboots)
    after_hook_failed = any(
        is_blocking_failure(result) for result in machine_state.hooks if result.hook.place is HookPoint.AFTER_MACHINE
    )
    if (
        machine_state.halted
        and machine_state.halted_as is OperationState.NOT_STARTED
        and not rebooted
        and not after_hook_failed
    ):
        state, reason = machine_state.halted_as, machine_state.halted
    validated = machine_state.validation.assessment if machine_state.validation else None
    facts = validated.facts if validated else machine_state.baseline
    ended = machine_state.steps[-1].ended_at if machine_state.steps else context.clock.now()
    return Outcome(
        run_id=context.run.id,
        machine=machine_state.machine.name,
        state=state,
        reason=reason,
        updates=updates,
        reboot=find_reboot_state(machine_state),
        wave=machine_state.wave,
        started_at=machine_state.steps[0].started_at if machine_state.steps else None,
        ended_at=ended,
        window_exceeded_seconds=find_machine_overrun_seconds(context),
        steps=machine_state.steps,
        findings=findings,
        prediction=machine_state.plan.prediction if machine_state.plan else None,
        install=machine_state.install,
        reboot_result=final,
        facts=facts.without_active_units() if facts else None,
        error=machine_state.error or _describe_failed_reboot(machine_state),
        services_to_restart=machine_state.latest_packages.services_to_restart if machine_state.latest_packages else (),
        kernel_before=machine_state.assessment.facts.kernel
        if machine_state.assessment and machine_state.assessment.facts
        else "",
        snapshot=machine_state.snapshot,
    )


def _describe_failed_reboot(machine_state: MachineState) -> ErrorInfo | None:
    """Return the error of a machine whose reboot was ordered and failed, with the remedy; None: it did not."""
    final = machine_state.reboots[-1] if machine_state.reboots else None
    if final is None or final.state is not RebootState.FAILED or not final.count:
        return None
    facts, hint = machine_state.baseline, "Look at its console."
    if machine_state.machine.os is OsFamily.LINUX and facts is not None and facts.kernel:
        hint += f" If its new kernel does not boot, let its boot loader start the one that it ran: {facts.kernel}."
    return ErrorInfo.from_error(RebootFailed(f"the reboot failed: {final.reason}", hint=hint))


def _find_untouched_machine_findings(context: MachineContext) -> tuple[Finding, ...]:
    """Return findings for a machine that needed no change: those that a changed machine gets after its validation."""
    machine_state, packages = context.state, context.state.assessed_packages
    changed = (
        machine_state.install is not None
        or machine_state.reboots
        or machine_state.halted
        or machine_state.error is not None
    )
    if packages is None or machine_state.plan is None or changed or context.run.kind != "patch":
        return ()
    # the pre-check has reported it already
    unchecked: tuple[Finding, ...] = ()
    if machine_state.baseline is None:
        facts = machine_state.assessment.facts if machine_state.assessment else None
        unchecked = (
            *check_concurrent_changes(packages),
            *check_known_faults(packages),
            *find_next_boot_warnings(facts),
        )
    options = context.options
    may_renew = options.reboot is not RebootPolicy.NEVER or options.restart_services != "Never"
    services = check_outdated_services(packages, options.restart_services_exclude, may_renew=may_renew)
    return (*unchecked, *services)


def _describe_undo(context: MachineContext, results: tuple[UpdateResult, ...]) -> tuple[Finding, ...]:
    """Return what an undo has not taken back on a planned machine; nothing of another run."""
    order = context.options.undo_order
    if order is None or context.state.plan is None:
        return ()
    return describe_undo(results, order.unknown.get(context.name, ()))


def build_update_results(machine_state: MachineState) -> tuple[UpdateResult, ...]:
    """Return one result for each update that was pending, even if the machine's installation never began. Pure."""
    if machine_state.install is not None:
        return machine_state.install.results
    if machine_state.plan is None:
        packages, error = machine_state.assessed_packages, machine_state.error
        reason = error.message if error else machine_state.halted or "the run only assessed the machine"
        pending = packages.updates if packages else ()
        return tuple(UpdateResult(update, UpdateState.PENDING, reason, update.installed) for update in pending)
    reason = _describe_why_not_started(machine_state)
    chosen = tuple(
        UpdateResult(update, UpdateState.NOT_ATTEMPTED, reason, update.installed)
        for update in machine_state.plan.chosen
    )
    return (*chosen, *machine_state.plan.skipped)


def find_reboot_state(machine_state: MachineState) -> RebootState:
    """Return the machine's reboot state. Pure."""
    if machine_state.reboots:
        return machine_state.reboots[-1].state
    packages = machine_state.latest_packages
    if packages is None:
        return RebootState.UNKNOWN
    by_answer = {YesNoUnknown.YES: RebootState.REQUIRED, YesNoUnknown.NO: RebootState.NOT_NEEDED}
    return by_answer.get(packages.reboot.answer, RebootState.UNKNOWN)


def _check_pending_reboot(context: MachineContext) -> tuple[Finding, ...]:
    """Return a finding if the machine requires a reboot and no step of this run decided about it.

    It is a remark if the owner has decided that runs reboot nothing, unless the owner's own deadline is over.
    """
    machine_state, policy = context.state, context.options.reboot
    is_reported = any(finding.check == PENDING_REBOOT_CHECK for finding in machine_state.findings)
    packages = machine_state.latest_packages
    if context.run.kind != "patch" or machine_state.reboots or is_reported or packages is None:
        return ()
    if packages.reboot.answer is not YesNoUnknown.YES:
        return ()
    because = f" ({packages.reboot.explanation})" if packages.reboot.explanation else ""
    if context.options.may_reboot_wait(packages.reboot):
        wait_reason = describe_wait(packages.reboot, context.options.live_patch_policy)
        return (Finding(PENDING_REBOOT_CHECK, FindingLevel.GOOD, wait_reason),)
    why_not = (
        "nothing was installed, and without an installation this run does not do a reboot that was already pending"
    )
    if policy is RebootPolicy.NEVER:
        why_not = "the reboot policy is Never"
    is_decided = policy is RebootPolicy.NEVER and not context.options.live_patch_policy.is_overdue(packages.reboot)
    level = FindingLevel.REMARK if is_decided else FindingLevel.WARN
    message = f"a reboot is still required: the machine asks for a reboot{because}; {why_not}"
    remedy = "Reboot it, or allow fleetpatch to do pending reboots first."
    return (Finding(PENDING_REBOOT_CHECK, level, message, remedy),)


def find_machine_overrun_seconds(context: MachineContext) -> float:
    """Return by how many seconds the changes of the machine exceeded the window's end."""
    machine_state, window = context.state, context.run.window
    passed = machine_state.install.overrun_seconds if machine_state.install else 0.0
    final = machine_state.reboots[-1] if machine_state.reboots else None
    if final and final.count and window is not None:
        ended = next(
            (record.ended_at for record in reversed(machine_state.steps) if record.step.value == "reboot"), window.end
        )
        passed = max(passed, (ended - window.end) / timedelta(seconds=1))
    if machine_state.restarts and machine_state.restarts.ended_at and window is not None:
        passed = max(passed, compute_overrun_seconds(window, machine_state.restarts.ended_at))
    return max(0.0, passed)


def build_assessment_outcome(context: MachineContext) -> Outcome:
    """Return the outcome of a machine that was only assessed.

    A repository that was not read is a warning, and so are a broken package and a next boot that lacks files.
    """
    outcome, assessment = build_outcome(context), context.state.assessment
    if outcome.error is not None or assessment is None or assessment.packages is None:
        return outcome
    parts = [f"pending updates: {assessment.urgent_count} critical or security, {assessment.other_count} other"]
    broken = check_package_problems(assessment.packages, repair_allowed=False)
    findings = (*broken, *check_known_faults(assessment.packages), *find_next_boot_warnings(assessment.facts))
    parts += [f"{finding.check}: {finding.message}" for finding in findings if finding.level.is_problem]
    state = OperationState.COMPLETED_WITH_WARNINGS if len(parts) > 1 else OperationState.SUCCEEDED
    return replace(outcome, state=state, reason="; ".join(parts))


def build_dry_run_outcome(context: MachineContext) -> Outcome:
    """Return the outcome of a dry run: nothing was changed, and the updates that would be installed are Pending."""
    machine_state, outcome = context.state, build_outcome(context)
    if machine_state.error is not None or machine_state.plan is None:
        return outcome

    def build(state_reason: str, reason: str, state: UpdateState = UpdateState.NOT_ATTEMPTED) -> Outcome:
        updates = (
            replace(result, state=state, reason=reason) if result.state is UpdateState.NOT_ATTEMPTED else result
            for result in build_update_results(machine_state)
        )
        return replace(outcome, state=OperationState.NOT_STARTED, reason=state_reason, updates=tuple(updates))

    if obstacle := explain_left_out(context):
        return build(obstacle, obstacle)
    if machine_state.plan.refusals:
        state, reason = determine_outcome_state(results=outcome.updates, findings=machine_state.plan.refusals)
        if all(finding.check == PROVIDER_CHECK for finding in machine_state.plan.refusals):
            state = OperationState.NOT_STARTED  # it does not answer, and nothing is wrong with the machine
        return replace(outcome, state=state, reason=reason, findings=machine_state.plan.refusals)
    if obstacle := describe_time_shortage(context):
        return build(f"plan: nothing would begin: {obstacle}", obstacle)
    count = len(machine_state.plan.chosen)
    installation = f"{format_count(count, 'update')} would be installed" if count else "nothing would be installed"
    return build(f"plan: {installation}", "would be installed", UpdateState.PENDING)


def _describe_why_not_started(machine_state: MachineState) -> str:
    if machine_state.halted:
        return machine_state.halted
    if machine_state.error is not None:
        return machine_state.error.message
    if machine_state.baseline is None and machine_state.plan is not None and machine_state.plan.refusals:
        return describe_blocking_findings(machine_state.plan.refusals)
    early = machine_state.early_reboot
    if early is not None and early.state is RebootState.FAILED:
        return f"the reboot that was pending failed: {early.reason}"
    return "the run ended before its turn"
