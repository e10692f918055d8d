"""The install step: repair if allowed, download, then install in transactions that fit into the window.

The exit codes of the package manager decide nothing here. The package database says what is installed.
"""

import logging
from dataclasses import replace
from datetime import timedelta

from inventory.name_lists import format_count
from tasks.domain.errors import BrokenPackages, FleetpatchError, LockLost, RecordsError, TransportError
from tasks.domain.model import Finding, Update
from tasks.domain.protocols.clock import Deadline
from tasks.domain.protocols.package_manager import JobKind as Kind
from tasks.domain.protocols.package_manager import Transaction
from tasks.domain.states import FindingLevel, Step, UpdateState
from tasks.rules.kept_packages import describe_kept
from tasks.rules.machine_checks.packages import (
    PACKAGES_CHECK,
    check_package_problems,
    get_repair_remedy,
    prevents_installation,
)
from tasks.rules.updates.follow_up import join_installs, join_plans
from tasks.steps.assess import replan_updates
from tasks.steps.checkpoint import record_new_plan, restore_new_plan
from tasks.steps.component_files import send_component_files
from tasks.steps.context.machine_context import MachineContext, MachineState
from tasks.steps.jobs.install_result import (
    InstallLog,
    build_state_after_abort,
    build_state_after_install,
    find_retry_candidates,
    read_current_versions,
)
from tasks.steps.jobs.package_job import find_submitted_transactions, keeps_previous, run_job
from tasks.steps.machine.auto_updaters import halt_if_others_patch, is_pause_wanted, pause_updaters
from tasks.steps.machine.package_state import (
    build_package_wait_deadline,
    read_package_state_with_retry,
    simulate,
    wait_for_idle_packages,
)
from tasks.steps.scheduled_events import announce_expected_reboot
from tasks.steps.snapshots import prepare_first_change
from tasks.steps.start_checks import (
    check_cut_off_fit,
    describe_time_taken,
    divide_into_transactions,
    explain_stop_request,
    find_machine_cut_off,
)

logger = logging.getLogger(__name__)

INSTALL_ROUNDS = 2
"""The planned transactions, then one transaction each for updates that another update of theirs prevented."""
DOWNLOAD_ONLY_REASON = "only downloaded: nothing is installed in this run"
PREDICTED_REPAIR_SECONDS = 60.0  # expected duration of finishing an interrupted transaction


def install(context: MachineContext) -> MachineState:
    """Install the plan's updates, and report the state of each update in the package database.

    If the installation breaks off, ``context.state`` has what is known of it. A later round adds its results.
    """
    follow_up, first_plan, first = context.state.follow_up, context.state.plan, context.state.install
    if follow_up is None or first_plan is None or first is None:
        return _install_plan(context, InstallLog())
    last_number = max((transaction.number for transaction in first.transactions), default=-1)
    context.state = replace(context.state, plan=follow_up, install=None)
    try:
        context.state = _install_plan(context, InstallLog(first_number=last_number + 1))
    finally:
        done = context.state.reboot
        context.state = replace(
            context.state,
            plan=join_plans(first_plan, follow_up),
            install=join_installs(first, context.state.install),
            follow_up=None,
            earlier_reboots=(*context.state.earlier_reboots, *((done,) if done is not None else ())),
            reboot=None,
            validation=None,
        )
    return context.state


def _install_plan(context: MachineContext, install_log: InstallLog) -> MachineState:
    options = context.options
    try:
        announce_expected_reboot(context)
        may_repair = options.repair and context.packages.repairable
        if may_repair or prevents_installation(context.packages):
            if may_repair and not _may_be_changed(context, install_log):
                return context.state
            _repair_packages(context, install_log)
        obstacle = _send_files(context) if options.component_order is not None and context.plan.chosen else ""
        obstacle = obstacle or _stage_if_wanted(context, install_log)
        if options.download_only:
            obstacle = obstacle or (
                DOWNLOAD_ONLY_REASON if install_log.staged_seconds is not None else install_log.staging_failure
            )
        if obstacle:
            install_log.not_attempted = {update.id: obstacle for update in context.plan.chosen}
        else:
            _run_install_rounds(context, install_log)
        if context.state.halted:  # by a hook, before anything began
            return context.state
        return build_state_after_install(context, install_log)
    except Exception as error:
        if install_log.may_have_installed and context.state.install is None:
            context.state = build_state_after_abort(context, install_log, error)
            if options.component_order is not None and _is_broken_answer(install_log, error):
                return context.state
        raise


