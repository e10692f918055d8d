"""Pre-check: is this machine in a state in which it may be patched? Every finding blocks or warns, with its remedy."""

import re
from collections.abc import Sequence
from dataclasses import replace

from tasks.model import Facts, Finding, PackageState, RebootNeed, Update
from tasks.rules.checks import PENDING_REBOOT, clock_finding, disk_findings, package_findings, vendor_findings
from tasks.states import Answer, FindingLevel, OperationState
from tasks.steps.claim import claim
from tasks.steps.context import MachineRun, Work
from tasks.steps.facts import timed_facts
from tasks.steps.probes import ask

_OF_ANOTHER_RUN = re.compile(
    r"run (?!None )\S+ of .+ has this machine until \d|a job of run (?!unknown )\S+(?: of .+)? is still running"
)


def precheck(work: Work) -> MachineRun:
    """Look at the machine just before it is changed; a blocking finding halts it.

    A machine that another run is working on is left to it: two windows may be open at once.

    Reaching the machine and becoming root are checked by doing it: both raise when they fail.
    """
    clock = work.context.clock
    facts = timed_facts(work.transport, clock, work.reading())
    work.run = replace(work.run, baseline=facts, claimed=True)
    findings = [
        claim(work),
        Finding("login", FindingLevel.GOOD, f"logged in; privilege: {facts.privilege}"),
        *findings_on_state(work, facts),
        *(ask(work, check) for check in work.run.machine.pre_checks),
        *(ask(work, probe) for probe in work.run.machine.probes),
    ]
    blocking = [finding for finding in findings if finding.level is FindingLevel.BLOCK]
    halted = "; ".join(f"{finding.check}: {finding.message}" for finding in blocking)
    elsewhere = bool(blocking) and all(_is_elsewhere(finding) for finding in blocking)
    halted_as = OperationState.NOT_STARTED if elsewhere else OperationState.FAILED
    return replace(work.run, findings=tuple(findings), halted=halted, halted_as=halted_as)


def _is_elsewhere(finding: Finding) -> bool:
    """Whether it says that another run has the machine: nothing is wrong with it then.

    An answer that makes no sense (no run, no moment) says nothing of the kind.
    """
    return finding.check == "claim" and _OF_ANOTHER_RUN.match(finding.message) is not None


def findings_on_state(work: Work, facts: Facts) -> list[Finding]:
    """Return what the machine's own state says, without its owner's checks: also what readiness is made of."""
    options, packages = work.context.options, work.packages
    chosen = work.run.plan.chosen if work.run.plan else packages.updates
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
            return Finding(PENDING_REBOOT, FindingLevel.WARN, f"a reboot was pending before we came: {reasons}", remedy)
        case _:
            return Finding(
                PENDING_REBOOT, FindingLevel.GOOD, f"the machine can't tell whether a reboot is pending: {reasons}"
            )
