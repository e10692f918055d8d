"""The assess step: read the machine's facts and pending updates, and plan the run on it."""

from collections.abc import Iterable, Sequence
from dataclasses import replace
from functools import partial

from tasks.domain.model import Assessment, Facts, Finding, MachinePlan, PackageState, RebootNeed, Update, UpdateResult
from tasks.domain.protocols.clock import Deadline
from tasks.domain.protocols.package_manager import REFRESH_TIMEOUT_SECONDS
from tasks.domain.states import FindingLevel, OperationState, RebootPolicy, Step, YesNoUnknown
from tasks.machines.managers.registry import POSSIBLE_CLASSES, find_kernel_removal
from tasks.rules.kept_packages import describe_no_way_back
from tasks.rules.machine_checks.findings import describe_blocking_findings
from tasks.rules.machine_checks.packages import (
    block_server_deadlines,
    check_vendor_changes,
    describe_live_patching,
    prevents_installation,
)
from tasks.rules.machine_checks.precheck import check_machine_state, check_same_machine
from tasks.rules.machine_checks.services import (
    count_reboot_only_services,
    find_restartable_services,
    join_first_services,
)
from tasks.rules.runs.approval import restrict_new_plan
from tasks.rules.runs.figures import explain_reboot, predict_reboot
from tasks.rules.undo import LEFT_REBOOT, keep_others, leaves_pending_reboot
from tasks.rules.updates.effect import find_waiting_fixes
from tasks.rules.updates.new_packages import describe_new_packages, find_new_packages
from tasks.rules.updates.possible_classes import find_impossible_classes
from tasks.rules.updates.selection import describe_server_products, describe_unapplied_limits, select_updates
from tasks.rules.updates.simulation import filter_by_simulation
from tasks.rules.updates.transaction_planning import predict_durations, predict_reboot_need
from tasks.steps.component_choice import choose_component
from tasks.steps.context.machine_context import MachineContext, MachineState
from tasks.steps.context.run_context import PatchOptions
from tasks.steps.machine.auto_updaters import explain_left_out
from tasks.steps.machine.custom_checks import run_all_checks
from tasks.steps.machine.facts import read_facts
from tasks.steps.machine.health import check_health
from tasks.steps.machine.next_boot import check_next_boot_needs
from tasks.steps.machine.package_state import (
    date_reboot,
    date_selection,
    keep_repository_problems,
    query_packages,
    simulate,
)
from tasks.steps.snapshots import check_snapshot
from tasks.steps.start_checks import is_visit_needed
from tasks.steps.undo_choice import choose_ways_back, describe_ways_back

_REBOOT_WORDS = {
    YesNoUnknown.YES: "a reboot is expected because of ",
    YesNoUnknown.UNKNOWN: "a reboot is possible because of ",
    YesNoUnknown.NO: "no reboot is expected: ",
}


def assess(context: MachineContext) -> MachineState:
    """Read facts and pending updates from the machine, and store the assessment in the records."""
    clock, machine_state = context.clock, context.state
    began = clock.now()
    context.report_progress(Step.ASSESS, "waiting for its first answer")
    facts = read_facts(context.transport, clock, context.build_read_deadline())
    other_name = context.run_context.instances.meet(facts, context.name)
    same = check_same_machine(other_name, changes_machines=context.run.kind != "assess")
    manager = context.find_manager(facts)
    refresh, allowed_seconds = context.options.refresh, manager.default_rates.read_timeout_seconds
    if refresh:
        minutes = REFRESH_TIMEOUT_SECONDS // 60
        context.report_progress(Step.ASSESS, f"the machine reads its repositories (ended after {minutes} minutes)")
        allowed_seconds += REFRESH_TIMEOUT_SECONDS
    else:
        context.report_progress(Step.ASSESS, "the machine lists its updates")
    packages = query_packages(
        manager, context.transport, clock, facts, refresh=refresh, deadline=Deadline.after(clock, allowed_seconds)
    )
    waits = packages.reboot.answer is YesNoUnknown.YES or packages.services_to_restart
    previous = context.records.read_last_assessment(context.name) if waits or not refresh else None
    if not refresh and previous is not None:
        packages = keep_repository_problems(packages, previous.packages, began)
    packages = date_reboot(packages, facts, previous, began)
    packages = replace(packages, waiting=find_waiting_fixes(packages, facts, previous))
    seconds = (clock.now() - began).total_seconds()
    assessment = Assessment(context.name, began, seconds, facts=facts, packages=packages, run_id=context.run.id)
    context.records.save(assessment)
    return replace(
        machine_state,
        assessment=assessment,
        findings=(*machine_state.findings, *same),
        halted=describe_blocking_findings(same),
        halted_as=OperationState.NOT_STARTED,
    )


