"""After the installation: what became of each update, by the package database; also when the installation broke off."""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace

from tasks.errors import FleetpatchError
from tasks.model import (
    ErrorInfo,
    InstallResult,
    PackageState,
    TransactionResult,
    UnfinishedPackage,
    Update,
    UpdateResult,
)
from tasks.rules.checks import conffile_findings
from tasks.rules.results import as_update, came_along, repaired, settle
from tasks.rules.window import overrun
from tasks.seams.manager import Work as Kind
from tasks.states import Step, UpdateState
from tasks.steps.context import MachineRun, Work
from tasks.steps.follow import patiently
from tasks.steps.jobs import Asked, JobStory
from tasks.steps.packages import in_time, others_deadline, read_packages_patiently, wait_for_packages


@dataclass(slots=True)
class Tally:
    """What has been gathered so far, over all jobs.

    Attributes:
        jobs: by id, all that may have been started.
        told: ids of those whose end was seen.
        lost: a job's process is gone without a result: nothing more is begun on such a machine.
        staged_seconds: how long downloading ahead took, when it went well.
        repaired: packages that were half installed, and that a repair has finished.
        unstaged: why it did not, in words; "" when nothing was to be downloaded ahead.
    """

    jobs: dict[str, Asked] = field(default_factory=dict)
    told: set[str] = field(default_factory=set)
    transactions: list[TransactionResult] = field(default_factory=list)
    not_attempted: dict[str, str] = field(default_factory=dict)
    conffiles: dict[str, str] = field(default_factory=dict)
    errors: list[str] = field(default_factory=list)
    turned_down: set[str] = field(default_factory=set)
    lost: bool = False
    staged_seconds: float | None = None
    unstaged: str = ""
    repaired: tuple[UnfinishedPackage, ...] = ()

    def add(self, story: JobStory) -> None:
        """Take in what a job did that has ended."""
        self.told.add(story.job_id)
        self.transactions += story.transactions
        self.not_attempted.update(story.not_attempted)
        self.conffiles.update(story.conffiles)
        self.turned_down |= set(story.turned_down)
        self.lost = self.lost or story.lost
        if story.error:
            self.errors.append(story.error)

    def predicted(self, number: int) -> float:
        """Return how many seconds an installing transaction was expected to take."""
        parts = [part for asked in self.jobs.values() if asked.kind is Kind.INSTALL for part in asked.transactions]
        return next((part.predicted_seconds for part in parts if part.number == number), 0.0)

    @property
    def next_number(self) -> int:
        """Return the number of the next transaction that changes the machine: each has one of its own in a run."""
        changing = [asked for asked in self.jobs.values() if asked.kind is not Kind.STAGE]
        return max((part.number + 1 for asked in changing for part in asked.transactions), default=0)

    @property
    def installing(self) -> bool:
        """Whether a job that installs may have been started."""
        return any(asked.kind is Kind.INSTALL for asked in self.jobs.values())

    @property
    def unseen(self) -> set[str]:
        """Ids of updates in jobs that install and whose end was not seen."""
        open_ones = [asked for job_id, asked in self.jobs.items() if job_id not in self.told]
        parts = [part for asked in open_ones if asked.kind is Kind.INSTALL for part in asked.transactions]
        return {update.id for part in parts for update in part.updates}


def versions_now(work: Work, tally: Tally) -> Mapping[str, str]:
    """Ask the package database for what is there now of everything that was pending, or half installed."""
    updates = _was_pending(work, tally)
    if not updates:
        return {}
    return patiently(
        work, lambda: work.manager.installed(work.transport, updates, deadline=work.reading()), in_time(work)
    )


def _was_pending(work: Work, tally: Tally) -> list[Update]:
    return [*work.plan.chosen, *(result.update for result in work.plan.skipped), *map(as_update, tally.repaired)]


def settled(work: Work, tally: Tally) -> MachineRun:
    """Say of each update what became of it, and keep what the package manager says now."""
    versions, after = _versions_in_time(work, tally)
    who = after.at_work if after else ""
    chosen = settle(work.plan.chosen, work.packages, versions, tally.transactions, tally.not_attempted, who)
    chosen = tuple(_with_overrun(work, tally, result) for result in chosen)
    work.run = _with_result(work, tally, chosen, versions, f"packages were being changed by {who}" if who else "")
    return replace(work.run, packages_after=after or read_packages_patiently(work))


def _versions_in_time(work: Work, tally: Tally) -> tuple[Mapping[str, str], PackageState | None]:
    """Ask what is there now, and again for what is half changed while somebody else is at work: that is whole soon.

    Returns:
        id -> version, and the packages' state where that was asked for.
    """
    versions, after, until = versions_now(work, tally), None, others_deadline(work)
    there_before = [*(update for update in work.plan.chosen if update.installed), *map(as_update, tally.repaired)]
    while any(update.id not in versions for update in there_before):
        after = wait_for_packages(work, Step.INSTALL, until, read_packages_patiently)
        versions = versions_now(work, tally)
        if after.at_work or all(update.id in versions for update in there_before):
            break
        after = read_packages_patiently(work)  # the next of his transactions may have begun between the two questions
        if not after.at_work or until.passed(work.context.clock):
            break
    return versions, after


