"""Waits until a member of machine sets is healthy after its turn."""

from collections.abc import Sequence
from typing import Final

from inventory.machine_sets import MachineSet
from tasks.domain.protocols.clock import Clock, Deadline
from tasks.domain.states import Step
from tasks.steps.context.machine_context import MachineContext
from tasks.steps.context.run_context import ProgressListener, StopToken
from tasks.steps.machine.set_member import add_health_finding, check_member

HEALTH_POLL_SECONDS: Final = 5.0


def await_health(
    context: MachineContext, sets: Sequence[MachineSet], clock: Clock, listener: ProgressListener, stop_token: StopToken
) -> str:
    """Return why a member is not healthy in the time that its sets give it, or ""."""
    for machine_set in sets:
        deadline, is_told = Deadline.after(clock, machine_set.healthy_seconds), False
        while reason := check_member(context, machine_set.healthy):
            if deadline.has_passed(clock) or stop_token.is_lease_lost:
                reason = f"it is not healthy {machine_set.healthy_seconds:.0f} s after its turn: {reason}"
                add_health_finding(context, f"set {machine_set.name}", reason)
                return reason
            if not is_told:
                listener.on_progress(context.name, Step.VALIDATE, None, f"waiting until it is healthy: {reason}")
            is_told = True
            clock.sleep(min(HEALTH_POLL_SECONDS, max(0.1, deadline.remaining_seconds(clock))))
    return ""
