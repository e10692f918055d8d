"""Remove kernels that are in no use, if the request says so: after a good validation, in one detached job."""

import logging
from dataclasses import replace
from datetime import timedelta
from itertools import chain

from tasks.domain.errors import FleetpatchError, RecordsError, TransportError
from tasks.domain.model import Finding, ValidationResult
from tasks.domain.protocols.clock import Deadline
from tasks.domain.protocols.package_manager import InstalledKernels, JobKind, Transaction
from tasks.domain.states import FindingLevel
from tasks.rules.machine_checks.packages import PACKAGES_CHECK, get_repair_remedy
from tasks.rules.machine_checks.precheck import check_next_boot
from tasks.rules.timing.maintenance_window import compute_overrun_seconds
from tasks.rules.updates.selection import get_exclude_name_masks
from tasks.rules.updates.unused_kernels import KernelChoice, choose_unused_kernels
from tasks.steps.context.machine_context import MachineContext
from tasks.steps.jobs.job_result import JobResult
from tasks.steps.jobs.package_job import SubmittedJob, find_submitted_update_ids, run_job
from tasks.steps.machine.facts import read_facts
from tasks.steps.machine.package_state import read_package_state_with_retry
from tasks.steps.machine.retry import build_retry_deadline, retry_transient
from tasks.steps.start_checks import check_window_fit, explain_stop_request

UNUSED_KERNELS_CHECK = "unused-kernels"
Groups = tuple[tuple[str, ...], ...]
"""Ids of packages, by kernel: each kernel is removed in a transaction of its own, whose number is its place here."""
_LOOK = "Look at its kernels on the machine; the next run tries again."

logger = logging.getLogger(__name__)


def resume_kernel_removal(context: MachineContext) -> bool:
    """Return whether the run has begun a removal, in an earlier process or attempt, and watch it to its end.

    This comes before the validation.

    Raises:
        FleetpatchError: see remove_unused_kernels.
    """
    planned = find_submitted_update_ids(context, JobKind.REMOVE)
    if not planned:
        return False
    try:
        choice = retry_transient(context, lambda: _choose_kernels(context), build_retry_deadline(context))
    except TransportError:
        raise
    except FleetpatchError as error:  # the job may run all the same
        choice = KernelChoice(obstacle=error.message)
    _remove(context, planned, choice)
    return True


def remove_unused_kernels(context: MachineContext) -> None:
    """Remove the kernels that are in no use, within the window. A finding reports the result.

    What prevents it before it began is no failure. As with an installation, the journal entry comes before the start,
    and the machine compares the order with its machine lock. It runs no hooks: a machine that was not drained for this
    run is left alone.

    Raises:
        RecordsError: the journal entry can't be written, or another process has the run: nothing began from here.
        FleetpatchError: the removal may have begun, and its end was not seen, or the machine was lost after it.
    """
    validation, packages = context.state.validation, context.state.packages_after
    if validation is None or not validation.is_healthy:
        return
    if packages is None or packages.problems or packages.at_work:
        state = "being changed" if packages is not None and packages.at_work else "broken"
        _add_finding(context, FindingLevel.GOOD, f"not looked for: packages are {state}")
        return
    try:
        choice = _choose_kernels(context)
    except RecordsError:
        raise
    except FleetpatchError as error:
        _add_finding(context, FindingLevel.GOOD, f"not looked for: {error.message}")
        return
    planned = choice.group_by_kernel()
    if choice.obstacle:
        _add_finding(context, FindingLevel.GOOD, f"none removed: {choice.obstacle}")
    elif planned and (obstacle := _find_removal_obstacle(context, len(choice.packages))):
        _add_finding(context, FindingLevel.GOOD, f"not removed: {_join(planned)}: {obstacle}")
    elif planned:
        _remove(context, planned, choice)


def _choose_kernels(context: MachineContext) -> KernelChoice:
    packages = context.latest_packages
    masks = get_exclude_name_masks(context.options.selection)
    return choose_unused_kernels(_read_kernels(context), held=packages.held, excluded=masks)


def _read_kernels(context: MachineContext) -> InstalledKernels:
    return context.manager.read_kernels(context.transport, deadline=context.build_package_deadline())


def _find_removal_obstacle(context: MachineContext, count: int) -> str:
    """Return why nothing may be removed, or ""."""
    check = check_window_fit(context, context.rates.predict_install_seconds(count), "removing unused kernels")
    if context.has_hooks and not context.state.before_hooks_ran:
        return "the hooks before the machine have not run"
    return explain_stop_request(context) or ("" if check.fits else check.explanation)