def _with_overrun(work: Work, tally: Tally, result: UpdateResult) -> UpdateResult:
    """Return a result that says so when its transaction went on after the window's end, and why it may have."""
    for each in tally.transactions:
        passed = overrun(work.context.window, each.ended_at) if each.ended_at is not None else 0.0
        if (
            result.update.id in each.updates
            and passed > 0
            and each.started_at is not None
            and each.ended_at is not None
        ):
            took = (each.ended_at - each.started_at).total_seconds()
            why = (
                f"its transaction passed the window's end by {passed:.0f} s: it took {took:.0f} s, about "
                f"{tally.predicted(each.number):.0f} s were expected, and what was begun is never cut short"
            )
            return replace(result, reason="; ".join(filter(None, (result.reason, why))))
    return result


def as_far_as_seen(work: Work, tally: Tally, error: Exception) -> MachineRun:
    """Say what is known of an installation that broke off: no error may hide what was begun. Raises nothing."""
    try:
        now = work.manager.installed(work.transport, _was_pending(work, tally), deadline=work.reading())
    except FleetpatchError:
        now = None
    chosen = broken_off(work, tally, now, str(getattr(error, "message", error)))
    unasked = "" if now is not None else "the package database could not be asked"
    return _with_result(work, tally, chosen, now or {}, unasked)


def broken_off(work: Work, tally: Tally, now: Mapping[str, str] | None, error: str) -> tuple[UpdateResult, ...]:
    """Return one result for each chosen update of an installation that broke off.

    Args:
        work: the machine's turn.
        tally: what was seen.
        now: what the package database says; None when it could not be asked.
        error: why it broke off.
    """
    ran = {update_id for transaction in tally.transactions for update_id in transaction.updates}
    results = settle(work.plan.chosen, work.packages, now or {}, tally.transactions, tally.not_attempted)
    return tuple(_doubtful(result, tally.unseen, ran, known=now is not None, error=error) for result in results)


def _doubtful(result: UpdateResult, unseen: set[str], ran: set[str], *, known: bool, error: str) -> UpdateResult:
    update = result.update
    if known and (result.state is UpdateState.INSTALLED or update.id not in unseen):
        return result
    if update.id in unseen:
        reason = f"its installation was begun and its end was not seen: {error}"
    elif update.id in ran:
        reason = f"it was worked on, and the package database could not be asked what became of it: {error}"
    else:
        why = result.reason if result.state is UpdateState.NOT_ATTEMPTED else error
        return UpdateResult(update, UpdateState.NOT_ATTEMPTED, why, update.installed)
    return UpdateResult(update, UpdateState.PENDING, reason, result.version_after)


def _with_result(
    work: Work, tally: Tally, chosen: tuple[UpdateResult, ...], versions: Mapping[str, str], unjudged: str
) -> MachineRun:
    findings = (*work.run.findings, *conffile_findings(tally.conffiles))
    return replace(work.run, install=_result(work, tally, chosen, versions, unjudged), findings=findings)


def _result(
    work: Work, tally: Tally, chosen: tuple[UpdateResult, ...], versions: Mapping[str, str], unjudged: str
) -> InstallResult:
    skipped = came_along(work.plan.skipped, versions)
    ended = [t.ended_at for t in tally.transactions if t.ended_at is not None]
    return InstallResult(
        results=repaired(tally.repaired, (*chosen, *skipped), versions, unjudged),
        transactions=tuple(tally.transactions),
        job_ids=tuple(tally.jobs),
        conffiles=tuple(tally.conffiles),
        unasked=tuple(
            f"{result.update.id} {result.update.installed} -> {result.version_after}"
            for result in skipped
            if result.state is UpdateState.INSTALLED
        ),
        overrun_seconds=max((overrun(work.context.window, moment) for moment in ended), default=0.0),
        error=ErrorInfo("JobError", "; ".join(tally.errors)) if tally.errors else None,
        staged_bytes=work.plan.download_bytes if tally.staged_seconds is not None else None,
        staged_seconds=tally.staged_seconds,
    )


def bystanders(work: Work, tally: Tally, now: Mapping[str, str]) -> tuple[Update, ...]:
    """Return updates that are untouched because another one in their transaction failed, or kept it from beginning."""
    failed = [t for t in tally.transactions if t.exit_code != 0 and len(t.updates) > 1]
    names = {update_id for transaction in failed for update_id in transaction.updates} | tally.turned_down
    return tuple(
        update
        for update in work.plan.chosen
        if update.id in names and update.installed is not None and now.get(update.id) == update.installed
    )