def _is_broken_answer(install_log: InstallLog, error: Exception) -> bool:
    """Return whether an installation has ended, and the machine answers, but not as it should.

    The validation judges a component then, and puts the version before back.
    """
    is_answer = isinstance(error, FleetpatchError) and not isinstance(error, RecordsError | TransportError)
    return is_answer and not install_log.unfinished_update_ids


def _send_files(context: MachineContext) -> str:
    """Send the files of a component, unless its installation has begun. Return why nothing may be installed, or ""."""
    number = context.state.follow_up_count * INSTALL_ROUNDS
    return "" if find_submitted_transactions(context, Kind.INSTALL, number) else send_component_files(context)


def _build_watch_deadline(context: MachineContext) -> Deadline:
    """Return the deadline for watching a job. A job may end late, and the machine may be unreachable for a while."""
    return Deadline(context.window.end + timedelta(seconds=context.options.max_unreachable_seconds))


def _find_latest_start(context: MachineContext, seconds: float) -> float:
    """Return the latest start of work that takes this many seconds, as epoch seconds of the machine's own clock."""
    return find_machine_cut_off(context).timestamp() - seconds + context.facts.clock_skew_seconds


def _repair_packages(context: MachineContext, install_log: InstallLog) -> None:
    """Finish a transaction that was interrupted before this run, once, and plan again with what is pending then.

    Raises:
        BrokenPackages: the repair is not allowed, did not begin, or did not help.
    """
    problems = "; ".join(context.packages.problems)
    if not (context.options.repair and context.packages.repairable):
        raise BrokenPackages(
            f"packages are in a broken state: {problems}",
            machine=context.name,
            hint=get_repair_remedy(context.packages),
        )
    if context.stop_token.is_stopping and not find_submitted_transactions(context, Kind.REPAIR, 0):
        reason = f"the run was asked to stop: {context.stop_token.reason}"
        raise BrokenPackages(
            f"packages are in a broken state: {problems}; not repaired: {reason}", machine=context.name
        )
    if not context.stop_token.is_stopping:
        pause_updaters(context)
    repair = Transaction(0, (), _find_latest_start(context, PREDICTED_REPAIR_SECONDS), PREDICTED_REPAIR_SECONDS)
    job_result = run_job(
        context, Kind.REPAIR, 0, (repair,), _build_watch_deadline(context), submitted_jobs=install_log.jobs
    )
    install_log.add_job_result(job_result)
    state = wait_for_idle_packages(
        context, Step.INSTALL, build_package_wait_deadline(context), read_package_state_with_retry
    )
    refused = "; ".join(job_result.refusals)
    if state.at_work:
        repair_text = (
            f"the repair was not begun: {refused}; " if refused else "whether the repair helped is not known: "
        )
        repair_text += f"packages were being changed by {state.at_work} ({problems})"
        raise BrokenPackages(repair_text, machine=context.name, hint="Let it finish, then patch the machine again.")
    if prevents_installation(state):
        repair_text, hint = f"the repair was not begun: {refused}", "Patch the machine again."
        if job_result.is_lost:
            repair_text, hint = f"the repair did not come to its end: {job_result.error}", get_repair_remedy(state)
        elif not refused:
            show = f"fleetpatch show {context.run.id} --machine {context.name} --log"
            repair_text, hint = "the repair did not help", f"Read why: {show}. Repair that on the machine."
        raise BrokenPackages(f"{repair_text}: {'; '.join(state.problems)}", machine=context.name, hint=hint)
    left = {package.id for package in state.unfinished}
    repaired = tuple(package for package in context.packages.unfinished if package.id not in left)
    install_log.repaired_packages = repaired if job_result.transactions else ()
    findings = tuple(finding for finding in context.state.findings if finding.check != PACKAGES_CHECK)
    how = "repaired before anything else" if job_result.transactions else "whole again, and not by this run"
    mended = Finding(PACKAGES_CHECK, FindingLevel.GOOD, f"{how}: {problems}")
    still_broken = tuple(check_package_problems(state, repair_allowed=False))
    context.state = replace(context.state, findings=(*findings, *(still_broken or (mended,))))
    # a process that died after its repair may have installed updates of its plan: they are no longer pending
    recorded = restore_new_plan(context, Step.INSTALL) if context.state.was_changed_before_resume else None
    context.state = recorded or replan_updates(context, state)  # what only a repair makes visible is not approved
    if not recorded:
        record_new_plan(context, Step.INSTALL)


