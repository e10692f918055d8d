"""Ask for the state of a machine's packages; while somebody else changes them, wait: half of that is no damage."""

from collections.abc import Callable

from tasks.model import PackageState
from tasks.seams.clock import Deadline
from tasks.states import Step
from tasks.steps.context import Work
from tasks.steps.follow import patiently

WAIT_SECONDS = 600.0
"""How long somebody who changes packages is waited for, at most, inside the window."""
PAUSE_SECONDS = 10.0  # to ask for all packages costs the machine some seconds


def read_packages(work: Work) -> PackageState:
    """Ask once, without a refresh of the package lists."""
    return work.manager.assess(work.transport, refresh=False, deadline=work.reading())


def read_packages_patiently(work: Work) -> PackageState:
    """Ask, and ask again of a machine that is out of touch for a while."""
    return patiently(work, lambda: read_packages(work), in_time(work))


def in_time(work: Work) -> Deadline:
    """Until when questions are asked again of a machine that was just changed and is out of touch."""
    return Deadline.after(work.context.clock, work.context.options.out_of_touch_seconds)


def wait_for_packages(
    work: Work, step: Step, until: Deadline, read: Callable[[Work], PackageState] = read_packages
) -> PackageState:
    """Ask until nobody changes packages any more, the time is over, or the run is asked to stop; at least once.

    Args:
        work: the machine's turn.
        step: whose time this is, for the progress.
        until: when the waiting ends.
        read: how to ask.
    """
    clock = work.context.clock
    while True:
        packages = read(work)
        left = until.remaining(clock)
        if not packages.at_work or left <= 0 or work.context.control.stopping:
            return packages
        waiting = f"waiting: packages were being changed by {packages.at_work}"
        work.context.watch.progress(work.name, step, None, waiting)
        clock.sleep(min(PAUSE_SECONDS, left))


def others_deadline(work: Work) -> Deadline:
    """Until when somebody else's transaction is waited for: some minutes, and not past the window's end."""
    return min(Deadline(work.context.window.end), Deadline.after(work.context.clock, WAIT_SECONDS))
