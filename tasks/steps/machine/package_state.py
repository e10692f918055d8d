"""Reads the state of a machine's packages, and waits while another process changes them."""

from collections.abc import Callable, Collection, Sequence
from dataclasses import replace
from datetime import datetime

from tasks.domain.compliance import MAX_ANSWER_AGE, find_clock_problem, find_ended_support, merge_problems
from tasks.domain.model import Assessment, Facts, PackageState, Selection, Update
from tasks.domain.protocols.clock import Clock, Deadline
from tasks.domain.protocols.package_manager import REFRESH_TIMEOUT_SECONDS, PackageManager, SimulationResult
from tasks.domain.protocols.transport import Transport
from tasks.domain.states import Step
from tasks.rules.machine_checks.report_limits import drop_impossible_dates, require_within_limits
from tasks.rules.runs.reboot_decision import date_reboot_need
from tasks.steps.context.machine_context import MachineContext
from tasks.steps.machine.retry import build_retry_deadline, retry_transient

MAX_WAIT_SECONDS = 600.0
"""The longest wait for another process that changes packages, inside the window."""
POLL_SECONDS = 10.0  # reading all packages costs the machine some seconds


def query_packages(
    manager: PackageManager,
    transport: Transport,
    clock: Clock,
    facts: Facts | None,
    *,
    refresh: bool,
    deadline: Deadline,
) -> PackageState:
    """Ask a machine for the state of its packages. Every step asks here, so that no answer is too large to be stored.

    The facts tell when the support of its system ends. ``refresh``: the package manager reads its repositories first.

    Raises:
        ReportTooLarge: the machine reports more than any real machine. Errors of the package manager: see its assess.
    """
    packages = manager.assess(transport, refresh=refresh, deadline=deadline)
    require_within_limits(packages)
    now = clock.now()
    ended = find_ended_support(facts.os_name, facts.support_end, now.date()) if facts else ()
    wrong = find_clock_problem(facts.clock_skew_seconds, facts.clock_error_seconds) if facts else ()
    problems = (*ended, *wrong, *packages.repository_problems)
    packages = replace(packages, repository_problems=problems, asked_at=now if refresh else None)
    return drop_impossible_dates(packages, now)


def simulate(context: MachineContext, updates: Sequence[Update], *, keep: Collection[str] = ()) -> SimulationResult:
    """Ask a machine what the installation of some updates would do. See PackageManager.simulate for ``keep``.

    Raises:
        ReportTooLarge: the machine reports more than any real machine. Errors of the package manager: see its simulate.
    """
    result = context.manager.simulate(context.transport, updates, keep=keep, deadline=context.build_package_deadline())
    require_within_limits(result)
    return result


def read_package_state(context: MachineContext, *, refresh: bool = False) -> PackageState:
    """Read the package state once; with ``refresh``, the package manager reads its repositories first."""
    clock, assessment = context.clock, context.state.assessment
    seconds = context.manager.default_rates.read_timeout_seconds + (REFRESH_TIMEOUT_SECONDS if refresh else 0)
    packages = query_packages(
        context.manager,
        context.transport,
        clock,
        context.known_facts,
        refresh=refresh,
        deadline=Deadline.after(clock, seconds),
    )
    if not refresh:
        packages = keep_repository_problems(packages, assessment.packages if assessment else None, clock.now())
    return date_reboot(packages, context.known_facts, context.state.assessment, clock.now())


def date_selection(context: MachineContext, packages: PackageState) -> Selection:
    """Return the run's selection, with the first sight of each offered version if it needs them: some are seen now."""
    selection = context.options.selection
    if selection.published_before is None:
        return selection
    seen, now = context.records.read_first_seen(packages.versions), context.clock.now()
    return replace(selection, first_seen=tuple((key, seen.get(key, now)) for key in packages.versions))


def keep_repository_problems(packages: PackageState, earlier: PackageState | None, now: datetime) -> PackageState:
    """Return a package state that was read without a refresh, with the repositories that the last refresh left unread.

    See merge_problems.
    """
    if earlier is None:
        return packages
    was_asked = earlier.asked_at is not None and now - earlier.asked_at <= MAX_ANSWER_AGE
    problems = merge_problems(packages.repository_problems, earlier.repository_problems, was_asked=was_asked)
    return replace(packages, repository_problems=problems, asked_at=earlier.asked_at)


def date_reboot(
    packages: PackageState, facts: Facts | None, previous: Assessment | None, now: datetime
) -> PackageState:
    """Return a package state that tells since when the machine needs its reboot. See date_reboot_need."""
    return replace(packages, reboot=date_reboot_need(packages.reboot, facts, previous, now))


def read_package_state_with_retry(context: MachineContext) -> PackageState:
    """Read the package state, and retry while the machine is unreachable."""
    return retry_transient(context, lambda: read_package_state(context), build_retry_deadline(context))


def wait_for_idle_packages(
    context: MachineContext,
    step: Step,
    until: Deadline,
    read: Callable[[MachineContext], PackageState] = read_package_state,
) -> PackageState:
    """Read until no process changes packages, the deadline has passed, or a stop is requested; at least once."""
    clock = context.clock
    while True:
        packages = read(context)
        left = until.remaining_seconds(clock)
        if not packages.at_work or left <= 0 or context.stop_token.is_stopping:
            return packages
        message = f"waiting: packages were being changed by {packages.at_work}"
        context.report_progress(step, message)
        clock.sleep(min(POLL_SECONDS, left))


def build_package_wait_deadline(context: MachineContext) -> Deadline:
    """Return the deadline for the wait for another process's transaction: some minutes, at most the window's end."""
    return min(Deadline(context.window.end), Deadline.after(context.clock, MAX_WAIT_SECONDS))