def plan_updates(context: MachineContext) -> MachineState:
    """Plan an assessed machine. The package manager simulates the installation first."""
    options, packages = context.options, context.packages
    packages = block_server_deadlines(packages) if options.forbids_restarts else packages
    special_notes: tuple[str, ...] = ()
    download: int | None = 0
    new_packages: tuple[UpdateResult, ...] = ()
    selection, snapshot = options.selection, ""
    if options.component_order is not None:
        (chosen, skipped), note = choose_component(context)
        special_notes, download = (note,), None
    elif options.undo_order is not None:
        choice = choose_ways_back(context)
        chosen, skipped, selection = choice.back, choice.skipped, keep_others(selection, choice.skipped)
        snapshot = choice.snapshot
    else:
        selection = date_selection(context, packages)
        chosen, skipped = select_updates(packages, selection)
        if selection.pinned_updates is None:
            special_notes = find_impossible_classes(selection.classifications, [packages.manager], POSSIBLE_CLASSES)
    if chosen and not (prevents_installation(packages) or options.component_order is not None or snapshot):
        search_deadline = context.build_package_deadline()
        filtered = filter_by_simulation(
            chosen,
            partial(simulate, context),
            packages,
            selection,
            allow_removals=options.allow_removals,
            has_time=lambda: not search_deadline.has_passed(context.clock),
        )
        known = replace(packages, updates=(*packages.updates, *filtered.chosen))
        new_packages = find_new_packages(filtered.simulation.changes, known) if filtered.simulation else ()
        chosen, skipped = filtered.chosen, (*skipped, *filtered.skipped, *new_packages)
        download = filtered.simulation.download_bytes if filtered.simulation else 0
    if options.undo_order is not None:
        special_notes = describe_ways_back(context, chosen, skipped)
    need = packages.reboot
    # an undo does not reboot for others
    if chosen and options.undo_order is None and options.reboot is not RebootPolicy.NEVER:
        need = count_reboot_only_services(packages, options.restart_services_exclude)
    waits, deadline = options.may_reboot_wait(need), options.live_patch_policy.describe_deadline(need)
    expected = predict_reboot_need(chosen, RebootNeed(YesNoUnknown.NO) if waits else need)
    leaves_reboot = options.undo_order is not None and leaves_pending_reboot(packages.reboot, options.reboot, chosen)
    expected = YesNoUnknown.NO if leaves_reboot else expected
    expected = YesNoUnknown.YES if snapshot else expected  # the provider boots the machine anew
    machine_plan = MachinePlan(
        machine=context.name,
        chosen=chosen,
        skipped=skipped,
        prediction=predict_durations(chosen, context.rates, expected, options.reboot, download),
        reboot_expected={RebootPolicy.NEVER: YesNoUnknown.NO, RebootPolicy.ALWAYS: YesNoUnknown.YES}.get(
            options.reboot, expected
        ),
        notes=(
            *special_notes,
            *_describe_package_state(packages),
            *([LEFT_REBOOT] if leaves_reboot and not snapshot else []),
            *([f"the pending reboot is {deadline}"] if deadline else []),
            *_describe_service_restarts(packages, options),
            *describe_unapplied_limits(chosen, selection),
            *describe_new_packages(new_packages),
            *(
                ()
                if snapshot or options.component_order
                else describe_no_way_back(chosen, context.manager.way_back, keep=options.keep_previous)
            ),
            *describe_server_products(chosen),
            *(finding.message for finding in check_vendor_changes(chosen)),
        ),
        download_bytes=download,
        assessed_at=context.state.assessment.at if context.state.assessment else None,
        snapshot=snapshot,
    )
    if reason := explain_reboot(machine_plan):
        reboot_note = f"{_REBOOT_WORDS[predict_reboot(machine_plan)]}{reason}"
        machine_plan = replace(machine_plan, notes=(*machine_plan.notes, reboot_note))
    context.state = replace(context.state, plan=machine_plan)
    return replace(context.state, plan=_with_refusals(context, machine_plan))


def replan_updates(context: MachineContext, packages: PackageState) -> MachineState:
    """Plan again with the updates that are pending now.

    If the run needs an approval or a rehearsal, the new plan has only updates that the plan before it has.
    """
    previous_plan = context.plan
    context.state = replace(context.state.with_packages(packages), was_replanned=True)
    replanned = plan_updates(context)
    if replanned.plan is None:
        return replanned
    return replace(replanned, plan=restrict_new_plan(context.run, replanned.plan, previous_plan))


