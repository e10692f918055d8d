"""Remove kernels that are in no use, if the request says so: after a good validation, in one detached job."""

import logging
from dataclasses import replace
from datetime import timedelta

from tasks.errors import FleetpatchError, RecordsError
from tasks.model import Finding
from tasks.protocols.clock import Deadline
from tasks.protocols.package_manager import JobKind, Transaction
from tasks.rules.machine_checks.packages import PACKAGES_CHECK, get_repair_remedy
from tasks.rules.timing.time_fit import check_time_fit
from tasks.rules.updates.selection import get_exclude_name_masks
from tasks.rules.updates.unused_kernels import KernelChoice, choose_unused_kernels
from tasks.states import FindingLevel
from tasks.steps.context.machine_context import MachineContext
from tasks.steps.hooks import run_before_hooks
from tasks.steps.jobs.job_result import JobResult
from tasks.steps.jobs.package_job import run_job
from tasks.steps.jobs.recovery import find_submitted_update_ids
from tasks.steps.machine.package_state import build_retry_deadline, read_package_state_with_retry
from tasks.steps.machine.retry import retry_transient
from tasks.steps.start_checks import check_stop_requested

UNUSED_KERNELS_CHECK = "unused-kernels"
_LOOK = "Look at its kernels on the machine; the next run tries again."

logger = logging.getLogger(__name__)


def resume_kernel_removal(context: MachineContext) -> bool:
    """Return whether an earlier process of the run began a removal. It is watched to its end before the validation."""
    planned = find_submitted_update_ids(context, JobKind.REMOVE)
    if planned:
        _remove(context, planned)
    return bool(planned)


def remove_unused_kernels(context: MachineContext) -> None:
    """Remove the kernels that are in no use, within the window. A finding reports the result.

    What prevents it before it began is no failure. As with an installation, the hooks before the machine run first, the
    journal entry comes before the start, and the machine compares the order with its machine lock.

    Raises:
        RecordsError: the journal entry can't be written, or another process has the run: nothing began from here.
    """
    validation, packages = context.state.validation, context.state.packages_after
    if not context.run_context.options.remove_unused_kernels or validation is None or not validation.is_healthy:
        return
    if packages is None or packages.problems or packages.at_work:
        what = "packages are being changed" if packages is not None and packages.at_work else "packages are broken"
        _add_finding(context, FindingLevel.GOOD, f"not looked for: {what}")
        return
    try:
        choice = _choose_kernels(context)
    except RecordsError:
        raise
    except FleetpatchError as error:
        _add_finding(context, FindingLevel.GOOD, f"not looked for: {error.message}")
        return
    planned = tuple(package.package.id for package in choice.packages)
    if choice.obstacle:
        _add_finding(context, FindingLevel.GOOD, f"none removed: {choice.obstacle}")
    elif planned and (obstacle := _check_removal_allowed(context, len(planned))):
        _add_finding(context, FindingLevel.GOOD, f"not removed: {', '.join(planned)}: {obstacle}")
    elif planned:
        _remove(context, planned, choice)


def _choose_kernels(context: MachineContext) -> KernelChoice:
    deadline = context.build_package_deadline()
    kernels = context.manager.read_kernels(context.transport, deadline=deadline)
    packages = context.state.packages_after or context.packages
    masks = get_exclude_name_masks(context.run_context.options.selection)
    return choose_unused_kernels(kernels, held=packages.held, excluded=masks)


def _check_removal_allowed(context: MachineContext, count: int) -> str:
    """Return why nothing may be removed, or ""."""
    window = context.run_context.window
    check = check_time_fit(
        context.run_context.clock.now(),
        context.rates.predict_install_seconds(count),
        window.end,
        "removing unused kernels",
        "the end of the window",
        zone=window.zone,
    )
    obstacle = check_stop_requested(context) or ("" if check.fits else check.explanation)
    if not obstacle and not run_before_hooks(context):
        obstacle = context.state.halted
    return obstacle


def _remove(context: MachineContext, planned: tuple[str, ...], choice: KernelChoice | None = None) -> None:
    """Run the job that removes these packages, or watch it if this run has begun it, and report what is gone."""
    try:
        choice = choice or _choose_kernels(context)
        updates = tuple(each.package for each in choice.packages if each.package.id in planned)
        seconds = context.rates.predict_install_seconds(len(planned))
        end, options = context.run_context.window.end, context.run_context.options
        latest = end.timestamp() - seconds + context.facts.clock_skew_seconds
        watch_until = max(end, context.run_context.clock.now()) + timedelta(seconds=options.max_unreachable_seconds)
        result = run_job(
            context,
            JobKind.REMOVE,
            0,
            (Transaction(0, updates, latest, seconds),),
            Deadline(watch_until),
            submitted_jobs={},
        )
        kernels = retry_transient(
            context,
            lambda: context.manager.read_kernels(context.transport, deadline=context.build_package_deadline()),
            build_retry_deadline(context),
        )
    except RecordsError:
        raise
    except FleetpatchError as error:
        message = f"whether they were removed is not known: {', '.join(planned)}: {error.message}"
        _add_finding(context, FindingLevel.WARN, message, _LOOK)
        return
    _report_result(context, planned, {each.package.id for each in kernels.packages}, result)


def _report_result(context: MachineContext, planned: tuple[str, ...], installed: set[str], result: JobResult) -> None:
    gone = [name for name in planned if name not in installed]
    left = [name for name in planned if name in installed]
    if gone:
        _add_finding(context, FindingLevel.GOOD, f"removed: {', '.join(gone)}")
    failures = [each.detail for each in result.transactions if each.exit_code != 0 or each.detail]
    words = "; ".join(filter(None, (*failures, result.error)))
    if words or (left and result.transactions):
        what = f"could not be removed: {', '.join(left)}" if left else "the removal reported an error"
        _add_finding(context, FindingLevel.WARN, f"{what}: {words or 'the job reported no error'}", _LOOK)
    elif left:
        _add_finding(context, FindingLevel.GOOD, f"not removed: {', '.join(left)}: {'; '.join(result.refusals)}")
    if words:
        _report_packages(context)


def _report_packages(context: MachineContext) -> None:
    """Read the packages again after a removal that failed: it may have left some of them half removed."""
    try:
        packages = read_package_state_with_retry(context)
    except RecordsError:
        raise
    except FleetpatchError as error:
        logger.info("%s: its packages after the removal are not known: %s", context.name, error.message)
        return
    context.state = replace(context.state, packages_after=packages)
    if packages.problems:
        message = "; ".join(packages.problems)
        context.add_finding(Finding(PACKAGES_CHECK, FindingLevel.WARN, message, get_repair_remedy(packages)))


def _add_finding(context: MachineContext, level: FindingLevel, message: str, remedy: str = "") -> None:
    context.add_finding(Finding(UNUSED_KERNELS_CHECK, level, message, remedy))
