"""Assess: what the machine is, what is pending on it, and what a run would do about it."""

from collections.abc import Sequence
from dataclasses import replace

from tasks.model import Assessment, Facts, Finding, PackageState, Plan, Update
from tasks.rules.approval import asked_for, kept_to
from tasks.rules.approval import shown as shown_in
from tasks.rules.budget import predict, reboot_expected
from tasks.rules.checks import vendor_findings
from tasks.rules.machine_state import state_findings
from tasks.rules.rehearsal import sift
from tasks.rules.restarts import restartable, shown
from tasks.rules.selection import notes, select
from tasks.states import Answer, FindingLevel, RebootPolicy
from tasks.steps.context import MachineRun, PatchOptions, Work
from tasks.steps.facts import read_facts
from tasks.steps.probes import try_all
from tasks.steps.turn import worth_a_visit


def assess(work: Work) -> MachineRun:
    """Ask the machine for facts and pending updates, and keep the answer in the records."""
    clock, run = work.context.clock, work.run
    began = clock.now()
    facts = read_facts(work.transport, clock, work.reading())
    packages = work.context.manager_for(facts).assess(
        work.transport, refresh=work.context.options.refresh, deadline=work.reading()
    )
    seconds = (clock.now() - began).total_seconds()
    assessment = Assessment(
        machine=work.name, at=began, seconds=seconds, facts=facts, packages=packages, run_id=work.context.run.id
    )
    work.context.records.save(assessment)
    return replace(run, assessment=assessment)


def plan(work: Work) -> MachineRun:
    """Decide what is to be done on an assessed machine, after asking its package manager what that would entail."""
    options, packages = work.context.options, work.packages
    chosen, skipped = select(packages, options.selection)
    download: int | None = 0
    if chosen and not packages.problems:
        sifted = sift(
            chosen,
            lambda updates: work.manager.rehearse(work.transport, updates, deadline=work.reading()),
            packages,
            options.selection,
            allow_removals=options.allow_removals,
        )
        chosen, skipped = sifted.chosen, (*skipped, *sifted.skipped)
        download = sifted.rehearsal.download_bytes if sifted.rehearsal else 0
    expected = reboot_expected(chosen, packages.reboot)
    made = Plan(
        machine=work.name,
        chosen=chosen,
        skipped=skipped,
        prediction=predict(chosen, work.rates, expected, options.reboot, download),
        reboot_expected=_under(options.reboot, expected),
        notes=(
            *_notes(packages),
            *_restarts(packages, options),
            *notes(chosen, options.selection),
            *(finding.message for finding in vendor_findings(chosen)),
        ),
        download_bytes=download,
        assessed_at=work.run.assessment.at if work.run.assessment else None,
    )
    work.run = replace(work.run, plan=made)
    return replace(work.run, plan=_checked(work, made))


def plan_anew(work: Work, packages: PackageState) -> MachineRun:
    """Plan with what is pending now, and install no more than what a person saw, where one had to approve it."""
    before, run = work.plan, replace(work.run, planned_anew=True)
    work.run = replace(run, assessment=replace(run.assessment, packages=packages) if run.assessment else None)
    made = plan(work)
    if made.plan is None or not asked_for(work.context.run):
        return made
    return replace(made, plan=kept_to(made.plan, shown_in([before]), "trim", "a person"))


def findings_on_state(work: Work, facts: Facts, chosen: Sequence[Update]) -> list[Finding]:
    """Return what the machine's own state means for installing these updates, without its owner's checks."""
    options, packages = work.context.options, work.packages
    return state_findings(
        facts,
        packages,
        chosen,
        repair=options.repair,
        reboot_first=options.reboot_pending_first,
        updaters_rest=options.native_updaters == "pause",
    )


def _checked(work: Work, plan: Plan) -> Plan:
    """Return a plan with what the pre-check would refuse, if the machine would be visited at all."""
    if not worth_a_visit(work.run, work.context.options):
        return plan
    found = findings_on_state(work, work.facts, plan.chosen)
    if work.context.run.kind == "plan":  # a run that patches asks its owner's checks just before it changes anything
        asked = try_all(work)
        found += asked
        plan = replace(plan, notes=(*plan.notes, *_remarks(asked)))
    refusals = tuple(finding for finding in found if finding.level is FindingLevel.BLOCK)
    told = (f"pre-check would refuse: {finding.check}: {finding.message}" for finding in refusals)
    return replace(plan, refusals=refusals, notes=(*plan.notes, *told))


def _remarks(asked: Sequence[Finding]) -> list[str]:
    """Say what the owner's checks answered that only warns."""
    return [f"pre-check would warn: {each.check}: {each.message}" for each in asked if each.level is FindingLevel.WARN]


def _under(policy: RebootPolicy, expected: Answer) -> Answer:
    """Return whether a reboot is to be expected under a policy."""
    return {RebootPolicy.NEVER: Answer.NO, RebootPolicy.ALWAYS: Answer.YES}.get(policy, expected)


def _restarts(packages: PackageState, options: PatchOptions) -> list[str]:
    """Say which services run replaced files by now, and which of them this run would restart."""
    if not packages.services_to_restart:
        return []
    said = f"services that run replaced files: {shown(packages.services_to_restart)}"
    due = restartable(packages, options.restart_services_exclude) if options.restart_services == "IfRequired" else ()
    return [f"{said}; to be restarted unless it reboots: {shown(due)}" if due else said]


def _notes(packages: PackageState) -> list[str]:
    said = list(packages.warnings)
    if packages.at_work:
        said.append(f"packages were being changed by {packages.at_work}, so their state was not judged")
    if packages.problems:
        said.append("packages are in a broken state, so what would be installed was not rehearsed")
    if packages.reboot.answer is Answer.YES:
        said.append("a reboot is pending: " + "; ".join(packages.reboot.reasons))
    if not packages.updates:
        said.append("nothing is pending")
    return said