def check_state_for_updates(context: MachineContext, facts: Facts, chosen: Sequence[Update]) -> list[Finding]:
    """Return findings about the machine's state for these updates. The checks of the inventory are not included."""
    options, packages = context.options, context.packages
    return check_machine_state(
        facts,
        packages,
        chosen,
        repair=options.repair,
        reboot_first=options.reboot_pending_first and options.reboot is not RebootPolicy.NEVER,
        reboot_may_wait=options.may_reboot_wait(packages.reboot),
        reboot_due=options.live_patch_policy.describe_deadline(packages.reboot)
        if options.is_reboot_overdue(packages.reboot)
        else "",
        updaters_paused=options.pauses_updaters,
        patched_by_others=options.patched_by_others,
        kernel_removal=find_kernel_removal(facts),
        may_reboot=options.reboot is not RebootPolicy.NEVER,
        forbids_restarts=options.forbids_restarts,
    )


def excuse_faults(context: MachineContext, plan: MachinePlan, findings: Iterable[Finding]) -> list[Finding]:
    """Return the findings of a machine. What is wrong with it may be the reason why it goes back.

    If it is put back to a snapshot, only the owner's pre-checks block. If packages take a run back, probes do not.
    """
    machine, is_undo = context.state.machine, context.options.undo_order is not None
    kept, probes = ({check.name for check in checks} for checks in (machine.pre_checks, machine.probes))
    return [
        replace(finding, level=FindingLevel.WARN)
        if finding.level is FindingLevel.BLOCK
        and finding.check not in kept
        and (plan.snapshot or (is_undo and finding.check in probes))
        else finding
        for finding in findings
    ]


def _with_refusals(context: MachineContext, plan: MachinePlan) -> MachinePlan:
    """Return a plan with the findings that would block the pre-check, if the machine needs a visit.

    A machine that others patch, and that the request skips, gets a note instead. In a component's run, the findings are
    what makes the machine unhealthy now, whatever it gets: too many unhealthy ones keep the run from beginning.
    """
    if context.options.component_order is not None:
        health = [*check_state_for_updates(context, context.facts, plan.chosen), *run_all_checks(context)]
        refusals = tuple(finding for finding in health if finding.level is FindingLevel.BLOCK)
        refusal_notes = (f"not healthy: {finding.check}: {finding.message}" for finding in refusals)
        return replace(plan, refusals=refusals, notes=(*plan.notes, *refusal_notes))
    if not is_visit_needed(context.state, context.options):
        return plan
    if reason := explain_left_out(context):
        return replace(plan, notes=(*plan.notes, reason))
    findings = excuse_faults(context, plan, check_state_for_updates(context, context.facts, plan.chosen))
    # a patch run runs the checks of the inventory in its pre-check, just before it changes the machine
    if context.run.kind == "plan":
        check_findings = excuse_faults(context, plan, (*check_health(context), *run_all_checks(context)))
        check_findings += (*check_next_boot_needs(context), *check_snapshot(context))
        findings += check_findings
        told_levels = {FindingLevel.WARN, FindingLevel.REMARK}
        warnings = (finding for finding in check_findings if finding.level in told_levels)
        notes = (f"pre-check would warn: {finding.check}: {finding.message}" for finding in warnings)
        plan = replace(plan, notes=(*plan.notes, *notes))
    refusals = tuple(finding for finding in findings if finding.level is FindingLevel.BLOCK)
    refusal_notes = (f"pre-check would refuse: {finding.check}: {finding.message}" for finding in refusals)
    return replace(plan, refusals=refusals, notes=(*plan.notes, *refusal_notes))


def _describe_service_restarts(packages: PackageState, options: PatchOptions) -> list[str]:
    """Return notes on the services that run replaced files, and on those that this run would restart."""
    if not packages.services_to_restart:
        return []
    description = f"services that run replaced files: {join_first_services(packages.services_to_restart)}"
    due = (
        find_restartable_services(packages, options.restart_services_exclude)
        if options.restart_services == "IfRequired"
        else ()
    )
    return [f"{description}; to be restarted unless it reboots: {join_first_services(due)}" if due else description]


def _describe_package_state(packages: PackageState) -> list[str]:
    lines = [*map(str, packages.repository_problems), *packages.warnings]
    if packages.at_work:
        lines.append(f"packages were being changed by {packages.at_work}, so their state was not checked")
    if prevents_installation(packages):
        lines.append("packages are in a broken state, so what would be installed was not simulated")
    elif packages.problems:
        lines.append(f"packages are in a broken state, and others can be installed: {'; '.join(packages.problems)}")
    if packages.reboot.answer is YesNoUnknown.YES:
        lines.append(f"a reboot is pending: {packages.reboot.explanation}")
    lines += [f"it may restart by itself: {restart.reason}" for restart in packages.self_restarts]
    if packages.live_patching is not None:
        lines.append(f"live patches: {describe_live_patching(packages.live_patching)}")
    if not packages.updates:
        lines.append("nothing is pending")
    return lines


def assess_and_plan(context: MachineContext) -> MachineState:
    """Assess a machine, and plan it in the same visit, unless the run only assesses or leaves it out."""
    context.state = assess(context)
    is_over = context.run.kind == "assess" or bool(context.state.halted)
    return context.state if is_over else plan_updates(context)
