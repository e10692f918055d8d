"""Asks a machine how healthy it is before it is changed, and what went wrong since; its package manager knows how."""

import math
from collections.abc import Sequence
from dataclasses import replace
from datetime import datetime
from typing import Final

from tasks.domain.errors import DeadlineExceeded, ScriptFailed
from tasks.domain.model import Finding
from tasks.domain.protocols.clock import Deadline
from tasks.domain.protocols.transport import Script
from tasks.domain.states import FindingLevel, Step
from tasks.steps.context.machine_context import MachineContext
from tasks.steps.machine.facts import parse_findings

HEALTH_CHECK: Final = "health"
"""The check of whether the machine says how healthy it is."""
SCRIPT_TIMEOUT_SECONDS: Final = 90.0


def check_health(context: MachineContext) -> Sequence[Finding]:
    """Return what endangers an installation on this machine.

    Raises:
        TransportError: the connection failed. A machine that does not answer in time is only a finding.
    """
    script = context.manager.health_script
    return () if script is None else _run_health_script(context, script)


def check_health_since(context: MachineContext) -> Sequence[Finding]:
    """Return what went wrong on this machine since the run began there, without what the pre-check has found.

    Raises:
        TransportError: the connection failed. A machine that does not answer in time is only a finding.
    """
    script = context.manager.health_script
    if script is None:
        return ()
    # clocks differ: the machine is asked by its own
    since = _find_start(context).timestamp() + context.facts.clock_skew_seconds
    script = replace(script, params={**script.params, "since": str(math.floor(since))})
    return [finding for finding in _run_health_script(context, script) if finding not in context.state.findings]


def _find_start(context: MachineContext) -> datetime:
    starts = (record.started_at for record in context.state.steps if record.step is not Step.ASSESS)
    return min(starts, default=context.run.started_at)


def _run_health_script(context: MachineContext, script: Script) -> Sequence[Finding]:
    try:
        answer = context.transport.run_script(script, deadline=Deadline.after(context.clock, SCRIPT_TIMEOUT_SECONDS))
    except DeadlineExceeded:
        reason = f"not known: the machine has not answered in {SCRIPT_TIMEOUT_SECONDS:.0f} s"
        return (Finding(HEALTH_CHECK, FindingLevel.GOOD, reason),)
    if answer.exit_code:
        raise ScriptFailed(
            f"{script.name} ended with {answer.exit_code}",
            exit_code=answer.exit_code,
            output_tail=answer.unframed_output,
            machine=context.name,
        )
    return parse_findings(answer)
