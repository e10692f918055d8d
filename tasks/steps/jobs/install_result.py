"""The result of the installation for each update, by the package database, also if it broke off."""

from collections.abc import Mapping
from dataclasses import field, replace

from inventory.data_class import dataclass
from tasks.domain.errors import FleetpatchError
from tasks.domain.model import (
    ErrorInfo,
    InstallResult,
    PackageState,
    TransactionResult,
    UnfinishedPackage,
    Update,
    UpdateResult,
)
from tasks.domain.protocols.package_manager import JobKind as Kind
from tasks.domain.states import Step, UpdateState
from tasks.rules.machine_checks.packages import check_errors, check_kept_files
from tasks.rules.timing.maintenance_window import compute_overrun_seconds
from tasks.rules.updates.results import add_repair_results, build_update_results, mark_changed_dependencies, to_update
from tasks.rules.updates.transaction_errors import find_unattributed_errors
from tasks.steps.context.machine_context import MachineContext, MachineState
from tasks.steps.jobs.job_result import JobResult
from tasks.steps.jobs.package_job import SubmittedJob
from tasks.steps.machine.package_state import (
    build_package_wait_deadline,
    read_package_state_with_retry,
    wait_for_idle_packages,
)
from tasks.steps.machine.retry import build_retry_deadline, retry_transient


@dataclass(slots=True)
class InstallLog:
    """The results of an installation so far, over all jobs.

    Attributes:
        first_number: the number of the first transaction: an earlier round of the run has the numbers before it.
        jobs: by id, all that may have been started.
        ended_job_ids: ids of jobs whose end was seen.
        is_job_lost: a job's process ended without a result. Nothing more begins on such a machine.
        staged_seconds: how long the download ahead took, if it succeeded.
        repaired_packages: packages that were half installed, and that a repair has finished.
        round_versions: the versions of all tracked updates right after the last round.
        staging_failure: why the download ahead failed, or "" if there was none.
        kept: what the download ahead has kept of the packages that are replaced (its record).
    """

    first_number: int = 0
    jobs: dict[str, SubmittedJob] = field(default_factory=dict)
    ended_job_ids: set[str] = field(default_factory=set)
    transactions: list[TransactionResult] = field(default_factory=list)
    not_attempted: dict[str, str] = field(default_factory=dict)
    kept_files: dict[str, str] = field(default_factory=dict)
    errors: list[str] = field(default_factory=list)
    rejected_update_ids: set[str] = field(default_factory=set)
    is_job_lost: bool = False
    staged_seconds: float | None = None
    staging_failure: str = ""
    kept: Mapping[str, object] | None = None
    repaired_packages: tuple[UnfinishedPackage, ...] = ()
    round_versions: Mapping[str, str] = field(default_factory=dict)

    def add_job_result(self, job_result: JobResult) -> None:
        """Add the result of a job that has ended."""
        self.ended_job_ids.add(job_result.job_id)
        self.transactions += job_result.transactions
        self.not_attempted.update(job_result.not_attempted)
        self.kept_files.update(job_result.kept_files)
        self.rejected_update_ids |= set(job_result.rejected_update_ids)
        self.is_job_lost = self.is_job_lost or job_result.is_lost
        if job_result.error:
            self.errors.append(job_result.error)

    def find_predicted_seconds(self, number: int) -> float:
        """Return the predicted seconds of an installing transaction."""
        parts = [part for asked in self.jobs.values() if asked.kind is Kind.INSTALL for part in asked.transactions]
        return next((part.predicted_seconds for part in parts if part.number == number), 0.0)

    @property
    def next_transaction_number(self) -> int:
        """The number of the next transaction that changes the machine. Numbers are unique in a run."""
        changing = [asked for asked in self.jobs.values() if asked.kind is not Kind.STAGE]
        return max((part.number + 1 for asked in changing for part in asked.transactions), default=self.first_number)

    @property
    def may_have_installed(self) -> bool:
        """Whether a job that installs may have been started."""
        return any(asked.kind is Kind.INSTALL for asked in self.jobs.values())

    @property
    def unfinished_update_ids(self) -> set[str]:
        """The ids of updates in installing jobs whose end was not seen."""
        open_ones = [asked for job_id, asked in self.jobs.items() if job_id not in self.ended_job_ids]
        parts = [part for asked in open_ones if asked.kind is Kind.INSTALL for part in asked.transactions]
        return {update.id for part in parts for update in part.updates}