def _stage_if_wanted(context: MachineContext, install_log: InstallLog) -> str:
    options, keeps = context.options, keeps_previous(context)
    if not context.plan.chosen or not (options.stage or options.download_only or keeps):
        return ""
    obstacle = _stage_updates(context, install_log)
    if keeps and not obstacle:
        context.add_finding(describe_kept(install_log.kept, install_log.staging_failure))
    return obstacle


def _stage_updates(context: MachineContext, install_log: InstallLog) -> str:
    """Download all chosen updates. Return why nothing may be installed, or "".

    A download that failed does not prevent the installation. Nor does one that does not fit into the window as a whole:
    each transaction downloads what is missing within its own time, and reports what it can't get.
    """
    chosen = context.plan.chosen
    seconds, rates = context.plan.prediction.stage, context.rates
    job_number = context.state.follow_up_count
    parts = find_submitted_transactions(context, Kind.STAGE, job_number)
    work = f"download and first installation of {format_count(len(chosen), 'update')}"
    check = check_cut_off_fit(context, seconds + rates.transaction_seconds, work)
    if not parts and context.stop_token.is_stopping:
        return f"the run was asked to stop: {context.stop_token.reason}"
    if not parts and not check.fits:
        reason = f"no time left: {check.explanation}{describe_time_taken(context)}"
        return reason if context.options.download_only else ""
    parts = parts or (
        Transaction(
            0,
            chosen,
            _find_latest_start(context, seconds),
            seconds,
            _find_staging_end(context, rates.predict_install_seconds(len(chosen))),
        ),
    )
    try:
        job_result = run_job(
            context, Kind.STAGE, job_number, parts, _build_watch_deadline(context), submitted_jobs=install_log.jobs
        )
    except LockLost as error:
        if not (context.options.download_only and error.holder):
            raise
        return f"not downloaded: {error.message}"  # a run that installs took the machine over
    install_log.ended_job_ids.add(job_result.job_id)
    install_log.kept = job_result.kept
    downloaded = next((transaction for transaction in job_result.transactions if transaction.exit_code == 0), None)
    if downloaded is not None and downloaded.started_at is not None and downloaded.ended_at is not None:
        install_log.staged_seconds = (downloaded.ended_at - downloaded.started_at).total_seconds()
    failures = [transaction.detail for transaction in job_result.transactions if transaction.exit_code != 0]
    install_log.staging_failure = "; ".join(
        (*job_result.refusals, *(f"its download failed: {failure}" for failure in failures))
    )
    if not job_result.is_lost:
        was_begun = bool(job_result.transactions) or not context.options.download_only
        return "" if was_begun else "; ".join(job_result.refusals)
    install_log.errors.append(f"downloading: {job_result.error}")
    return f"not begun after its download: {job_result.error}"


def _find_staging_end(context: MachineContext, installing: float) -> float:
    """Return when the download ahead must end, as epoch seconds of the machine's own clock.

    It leaves the predicted time for the installation, but at most half of the time that is left now, and never so much
    that the download has less than its predicted time.
    """
    over, now = find_machine_cut_off(context), context.clock.now()
    left = (over - now).total_seconds()
    reserve = max(0.0, min(installing, left / 2, left - context.plan.prediction.stage))
    reserve = 0.0 if context.options.download_only else reserve
    return over.timestamp() - reserve + context.facts.clock_skew_seconds