def _remove(context: MachineContext, planned: Groups, choice: KernelChoice) -> None:
    """Run the job that removes these packages, or watch it if this run has begun it, and report what is gone."""
    end, options = context.window.end, context.options
    watch_until = max(end, context.clock.now()) + timedelta(seconds=options.max_unreachable_seconds)
    parts = tuple(_build_transaction(context, number, ids, choice) for number, ids in enumerate(planned))
    submitted: dict[str, SubmittedJob] = {}
    try:
        result = run_job(context, JobKind.REMOVE, 0, parts, Deadline(watch_until), submitted_jobs=submitted)
    except RecordsError:
        raise
    except FleetpatchError as error:
        if submitted:  # it may have begun, and its end was not seen
            raise
        _report_unknown(context, planned, error.message)
        return
    _count_overrun(context, result)
    try:
        kernels = retry_transient(context, lambda: _read_kernels(context), build_retry_deadline(context))
    except TransportError:
        raise
    except FleetpatchError as error:
        kernels = InstalledKernels(obstacle=error.message)
    _report_result(context, planned, choice, kernels, result)
    if context.state.validation is not None and (result.transactions or result.is_lost):
        _check_boot_files(context, context.state.validation)


def _build_transaction(context: MachineContext, number: int, ids: tuple[str, ...], choice: KernelChoice) -> Transaction:
    """Return the removal of one kernel, as far as it may still be removed. It ends within the window."""
    updates = tuple(package.package for package in choice.packages if package.package.id in ids)
    seconds = context.rates.predict_install_seconds(len(ids))
    latest = context.window.end.timestamp() - seconds + context.facts.clock_skew_seconds
    return Transaction(number, updates, latest, seconds)


def _count_overrun(context: MachineContext, result: JobResult) -> None:
    """Add the end of the removal to the time by which the machine's transactions exceeded the window."""
    ends = [transaction.ended_at for transaction in result.transactions if transaction.ended_at is not None]
    passed = max((compute_overrun_seconds(context.window, end) for end in ends), default=0.0)
    install = context.state.install
    if install is not None and passed > install.overrun_seconds:
        context.state = replace(context.state, install=replace(install, overrun_seconds=passed))


def _report_result(
    context: MachineContext, planned: Groups, choice: KernelChoice, kernels: InstalledKernels, result: JobResult
) -> None:
    errors = (*(transaction.detail for transaction in result.transactions), result.error)
    errors_text = "; ".join(dict.fromkeys(filter(None, errors)))
    if kernels.obstacle:
        _report_unknown(context, planned, "; ".join(filter(None, (errors_text, kernels.obstacle))))
        _report_packages(context)
        return
    names = tuple(chain.from_iterable(planned))
    there = {package.package.id for package in kernels.packages}.union(kernels.unfinished)
    attempted = {name for transaction in result.transactions for name in planned[transaction.number]}
    if gone := [name for name in names if name not in there]:
        _add_finding(context, FindingLevel.GOOD, f"removed: {', '.join(gone)}")
    stuck = [name for name in names if name in there and name in attempted]
    if errors_text or stuck:
        fault = f"could not be removed: {', '.join(stuck)}" if stuck else "the removal reported an error"
        _add_finding(context, FindingLevel.WARN, f"{fault}: {errors_text or 'the job reported no error'}", _LOOK)
    if left := [name for name in names if name in there and name not in attempted]:
        refusals = "; ".join(dict.fromkeys(result.refusals))
        reason = refusals or result.error or choice.obstacle or "the machine does not count them as unused any more"
        _add_finding(context, FindingLevel.GOOD, f"not removed: {', '.join(left)}: {reason}")
    if errors_text or stuck:
        _report_packages(context)


def _report_unknown(context: MachineContext, planned: Groups, reason: str) -> None:
    message = f"whether they were removed is not known: {_join(planned)}: {reason}"
    _add_finding(context, FindingLevel.WARN, message, _LOOK)


def _check_boot_files(context: MachineContext, validation: ValidationResult) -> None:
    """Check again, after the validation, that the next boot has its files."""
    clock = context.clock
    facts = retry_transient(
        context,
        lambda: read_facts(context.transport, clock, context.build_read_deadline(), context.known_facts),
        build_retry_deadline(context),
    )
    findings = (*validation.findings, *check_next_boot(context.state.baseline, facts))
    context.state = replace(context.state, validation=replace(validation, findings=findings))


def _report_packages(context: MachineContext) -> None:
    """Read the packages again after a removal that failed: it may have left some of them half removed."""
    try:
        packages = read_package_state_with_retry(context)
    except (RecordsError, TransportError):
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


def _join(planned: Groups) -> str:
    return ", ".join(chain.from_iterable(planned))
