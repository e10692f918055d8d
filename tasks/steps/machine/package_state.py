"""Reads the state of a machine's packages, and waits while another process changes them."""

from collections.abc import Callable
from dataclasses import replace
from datetime import datetime

from tasks.model import Assessment, Facts, PackageState
from tasks.protocols.clock import Deadline
from tasks.rules.runs.reboot_decision import date_reboot_need
from tasks.states import Step
from tasks.steps.context.machine_context import MachineContext
from tasks.steps.machine.retry import retry_transient

MAX_WAIT_SECONDS = 600.0
"""The longest wait for another process that changes packages, inside the window."""
POLL_SECONDS = 10.0  # reading all packages costs the machine some seconds


def read_package_state(context: MachineContext) -> PackageState:
    """Read the package state once, without a refresh of the package lists."""
    packages = context.manager.assess(context.transport, refresh=False, deadline=context.build_package_deadline())
    return date_reboot(packages, context.known_facts, context.state.assessment, context.run_context.clock.now())


def date_reboot(
    packages: PackageState, facts: Facts | None, previous: Assessment | None, now: datetime
) -> PackageState:
    """Return a package state that tells since when the machine needs its reboot. See date_reboot_need."""
    return replace(packages, reboot=date_reboot_need(packages.reboot, facts, previous, now))


def read_package_state_with_retry(context: MachineContext) -> PackageState:
    """Read the package state, and retry while the machine is unreachable."""
    return retry_transient(context, lambda: read_package_state(context), build_retry_deadline(context))


def build_retry_deadline(context: MachineContext) -> Deadline:
    """Return the deadline for retries on a machine that was just changed and may be unreachable."""
    return Deadline.after(context.run_context.clock, context.run_context.options.max_unreachable_seconds)


def wait_for_idle_packages(
    context: MachineContext,
    step: Step,
    until: Deadline,
    read: Callable[[MachineContext], PackageState] = read_package_state,
) -> PackageState:
    """Read until no process changes packages, the deadline has passed, or a stop is requested; at least once.

    Args:
        context: of the machine.
        step: the step that waits, for the progress.
        until: when the wait ends.
        read: reads the package state.
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
    """Return the deadline for the wait for another process's transaction: some minutes, at most the window's end."""
    return min(Deadline(context.run_context.window.end), Deadline.after(context.run_context.clock, MAX_WAIT_SECONDS))
