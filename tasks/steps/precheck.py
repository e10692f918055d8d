"""Pre-check: is this machine in a state in which it may be patched? Every finding blocks or warns, with its remedy."""

from collections.abc import Sequence
from dataclasses import replace

from tasks.model import Facts, Finding, PackageState, RebootNeed, Update
from tasks.rules.checks import PENDING_REBOOT, clock_finding, disk_findings, package_findings, vendor_findings
from tasks.states import Answer, FindingLevel, OperationState
from tasks.steps.claim import claim
from tasks.steps.context import MachineRun, Work
from tasks.steps.facts import timed_facts
from tasks.steps.probes import ask


def precheck(work: Work) -> MachineRun:
    """Look at the machine just before it is changed; a blocking finding halts it.

    A machine that another run is working on is left to it: two windows may be open at once.

    Reaching the machine and becoming root are checked by doing it: both raise when they fail.
    """
    clock = work.context.clock
    facts = timed_facts(work.transport, clock, work.reading())
    work.run = replace(work.run, baseline=facts, claimed=True)
    claimed = claim(work)
    findings = [
        claimed.finding,
        Finding("login", FindingLevel.GOOD, f"logged in; privilege: {facts.privilege}"),
        *findings_on_state(work, facts, work.plan.chosen),
        *(ask(work, check) for check in work.run.machine.pre_checks),
        *(ask(work, probe) for probe in work.run.machine.probes),
    ]
    blocking = [finding for finding in findings if finding.level is FindingLevel.BLOCK]
    halted = refusal(findings)
    elsewhere = claimed.is_elsewhere and blocking == [claimed.finding]  # nothing is wrong with the machine then
    halted_as = OperationState.NOT_STARTED if elsewhere else OperationState.FAILED
    return replace(work.run, findings=tuple(findings), halted=halted, halted_as=halted_as)


def refusal(findings: Sequence[Finding]) -> str:
    """Return in words which findings block, or ""."""
    return "; ".join(f"{each.check}: {each.message}" for each in findings if each.level is FindingLevel.BLOCK)


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


def state_findings(
    facts: Facts,
    packages: PackageState,
    chosen: Sequence[Update],
    *,
    repair: bool = False,
    reboot_first: bool = False,
    updaters_rest: bool = False,
) -> list[Finding]:
    """Return what a machine's state means for installing the chosen updates. Pure.

    Args:
        facts: what the machine says of itself.
        packages: what its package manager says.
        chosen: what is to be installed.
        repair: whether an interrupted transaction may be finished.
        reboot_first: whether a pending reboot is taken before anything is installed.
        updaters_rest: whether updaters of the system's own are paused before that.
    """
    download = sum(update.size_bytes or 0 for update in chosen)
    of_packages = package_findings(packages, repair_allowed=repair, updaters_rest=updaters_rest)
    return [
        clock_finding(facts.clock_skew_seconds),
        *disk_findings(facts, download_bytes=download, updates=chosen),
        *vendor_findings(chosen),
        *(
            finding for finding in of_packages if finding.check != PENDING_REBOOT
        ),  # said once, with what is done about it
        _pending_reboot(packages.reboot, first=reboot_first),
    ]


def _pending_reboot(need: RebootNeed, *, first: bool) -> Finding:
    reasons = "; ".join(need.reasons)
    match need.answer:
        case Answer.NO:
            return Finding(PENDING_REBOOT, FindingLevel.GOOD, "no reboot is pending")
        case Answer.YES if first:
            return Finding(PENDING_REBOOT, FindingLevel.GOOD, f"a pending reboot is taken first: {reasons}")
        case Answer.YES:
            remedy = "Reboot it, or allow pending reboots to be taken first."
            return Finding(PENDING_REBOOT, FindingLevel.WARN, f"a reboot was pending already: {reasons}", remedy)
        case _:
            return Finding(
                PENDING_REBOOT, FindingLevel.GOOD, f"the machine can't tell whether a reboot is pending: {reasons}"
            )
