"""Report: make a machine's run into its one Outcome, and keep it."""

from dataclasses import replace
from datetime import timedelta

from tasks.model import Finding, Outcome, UpdateResult
from tasks.rules.checks import PENDING_REBOOT, lock_freed, unjudged_findings
from tasks.rules.hooks import finding_of, stops
from tasks.rules.restarts import outdated_findings
from tasks.rules.verdict import outcome_state
from tasks.rules.window import overrun
from tasks.states import Answer, FindingLevel, HookPlace, OperationState, RebootPolicy, RebootState, UpdateState
from tasks.steps.context import MachineRun, Work
from tasks.steps.precheck import refusal


def report(work: Work) -> Outcome:
    """Return what became of a machine, and store it. Every machine ends here, however its run went."""
    outcome = settle_outcome(work)
    work.context.records.save(outcome)
    return outcome


def settle_outcome(work: Work) -> Outcome:
    """Return what became of a machine."""
    before = lock_freed(work.run.findings, work.run.packages_after)
    run = replace(work.run, findings=(*before, *_not_looked_at_again(work)))
    updates = update_results(run)
    of_hooks = tuple(finding_of(result) for result in run.hooks)
    found = (*run.findings, *_left_pending(work))
    findings = (*found, *(run.validation.findings if run.validation else ()), *of_hooks)
    final = run.reboots[-1] if run.reboots else None
    state, reason = outcome_state(
        results=updates,
        findings=found,
        hooks=of_hooks,
        reboot=final,
        validation=run.validation,
        error=run.error or (run.install.error if run.install else None),
        window_exceeded_seconds=exceeded(work),
    )
    rebooted = any(result.count for result in run.reboots)
    spoiled = any(stops(result) for result in run.hooks if result.hook.place is HookPlace.AFTER_MACHINE)
    if run.halted and run.halted_as is OperationState.NOT_STARTED and not rebooted and not spoiled:
        state, reason = run.halted_as, run.halted
    ended = run.steps[-1].ended_at if run.steps else work.context.clock.now()
    return Outcome(
        run_id=work.context.run.id,
        machine=run.machine.name,
        state=state,
        reason=reason,
        updates=updates,
        reboot=reboot_state(run),
        wave=run.wave,
        started_at=run.steps[0].started_at if run.steps else None,
        ended_at=ended,
        window_exceeded_seconds=exceeded(work),
        steps=run.steps,
        findings=findings,
        prediction=run.plan.prediction if run.plan else None,
        install=run.install,
        reboot_result=final,
        facts=run.validation.assessment.facts if run.validation and run.validation.assessment else run.baseline,
        error=run.error,
        services_to_restart=_to_restart(run),
    )


def _to_restart(run: MachineRun) -> tuple[str, ...]:
    packages = run.packages_after or (run.assessment.packages if run.assessment else None)
    return packages.services_to_restart if packages else ()


def _not_looked_at_again(work: Work) -> tuple[Finding, ...]:
    """Return what is to be said of a machine on which nothing had to be done: what would be said of it afterwards."""
    run, packages = work.run, work.run.assessment.packages if work.run.assessment else None
    changed = run.install is not None or run.reboots or run.halted or run.error is not None
    if packages is None or run.plan is None or changed or work.context.run.kind != "patch":
        return ()
    unjudged = unjudged_findings(packages) if run.baseline is None else ()  # the pre-check has said it already
    return (*unjudged, *outdated_findings(packages, work.context.options.restart_services_exclude))


def update_results(run: MachineRun) -> tuple[UpdateResult, ...]:
    """Return one result for each update that was pending, whether or not the machine came to its installation. Pure."""
    if run.install is not None:
        return run.install.results
    if run.plan is None:
        packages = run.assessment.packages if run.assessment else None
        pending = packages.updates if packages else ()
        return tuple(
            UpdateResult(update, UpdateState.PENDING, _why_unplanned(run), update.installed) for update in pending
        )
    reason = _why_not_begun(run)
    chosen = tuple(
        UpdateResult(update, UpdateState.NOT_ATTEMPTED, reason, update.installed) for update in run.plan.chosen
    )
    return (*chosen, *run.plan.skipped)