def _predict_download_seconds(context: MachineContext, install_log: InstallLog) -> float:
    """Return the predicted seconds for the downloads that remain before the first installation."""
    if install_log.staged_seconds is not None:
        return 0.0
    if not install_log.staging_failure:
        return context.plan.prediction.stage
    try:
        left = simulate(context, context.plan.chosen).download_bytes
    except FleetpatchError as error:
        logger.info("%s: what is still to be downloaded is not known: %s", context.name, error.message)
        left = None
    return context.plan.prediction.stage if left is None else left / context.rates.download_bytes_per_second


def _run_install_rounds(context: MachineContext, install_log: InstallLog) -> None:
    pending: tuple[Update, ...] = context.plan.chosen
    # updates that are not selected may change as dependencies
    unselected = [result.update for result in context.plan.skipped if result.state is UpdateState.NOT_SELECTED]
    for number in range(INSTALL_ROUNDS):
        if not pending or install_log.is_job_lost:
            return
        install_log.round_versions = {}  # hooks and waits before a round take time, in which others may change packages
        job_number = context.state.follow_up_count * INSTALL_ROUNDS + number
        parts = find_submitted_transactions(context, Kind.INSTALL, job_number)
        parts = parts or _prepare_round(context, install_log, pending, number)
        if not parts:
            return
        install_log.add_job_result(
            run_job(
                context,
                Kind.INSTALL,
                job_number,
                parts,
                _build_watch_deadline(context),
                submitted_jobs=install_log.jobs,
                allowed=(*context.plan.chosen, *unselected),
            )
        )
        install_log.round_versions = read_current_versions(context, install_log)
        pending = find_retry_candidates(context, install_log, install_log.round_versions)


def _prepare_round(
    context: MachineContext, install_log: InstallLog, pending: tuple[Update, ...], number: int
) -> tuple[Transaction, ...]:
    """Do what must precede a machine's first change, and divide the pending updates. Return () if nothing may begin."""
    if _skip_all_if_stopping(context, install_log, pending):
        return ()
    options = context.options
    is_prepared = context.has_hooks or options.snapshot is not None or is_pause_wanted(context)
    if is_prepared or options.patched_by_others != "patch":
        parts = _divide_into_transactions(context, install_log, pending, number)
        if not parts or not _may_be_changed(context, install_log):
            return ()
        pause_updaters(context)
    if not number:  # the report must not say that this run installed what others have since the assessment
        versions = read_current_versions(context, install_log)
        pending = tuple(update for update in pending if versions.get(update.id) != update.available)
    if _skip_all_if_stopping(context, install_log, pending):
        return ()
    # last, because everything before it took time
    return _divide_into_transactions(context, install_log, pending, number)


def _may_be_changed(context: MachineContext, install_log: InstallLog) -> bool:
    """Return whether a machine may be changed. The hooks before it have run then. What has begun is finished."""
    has_begun = install_log.next_transaction_number or find_submitted_transactions(context, Kind.REPAIR, 0)
    return (bool(has_begun) or not halt_if_others_patch(context)) and prepare_first_change(context)


def _skip_all_if_stopping(context: MachineContext, install_log: InstallLog, pending: tuple[Update, ...]) -> bool:
    reason = explain_stop_request(context)
    install_log.not_attempted.update({update.id: reason for update in pending if reason})
    return bool(reason)


def _divide_into_transactions(
    context: MachineContext, install_log: InstallLog, pending: tuple[Update, ...], number: int
) -> tuple[Transaction, ...]:
    """Divide updates into transactions that fit into the window. The others are not attempted, and get a reason."""
    # a later round adds no time for a download that failed: it has had its time
    to_fetch = 0.0 if number else _predict_download_seconds(context, install_log)
    first_number = install_log.next_transaction_number
    parts, late = divide_into_transactions(context, pending, to_fetch, one_by_one=number > 0, first_number=first_number)
    taken = describe_time_taken(context)
    if install_log.staging_failure:
        taken = f"; {install_log.staging_failure}{taken}"
    install_log.not_attempted.update({result.update.id: f"{result.reason}{taken}" for result in late})
    return parts