def read_current_versions(context: MachineContext, install_log: InstallLog) -> Mapping[str, str]:
    """Read the current versions of all tracked updates and of repaired packages from the package database."""
    updates = _list_tracked_updates(context, install_log)
    if not updates:
        return {}
    return retry_transient(
        context,
        lambda: context.manager.read_installed_versions(
            context.transport, updates, deadline=context.build_package_deadline()
        ),
        build_retry_deadline(context),
    )


def _list_tracked_updates(context: MachineContext, install_log: InstallLog) -> list[Update]:
    return [
        *context.plan.chosen,
        *(result.update for result in context.plan.skipped),
        *map(to_update, install_log.repaired_packages),
    ]


def build_state_after_install(context: MachineContext, install_log: InstallLog) -> MachineState:
    """Return the machine's state with the result of each update, and with the package state now. Store nothing."""
    versions, after = _read_final_versions(context, install_log)
    who = after.at_work if after else ""
    chosen = build_update_results(
        context.plan.chosen, context.packages, versions, install_log.transactions, install_log.not_attempted, who
    )
    chosen = tuple(_with_overrun_reason(context, install_log, result) for result in chosen)
    after = after or read_package_state_with_retry(context)
    unjudged = f"packages were being changed by {who}" if who else ""
    context.state = _with_install_result(context, install_log, chosen, versions, unjudged, after)
    return replace(context.state, packages_after=after)


def _read_final_versions(
    context: MachineContext, install_log: InstallLog
) -> tuple[Mapping[str, str], PackageState | None]:
    """Read the versions, and again while another process changes packages: half changed packages are soon whole.

    Returns:
        id -> version, and the package state if it was read.
    """
    versions = install_log.round_versions or read_current_versions(context, install_log)
    after, until = None, build_package_wait_deadline(context)
    there_before = [
        *(update for update in context.plan.chosen if update.installed and (update.available or not update.goes_back)),
        *map(to_update, install_log.repaired_packages),
    ]
    while any(update.id not in versions for update in there_before):
        after = wait_for_idle_packages(context, Step.INSTALL, until, read_package_state_with_retry)
        versions = read_current_versions(context, install_log)
        missing = {update.id for update in there_before}.difference(versions)
        if after.at_work or missing.issubset(package.id for package in after.unfinished):
            break  # else nothing tells why they are missing
        # the other process's next transaction may have begun between the two reads
        after = read_package_state_with_retry(context)
        if not after.at_work or until.has_passed(context.clock):
            break
    return versions, after


def _with_overrun_reason(context: MachineContext, install_log: InstallLog, result: UpdateResult) -> UpdateResult:
    """Return a result with a reason if its transaction ended after the window's end."""
    for transaction in install_log.transactions:
        began, ended = transaction.started_at, transaction.ended_at
        if began is None or ended is None or result.update.id not in transaction.updates:
            continue
        passed = compute_overrun_seconds(context.window, ended)
        if passed > 0:
            took = (ended - began).total_seconds()
            reason = (
                f"its transaction passed the window's end by {passed:.0f} s: it took {took:.0f} s, about "
                f"{install_log.find_predicted_seconds(transaction.number):.0f} s were expected, "
                "and a transaction that has begun is never interrupted"
            )
            return replace(result, reason="; ".join(filter(None, (result.reason, reason))))
    return result


def build_state_after_abort(context: MachineContext, install_log: InstallLog, error: Exception) -> MachineState:
    """Return the machine's state with what is known of an installation that broke off. Store nothing, raise nothing.

    An error must not hide what began.
    """
    try:
        now = context.manager.read_installed_versions(
            context.transport, _list_tracked_updates(context, install_log), deadline=context.build_package_deadline()
        )
    except FleetpatchError:
        now = None
    chosen = build_results_after_abort(context, install_log, now, str(getattr(error, "message", error)))
    unasked = "" if now is not None else "the package database could not be asked"
    return _with_install_result(context, install_log, chosen, now or {}, unasked)


