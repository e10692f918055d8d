"""Assess: what the machine is, what is pending on it, and what a run would do about it."""

from dataclasses import replace

from tasks.model import Assessment, PackageState, Plan
from tasks.rules.budget import predict, reboot_expected
from tasks.rules.checks import vendor_findings
from tasks.rules.rehearsal import sift
from tasks.rules.selection import notes, select
from tasks.states import Answer, RebootPolicy
from tasks.steps.context import MachineRun, Work
from tasks.steps.facts import read_facts


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
            *notes(chosen, options.selection),
            *(finding.message for finding in vendor_findings(chosen)),
        ),
        download_bytes=download,
        assessed_at=work.run.assessment.at if work.run.assessment else None,
    )
    return replace(work.run, plan=made)


def _under(policy: RebootPolicy, expected: Answer) -> Answer:
    """Return whether a reboot is to be expected under a policy."""
    return {RebootPolicy.NEVER: Answer.NO, RebootPolicy.ALWAYS: Answer.YES}.get(policy, expected)


def _notes(packages: PackageState) -> list[str]:
    said = list(packages.warnings)
    if packages.at_work:
        said.append(f"packages are being changed by {packages.at_work}, so their state was not judged")
    if packages.problems:
        said.append("packages are in a broken state, so what would be installed was not rehearsed")
    if packages.reboot.answer is Answer.YES:
        said.append("a reboot is pending: " + "; ".join(packages.reboot.reasons))
    if not packages.updates:
        said.append("nothing is pending")
    return said
