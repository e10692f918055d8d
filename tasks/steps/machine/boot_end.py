"""Waits until a machine's boot has ended: what cloud-init or another first boot has begun must not be cut."""

from typing import Final

from tasks.domain.model import Facts
from tasks.domain.states import Step
from tasks.steps.context.machine_context import MachineContext
from tasks.steps.machine.facts import read_facts_again
from tasks.steps.start_checks import check_may_start

POLL_SECONDS: Final = 5.0


def wait_for_boot(context: MachineContext, step: Step) -> tuple[Facts, str]:
    """Read the facts of a machine until its boot has ended, as long as a change may still begin on it.

    Args:
        context: of the machine.
        step: the step that waits, for the progress.

    Returns:
        Its latest facts, and why the wait ended before the boot did, or "".

    Raises:
        FleetpatchError: the machine can't be asked.
    """
    while True:
        facts = read_facts_again(context)
        if not facts.boot_work:
            return facts, ""
        if reason := check_may_start(context):
            return facts, f"{facts.boot_work}; {reason}"
        context.listener.on_progress(context.name, step, None, f"waiting: {facts.boot_work}")
        context.clock.sleep(POLL_SECONDS)