def build_results_after_abort(
    context: MachineContext, install_log: InstallLog, now: Mapping[str, str] | None, error: str
) -> tuple[UpdateResult, ...]:
    """Return one result for each chosen update of an installation that broke off.

    ``now`` has the versions in the package database; None: it could not be read.
    """
    attempted_update_ids = {update_id for transaction in install_log.transactions for update_id in transaction.updates}
    results = build_update_results(
        context.plan.chosen, context.packages, now or {}, install_log.transactions, install_log.not_attempted
    )
    return tuple(
        _mark_uncertain(
            result, install_log.unfinished_update_ids, attempted_update_ids, known=now is not None, error=error
        )
        for result in results
    )


def _mark_uncertain(
    result: UpdateResult, unfinished_update_ids: set[str], attempted_update_ids: set[str], *, known: bool, error: str
) -> UpdateResult:
    update = result.update
    is_in_doubt = update.id in unfinished_update_ids and update.id not in attempted_update_ids
    if known and result.state is UpdateState.INSTALLED and is_in_doubt:
        reason = f"installed by this run's job, whose end was not seen, or by others: {error}"
        return replace(result, reason=reason)
    if known and (result.state is UpdateState.INSTALLED or update.id not in unfinished_update_ids):
        return result
    if update.id in unfinished_update_ids:
        reason = f"its installation was begun and its end was not seen: {error}"
    elif update.id in attempted_update_ids:
        reason = f"its transaction began, and the package database could not be asked for its state: {error}"
    else:
        why = result.reason if result.state is UpdateState.NOT_ATTEMPTED else error
        return UpdateResult(update, UpdateState.NOT_ATTEMPTED, why, update.installed)
    return UpdateResult(update, UpdateState.PENDING, reason, result.version_after)


def _with_install_result(
    context: MachineContext,
    install_log: InstallLog,
    chosen: tuple[UpdateResult, ...],
    versions: Mapping[str, str],
    unjudged: str,
    after: PackageState | None = None,
) -> MachineState:
    broken_before = {package.id for package in context.packages.unfinished}
    lost = {
        result.update.id
        for result in context.plan.skipped
        if result.update.installed is not None
        and "=" not in result.update.id  # "PACKAGE=VERSION": a version of which the machine does not tell
        and result.update.id not in versions.keys() | broken_before
    }
    is_known = after is not None and not after.at_work and not unjudged
    skipped = mark_changed_dependencies(
        context.plan.skipped,
        versions,
        lost if is_known else (),
        {package.id for package in after.unfinished} if after else (),
    )
    ended = [t.ended_at for t in install_log.transactions if t.ended_at is not None]
    install = InstallResult(
        results=add_repair_results(install_log.repaired_packages, (*chosen, *skipped), versions, unjudged),
        transactions=tuple(install_log.transactions),
        job_ids=tuple(install_log.jobs),
        kept_configuration_files=tuple(install_log.kept_files),
        unasked=tuple(
            f"{result.update.id} {result.update.installed or '(new)'} -> {result.version_after}"
            for result in skipped
            if result.state is UpdateState.INSTALLED
        ),
        overrun_seconds=max((compute_overrun_seconds(context.window, moment) for moment in ended), default=0.0),
        error=ErrorInfo("JobError", "; ".join(install_log.errors)) if install_log.errors else None,
        staged_bytes=context.plan.download_bytes if install_log.staged_seconds is not None else None,
        staged_seconds=install_log.staged_seconds,
        overhead_updates=context.manager.default_rates.overhead_updates,
    )
    errors = find_unattributed_errors(install.transactions, install.results)
    findings = (*context.state.findings, *check_kept_files(install_log.kept_files), *check_errors(errors))
    return replace(context.state, install=install, findings=findings)


def find_retry_candidates(
    context: MachineContext, install_log: InstallLog, now: Mapping[str, str]
) -> tuple[Update, ...]:
    """Return unchanged updates whose transaction failed or did not begin because of another update in it."""
    failed = [t for t in install_log.transactions if t.exit_code != 0 and len(t.updates) > 1]
    names = {update_id for transaction in failed for update_id in transaction.updates} | install_log.rejected_update_ids
    return tuple(
        update
        for update in context.plan.chosen
        if update.id in names and update.installed is not None and now.get(update.id) == update.installed
    )
