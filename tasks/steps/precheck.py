"""Pre-check: is this machine in a state in which it may be patched? Every finding blocks or warns, with its remedy."""

from collections.abc import Sequence
from dataclasses import replace

from tasks.model import Finding
from tasks.protocols.clock import Deadline
from tasks.states import FindingLevel, OperationState, Step
from tasks.steps.assess import check_state_for_updates, replan_updates
from tasks.steps.context.machine_context import MachineContext
from tasks.steps.context.machine_state import MachineState
from tasks.steps.machine.custom_checks import run_check
from tasks.steps.machine.facts import read_facts_with_clock
from tasks.steps.machine.machine_lock import acquire_lock
from tasks.steps.machine.package_state import wait_for_idle_packages
from tasks.steps.start_checks import find_machine_cut_off

PACKAGE_WAIT_SECONDS = 300.0
"""How long somebody who changes packages is waited for, at most: as long as an installation waits for the lock."""


def precheck(context: MachineContext) -> MachineState:
    """Look at the machine just before it is changed; a blocking finding halts it.

    A machine that another run is working on is left to it: two windows may be open at once.

    Reaching the machine and becoming root are checked by doing it: both raise when they fail.
    """
    clock = context.run_context.clock
    facts = read_facts_with_clock(context.transport, clock, context.build_read_deadline())
    context.state = replace(context.state, baseline=facts, may_hold_lock=True)
    lock_result = acquire_lock(context)
    if lock_result.finding.level is not FindingLevel.BLOCK and _replan_unsettled_packages(context):
        facts = read_facts_with_clock(
            context.transport, clock, context.build_read_deadline()
        )  # what others changed meanwhile is not this run's
        context.state = replace(context.state, baseline=facts)
    findings = [
        lock_result.finding,
        Finding("login", FindingLevel.GOOD, f"logged in; privilege: {facts.privilege}"),
        *check_state_for_updates(context, facts, context.plan.chosen),
        *(run_check(context, check) for check in context.state.machine.pre_checks),
        *(run_check(context, probe) for probe in context.state.machine.probes),
    ]
    blocking = [finding for finding in findings if finding.level is FindingLevel.BLOCK]
    halted = describe_blocking_findings(findings)
    is_held_elsewhere = lock_result.is_held_elsewhere and blocking == [
        lock_result.finding
    ]  # nothing is wrong with the machine then
    halted_as = OperationState.NOT_STARTED if is_held_elsewhere else OperationState.FAILED
    return replace(context.state, findings=tuple(findings), halted=halted, halted_as=halted_as)


def _replan_unsettled_packages(context: MachineContext) -> bool:
    """Plan anew when packages were half changed as they were assessed: that may be hours ago, and long over.

    Returns:
        Whether it did.

    Where an earlier process has begun already, what it found half done may be its own.
    """
    if context.state.was_started or not (context.packages.problems or context.packages.at_work):
        return False
    until = min(
        Deadline(find_machine_cut_off(context)), Deadline.after(context.run_context.clock, PACKAGE_WAIT_SECONDS)
    )
    context.state = replan_updates(context, wait_for_idle_packages(context, Step.PRECHECK, until))
    return True


def describe_blocking_findings(findings: Sequence[Finding]) -> str:
    """Return in words which findings block, or ""."""
    return "; ".join(f"{each.check}: {each.message}" for each in findings if each.level is FindingLevel.BLOCK)
