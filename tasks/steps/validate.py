"""Validate: look at the machine as if for the first time, and compare with what was promised."""

from collections.abc import Sequence
from dataclasses import replace

from tasks.model import Assessment, Facts, Finding, PackageState, RebootResult, UpdateResult, Validation
from tasks.rules.checks import PACKAGES, REPAIR_REMEDY, mount_findings, service_findings, unjudged_findings
from tasks.rules.restarts import outdated_findings
from tasks.seams.clock import Deadline
from tasks.states import Answer, FindingLevel, RebootState, Step, UpdateState
from tasks.steps.context import MachineRun, Work
from tasks.steps.facts import read_facts
from tasks.steps.packages import others_deadline, read_packages, wait_for_packages
from tasks.steps.probes import ask

PAUSE_SECONDS = 2.0


def validate(work: Work) -> MachineRun:
    """Re-assess the machine, and check versions, services, boot and its owner's probes."""
    clock, run = work.context.clock, work.run
    facts, findings = _settled_services(work, work.context.options.settle_seconds)
    began = clock.now()
    rebooted = any(result.state is RebootState.COMPLETED for result in run.reboots)
    packages = run.packages_after
    blocks = any(finding.level is FindingLevel.BLOCK for finding in findings)
    if blocks or packages is None or packages.at_work or packages.problems or rebooted or run.restarts is not None:
        packages, others = read_packages(work), False
        if packages.at_work:
            packages, others = _settled_packages(work), True
        if blocks:  # somebody was upgrading just these services, perhaps, and may have ended as packages were read
            facts, findings = _settled_services(work, work.context.options.settle_seconds if others else 0)
    seconds = (clock.now() - began).total_seconds()
    assessment = Assessment(work.name, began, seconds, facts=facts, packages=packages, run_id=work.context.run.id)
    work.context.records.save(assessment)
    findings += _versions(work, packages)
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
    asks = "; ".join(packages.reboot.reasons) if packages.reboot.answer is Answer.YES else None
    reboot = run.reboot
    if rebooted and asks is not None:
        findings.append(
            Finding("reboot", FindingLevel.WARN, f"it asks for a reboot again: {asks}", "Look at its boot.")
        )
    elif asks is not None and reboot is not None and reboot.state is RebootState.NOT_NEEDED:
        reboot = RebootResult(
            RebootState.REQUIRED, f"the machine began to ask for a reboot after that was decided: {asks}"
        )
    findings += outdated_findings(packages, work.context.options.restart_services_exclude)
    findings += [ask(work, probe) for probe in run.machine.probes]
    return replace(run, packages_after=packages, reboot=reboot, validation=Validation(tuple(findings), assessment))


def _settled_packages(work: Work) -> PackageState:
    """Wait while somebody changes packages, as long as the window or our own time lasts."""
    own = Deadline.after(work.context.clock, work.context.options.settle_seconds)
    return wait_for_packages(work, Step.VALIDATE, max(own, others_deadline(work)))


def _settled_services(work: Work, seconds: float) -> tuple[Facts, list[Finding]]:
    """Compare services and file systems before and after; what is gone is given so many seconds to come back."""
    clock = work.context.clock
    deadline = Deadline.after(clock, seconds)
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


def _versions(work: Work, packages: PackageState) -> list[Finding]:
    """Check that what was reported as installed is still there, at the version that was seen then."""
    if work.run.install is None:
        return []
    installed = [r for r in work.run.install.results if r.state is UpdateState.INSTALLED]
    if not installed:
        return []
    wrong = _otherwise(work, installed)
    if wrong and not packages.at_work:  # somebody may be changing just these: what is half done now is whole soon
        packages = _settled_packages(work)
        wrong = _otherwise(work, installed)
        packages = read_packages(work) if wrong else packages
        if wrong and packages.at_work:
            return list(unjudged_findings(packages))
    if wrong and packages.at_work:
        return []  # which is told already
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
