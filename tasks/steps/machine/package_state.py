"""Ask for the state of a machine's packages; while somebody else changes them, wait: half of that is no damage."""

from collections.abc import Callable

from tasks.model import PackageState
from tasks.protocols.clock import Deadline
from tasks.states import Step
from tasks.steps.context.machine_context import MachineContext
from tasks.steps.machine.retry import retry_transient

MAX_WAIT_SECONDS = 600.0
"""How long somebody who changes packages is waited for, at most, inside the window."""
POLL_SECONDS = 10.0  # to ask for all packages costs the machine some seconds


def read_package_state(context: MachineContext) -> PackageState:
    """Ask once, without a refresh of the package lists."""
    return context.manager.assess(context.transport, refresh=False, deadline=context.build_read_deadline())


def read_package_state_with_retry(context: MachineContext) -> PackageState:
    """Ask, and ask again of a machine that is out of touch for a while."""
    return retry_transient(context, lambda: read_package_state(context), build_retry_deadline(context))


def build_retry_deadline(context: MachineContext) -> Deadline:
    """Until when questions are asked again of a machine that was just changed and is out of touch."""
    return Deadline.after(context.run_context.clock, context.run_context.options.max_unreachable_seconds)


def wait_for_idle_packages(
    context: MachineContext,
    step: Step,
    until: Deadline,
    read: Callable[[MachineContext], PackageState] = read_package_state,
) -> PackageState:
    """Ask until nobody changes packages any more, the time is over, or the run is asked to stop; at least once.

    Args:
        context: the machine's turn.
        step: whose time this is, for the progress.
        until: when the waiting ends.
        read: how to ask.
    """
    clock = context.run_context.clock
    while True:
        packages = read(context)
        left = until.remaining_seconds(clock)
        if not packages.at_work or left <= 0 or context.run_context.stop_token.is_stopping:
            return packages
        message = f"waiting: packages were being changed by {packages.at_work}"
        context.run_context.listener.on_progress(context.name, step, None, message)
        clock.sleep(min(POLL_SECONDS, left))


def build_package_wait_deadline(context: MachineContext) -> Deadline:
    """Until when somebody else's transaction is waited for: some minutes, and not past the window's end."""
    return min(Deadline(context.run_context.window.end), Deadline.after(context.run_context.clock, MAX_WAIT_SECONDS))