def reboot_state(run: MachineRun) -> RebootState:
    """Return where the machine stands with rebooting. Pure."""
    if run.reboots:
        return run.reboots[-1].state
    packages = run.packages_after or (run.assessment.packages if run.assessment else None)
    if packages is None:
        return RebootState.UNKNOWN
    by_answer = {Answer.YES: RebootState.REQUIRED, Answer.NO: RebootState.NOT_NEEDED}
    return by_answer.get(packages.reboot.answer, RebootState.UNKNOWN)


def _left_pending(work: Work) -> tuple[Finding, ...]:
    """Return a warning of a reboot that the machine asks for and that no step of this run had to decide about."""
    run, policy = work.run, work.context.options.reboot
    told = any(finding.check == PENDING_REBOOT for finding in run.findings)
    packages = run.packages_after or (run.assessment.packages if run.assessment else None)
    if work.context.run.kind != "patch" or run.reboots or told or packages is None:
        return ()
    if packages.reboot.answer is not Answer.YES:
        return ()
    because = f" ({'; '.join(packages.reboot.reasons)})" if packages.reboot.reasons else ""
    why_not = "nothing was installed, and a reboot that was pending before is not taken then"
    if policy is RebootPolicy.NEVER:
        why_not = "the policy is to reboot never"
    message = f"a reboot is still required: the machine asks for a reboot{because}; {why_not}"
    return (
        Finding(PENDING_REBOOT, FindingLevel.WARN, message, "Reboot it, or allow pending reboots to be taken first."),
    )


def exceeded(work: Work) -> float:
    """Return by how many seconds work that changes the machine went on after the window's end."""
    run, window = work.run, work.context.run.window
    passed = run.install.overrun_seconds if run.install else 0.0
    final = run.reboots[-1] if run.reboots else None
    if final and final.count and window is not None:
        ended = next((record.ended_at for record in reversed(run.steps) if record.step.value == "reboot"), window.end)
        passed = max(passed, (ended - window.end) / timedelta(seconds=1))
    if run.restarts and run.restarts.ended_at and window is not None:
        passed = max(passed, overrun(window, run.restarts.ended_at))
    return max(0.0, passed)


def planned(work: Work) -> Outcome:
    """Return the outcome of a dry run: nothing was done, and what would be is pending."""
    run = work.run
    if run.error is not None or run.plan is None:
        return settle_outcome(work)
    results = update_results(run)
    would = tuple(
        replace(r, state=UpdateState.PENDING, reason="would be installed")
        if r.state is UpdateState.NOT_ATTEMPTED
        else r
        for r in results
    )
    if run.plan.refusals:
        settled = settle_outcome(work)
        state, reason = outcome_state(results=settled.updates, findings=run.plan.refusals)
        return replace(settled, state=state, reason=reason, findings=run.plan.refusals)
    count = len(run.plan.chosen)
    reason = f"dry run: {count} updates would be installed" if count else "dry run: nothing would be installed"
    return replace(settle_outcome(work), state=OperationState.NOT_STARTED, reason=reason, updates=would)


def _why_not_begun(run: MachineRun) -> str:
    if run.halted:
        return run.halted
    if run.error is not None:
        return run.error.message
    if run.baseline is None and run.plan is not None and run.plan.refusals:
        return refusal(run.plan.refusals)
    early = run.early_reboot
    if early is not None and early.state is RebootState.FAILED:
        return f"the reboot that was pending failed: {early.reason}"
    return "its turn never came"


def _why_unplanned(run: MachineRun) -> str:
    return run.error.message if run.error else run.halted or "the run only assessed the machine"
