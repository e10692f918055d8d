"""Validate: look at the machine as if for the first time, and compare with what was promised."""

from collections.abc import Sequence
from dataclasses import replace

from tasks.model import Assessment, Facts, Finding, PackageState, UpdateResult, Validation
from tasks.rules.checks import PACKAGES, REPAIR_REMEDY, mount_findings, service_findings, unjudged_findings
from tasks.rules.restarts import outdated_findings
from tasks.seams.clock import Deadline
from tasks.states import Answer, FindingLevel, RebootState, Step, UpdateState
from tasks.steps.context import MachineRun, Work
from tasks.steps.facts import read_facts
from tasks.steps.probes import ask

PAUSE_SECONDS = 2.0
PACKAGES_SECONDS = 600.0  # how long somebody who changes packages is waited for, at most, inside the window
PACKAGES_PAUSE_SECONDS = 10.0  # to ask for all packages costs the machine some seconds


def validate(work: Work) -> MachineRun:
    """Re-assess the machine, and check versions, services, boot and its owner's probes."""
    clock, run = work.context.clock, work.run
    facts, findings = _settled_services(work)
    began = clock.now()
    rebooted = any(result.state is RebootState.COMPLETED for result in run.reboots)
    packages = run.packages_after
    if packages is None or packages.at_work or rebooted or run.restarts is not None:
        packages = _settled_packages(work)
    seconds = (clock.now() - began).total_seconds()
    assessment = Assessment(work.name, began, seconds, facts=facts, packages=packages, run_id=work.context.run.id)
    work.context.records.save(assessment)
    findings += _versions(work)
    findings += _boot(work, facts)
    findings += unjudged_findings(packages)
    if packages.problems:
        findings.append(
            Finding(
                PACKAGES,
                FindingLevel.BLOCK,
                "; ".join(packages.problems),
                REPAIR_REMEDY if packages.repairable else "Mend the package state on the machine.",
            )
        )
    if rebooted and packages.reboot.answer is Answer.YES:
        reasons = "; ".join(packages.reboot.reasons)
        findings.append(
            Finding("reboot", FindingLevel.WARN, f"it asks for a reboot again: {reasons}", "Look at its boot.")
        )
    findings += outdated_findings(packages, work.context.options.restart_services_exclude)
    findings += [ask(work, probe) for probe in run.machine.probes]
    return replace(run, packages_after=packages, validation=Validation(tuple(findings), assessment))


def _settled_packages(work: Work) -> PackageState:
    """Ask for the packages' state; whoever changes them is waited for, as long as the window or our own time lasts."""
    clock, options = work.context.clock, work.context.options
    own = Deadline.after(clock, options.settle_seconds)
    patience = min(Deadline(work.context.window.end), Deadline.after(clock, PACKAGES_SECONDS))
    deadline = max(own, patience)
    while True:
        packages = work.manager.assess(work.transport, refresh=False, deadline=work.reading())
        left = deadline.remaining(clock)
        if not packages.at_work or left <= 0 or work.context.control.stopping:
            return packages
        waiting = f"packages were being changed by {packages.at_work}: looking again"
        work.context.watch.progress(work.name, Step.VALIDATE, None, waiting)
        clock.sleep(min(PACKAGES_PAUSE_SECONDS, left))


def _settled_services(work: Work) -> tuple[Facts, list[Finding]]:
    """Compare services and file systems before and after; what is gone is given time to come back."""
    clock = work.context.clock
    deadline = Deadline.after(clock, work.context.options.settle_seconds)
    while True:
        facts = read_facts(work.transport, clock, work.reading())
        before = work.run.baseline
        if before is None:
            return facts, []
        findings = [
            *service_findings(before.services, facts.services),
            *mount_findings(before.disks, facts.disks),
        ]
        good = all(finding.level is not FindingLevel.BLOCK for finding in findings)
        if good or deadline.passed(clock):
            return facts, findings
        clock.sleep(PAUSE_SECONDS)


def _versions(work: Work) -> list[Finding]:
    """Check that what was reported as installed is still there, at the version that was seen then."""
    if work.run.install is None:
        return []
    installed = [r for r in work.run.install.results if r.state is UpdateState.INSTALLED]
    if not installed:
        return []
    wrong = _otherwise(work, installed)
    if wrong:  # somebody may be changing just these: what is half done now may be whole in a moment
        packages = _settled_packages(work)
        wrong = _otherwise(work, installed)
        if wrong and packages.at_work:
            return list(unjudged_findings(packages))
    if wrong:
        names = ", ".join(sorted(wrong)[:10])
        return [
            Finding(
                "versions",
                FindingLevel.BLOCK,
                f"not at the version that was installed: {names}",
                "Look at who changed them.",
            )
        ]
    return [Finding("versions", FindingLevel.GOOD, f"{len(installed)} updates are at their new version")]


def _otherwise(work: Work, installed: Sequence[UpdateResult]) -> list[str]:
    """Ask which of these are not, or not whole, at the version that was installed."""
    now = work.manager.installed(work.transport, [r.update for r in installed], deadline=work.reading())
    return [r.update.id for r in installed if now.get(r.update.id) != r.version_after]


def _boot(work: Work, facts: Facts) -> list[Finding]:
    """Notice a reboot that nobody planned."""
    if work.run.baseline is None:
        return []
    expected = {work.run.baseline.boot_id} | {result.boot_id_after for result in work.run.reboots}
    if facts.boot_id in expected:
        return []
    return [
        Finding(
            "boot",
            FindingLevel.WARN,
            "the machine was rebooted, and not by this run",
            "Find out who or what rebooted it.",
        )
    ]
