"""Pre-check: is this machine in a state in which it may be patched? Every finding blocks or warns, with its remedy."""

from collections.abc import Sequence
from dataclasses import replace

from tasks.model import Finding
from tasks.seams.clock import Deadline
from tasks.states import FindingLevel, OperationState, Step
from tasks.steps.assess import findings_on_state, plan_anew
from tasks.steps.claim import claim
from tasks.steps.context import MachineRun, Work
from tasks.steps.facts import timed_facts
from tasks.steps.packages import wait_for_packages
from tasks.steps.probes import ask
from tasks.steps.turn import over_at

OTHERS_SECONDS = 300.0
"""How long somebody who changes packages is waited for, at most: as long as an installation waits for the lock."""


def precheck(work: Work) -> MachineRun:
    """Look at the machine just before it is changed; a blocking finding halts it.

    A machine that another run is working on is left to it: two windows may be open at once.

    Reaching the machine and becoming root are checked by doing it: both raise when they fail.
    """
    clock = work.context.clock
    facts = timed_facts(work.transport, clock, work.reading())
    work.run = replace(work.run, baseline=facts, claimed=True)
    claimed = claim(work)
    if claimed.finding.level is not FindingLevel.BLOCK and _look_again(work):
        facts = timed_facts(work.transport, clock, work.reading())  # what others changed meanwhile is not this run's
        work.run = replace(work.run, baseline=facts)
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


def _look_again(work: Work) -> bool:
    """Plan anew when packages were half changed as they were assessed: that may be hours ago, and long over.

    Returns:
        Whether it did.

    Where an earlier process has begun already, what it found half done may be its own.
    """
    if work.run.begun or not (work.packages.problems or work.packages.at_work):
        return False
    until = min(Deadline(over_at(work)), Deadline.after(work.context.clock, OTHERS_SECONDS))
    work.run = plan_anew(work, wait_for_packages(work, Step.PRECHECK, until))
    return True


def refusal(findings: Sequence[Finding]) -> str:
    """Return in words which findings block, or ""."""
    return "; ".join(f"{each.check}: {each.message}" for each in findings if each.level is FindingLevel.BLOCK)
