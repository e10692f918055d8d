"""Install: repair what was interrupted if allowed, download, then install in transactions that the window can hold.

The exit codes of the package manager decide nothing here: what is installed is what its database says afterwards.
"""

import logging
from dataclasses import replace
from datetime import timedelta

from tasks.errors import BrokenPackages, FleetpatchError
from tasks.model import Finding, TransactionResult, Update
from tasks.rules.budget import transactions as divide
from tasks.rules.checks import PACKAGES, REPAIR_REMEDY
from tasks.rules.window import fit, why_cut_off
from tasks.seams.clock import Deadline
from tasks.seams.manager import Transaction
from tasks.seams.manager import Work as Kind
from tasks.states import FindingLevel, Step, UpdateState
from tasks.steps.assess import plan_anew
from tasks.steps.context import MachineRun, Work
from tasks.steps.handed import handed_over
from tasks.steps.hooks import before_machine
from tasks.steps.jobs import carry_out
from tasks.steps.packages import others_deadline, read_packages_patiently, wait_for_packages
from tasks.steps.settling import Tally, as_far_as_seen, bystanders, settled, versions_now
from tasks.steps.turn import asked_to_stop, over_at
from tasks.steps.updaters import pause, wanted

logger = logging.getLogger(__name__)

ROUNDS = 2
"""The planned transactions, then once more, each alone, for updates that another one in their transaction held up."""
DOWNLOADED = "only downloaded: nothing is installed in this run"
REPAIR_SECONDS = 60.0  # what finishing an interrupted transaction is expected to take


def install(work: Work) -> MachineRun:
    """Install the plan's updates and report what the package database says of each.

    What is known of an installation that breaks off is in the work's run all the same.
    """
    tally = Tally()
    try:
        if work.packages.problems:
            if work.context.options.repair and work.packages.repairable and not before_machine(work):
                return work.run
            _repair(work, tally)
        options = work.context.options
        staging = options.stage or options.download_only
        obstacle = _stage(work, tally) if work.plan.chosen and staging else ""
        if options.download_only:
            obstacle = obstacle or (DOWNLOADED if tally.staged_seconds is not None else tally.unstaged)
        if obstacle:
            tally.not_attempted = {update.id: obstacle for update in work.plan.chosen}
        else:
            _rounds(work, tally)
        if work.run.halted:  # by its owner's hooks, before anything was begun
            return work.run
        return settled(work, tally)
    except Exception as error:
        if tally.installing and work.run.install is None:
            work.run = as_far_as_seen(work, tally, error)
        raise


def _watching(work: Work) -> Deadline:
    """Until when a job is watched: it may end late, and the machine may be out of touch for a while."""
    return Deadline(work.context.window.end + timedelta(seconds=work.context.options.out_of_touch_seconds))


def _latest(work: Work, seconds: float) -> float:
    """Return when something that takes so long may begin at the latest, by the machine's own clock."""
    return over_at(work).timestamp() - seconds + work.facts.clock_skew_seconds


def _repair(work: Work, tally: Tally) -> None:
    """Finish what was interrupted before we came, once, and plan anew with what is pending after that.

    Raises:
        BrokenPackages: it was not allowed, was not begun, or did not help.
    """
    problems = "; ".join(work.packages.problems)
    if not (work.context.options.repair and work.packages.repairable):
        raise BrokenPackages(
            f"packages are in a broken state: {problems}",
            machine=work.name,
            hint=REPAIR_REMEDY if work.packages.repairable else "Mend it on the machine.",
        )
    if work.context.control.stopping and not handed_over(work, Kind.REPAIR, 0):
        why = f"the run was asked to stop: {work.context.control.reason}"
        raise BrokenPackages(f"packages are in a broken state: {problems}; not repaired: {why}", machine=work.name)
    if not work.context.control.stopping:
        pause(work)
    repair = Transaction(0, (), _latest(work, REPAIR_SECONDS), REPAIR_SECONDS)
    story = carry_out(work, Kind.REPAIR, 0, (repair,), _watching(work), underway=tally.jobs)
    tally.add(story)
    state = wait_for_packages(work, Step.INSTALL, others_deadline(work), read_packages_patiently)
    refused = "; ".join(story.refusals)
    if state.at_work:
        what = f"the repair was not begun: {refused}; " if refused else "whether the repair helped is not known: "
        what += f"packages were being changed by {state.at_work} ({problems})"
        raise BrokenPackages(what, machine=work.name, hint="Let it finish, then patch the machine again.")
    if state.problems:
        what, hint = f"the repair was not begun: {refused}", "Patch the machine again."
        if not refused:
            show = f"fleetpatch show {work.context.run.id} --machine {work.name} --log"
            what, hint = "the repair did not help", f"Read why: {show}. Mend that on the machine."
        raise BrokenPackages(f"{what}: {'; '.join(state.problems)}", machine=work.name, hint=hint)
    tally.repaired = work.packages.unfinished if story.transactions else ()
    findings = tuple(each for each in work.run.findings if each.check != PACKAGES)
    how = "repaired before anything else" if story.transactions else "whole again, and not by this run"
    mended = Finding(PACKAGES, FindingLevel.GOOD, f"{how}: {problems}")
    work.run = replace(work.run, findings=(*findings, mended))
    work.run = plan_anew(work, state)  # what a repair brought to light, nobody has seen and approved


def _stage(work: Work, tally: Tally) -> str:
    """Download everything; return why nothing may be installed, or "".

    A download that failed is no reason, nor is one that the window can't hold as a whole: each installation fetches
    what it lacks, within the time that there is for it, and names what it can't get.
    """
    context, chosen = work.context, work.plan.chosen
    seconds, rates = work.plan.prediction.stage, work.rates
    parts = handed_over(work, Kind.STAGE, 0)
    check = fit(
        context.clock.now(),
        seconds + rates.transaction_seconds,
        over_at(work),
        f"download and first installation of {len(chosen)} updates",
        why_cut_off(context.window, context.options.reboot, work.reboot_reserve),
        zone=context.window.zone,
    )
    if not parts and context.control.stopping:
        return f"the run was asked to stop: {context.control.reason}"
    if not parts and not check.fits:
        return f"no time left: {check.arithmetic}" if context.options.download_only else ""
    parts = parts or (
        Transaction(
            0, chosen, _latest(work, seconds), seconds, _stop_staging_at(work, rates.install_seconds(len(chosen)))
        ),
    )
    story = carry_out(work, Kind.STAGE, 0, parts, _watching(work), underway=tally.jobs)
    tally.told.add(story.job_id)
    tally.staged_seconds = next((took(each) for each in story.transactions if each.exit_code == 0), None)
    failures = [each.detail for each in story.transactions if each.exit_code != 0]
    tally.unstaged = "; ".join((*story.refusals, *(f"its download failed: {each}" for each in failures)))
    if not story.lost:
        was_begun = bool(story.transactions) or not context.options.download_only
        return "" if was_begun else "; ".join(story.refusals)
    tally.errors.append(f"downloading: {story.error}")
    return f"not begun after its download: {story.error}"


def _stop_staging_at(work: Work, installing: float) -> float:
    """Return when downloading ahead is ended, by the machine's own clock.

    It leaves time for the installation: as many seconds as that takes, but at most half of what is left now, nor so
    many that the download would have less than it is predicted to take.
    """
    over, now = over_at(work), work.context.clock.now()
    left = (over - now).total_seconds()
    kept = max(0.0, min(installing, left / 2, left - work.plan.prediction.stage))
    kept = 0.0 if work.context.options.download_only else kept
    return over.timestamp() - kept + work.facts.clock_skew_seconds


def _seconds_to_fetch(work: Work, tally: Tally) -> float:
    """Return what is predicted for downloads that are still to come before the first installation."""
    if tally.staged_seconds is not None:
        return 0.0
    if not tally.unstaged:
        return work.plan.prediction.stage
    try:
        left = work.manager.rehearse(work.transport, work.plan.chosen, deadline=work.reading()).download_bytes
    except FleetpatchError as error:
        logger.info("%s: what is still to be downloaded is not known: %s", work.name, error.message)
        left = None
    return work.plan.prediction.stage if left is None else left / work.rates.download_bytes_per_second


def took(transaction: TransactionResult) -> float | None:
    """Return how many seconds a transaction took; None when its begin or its end was not seen."""
    if transaction.started_at is None or transaction.ended_at is None:
        return None
    return (transaction.ended_at - transaction.started_at).total_seconds()


def _rounds(work: Work, tally: Tally) -> None:
    pending: tuple[Update, ...] = work.plan.chosen
    for number in range(ROUNDS):
        if not pending or tally.lost:
            return
        parts = handed_over(work, Kind.INSTALL, number)
        parts = parts or _anew(work, tally, pending, number)
        if not parts:
            return
        tally.add(
            carry_out(work, Kind.INSTALL, number, parts, _watching(work), underway=tally.jobs, allowed=_allowed(work))
        )
        pending = bystanders(work, tally, versions_now(work, tally))


def _anew(work: Work, tally: Tally, pending: tuple[Update, ...], number: int) -> tuple[Transaction, ...]:
    """Divide what is pending, after what comes before the first change of a machine; () when nothing may be begun."""
    if _not_any_more(work, tally, pending):
        return ()
    if work.context.options.hooks or wanted(work):
        if not _divided(work, tally, pending, number) or not before_machine(work):
            return ()
        pause(work)
    pending = pending if number else _still_pending(work, tally, pending)
    if _not_any_more(work, tally, pending):
        return ()
    return _divided(work, tally, pending, number)  # after all that took its time


def _still_pending(work: Work, tally: Tally, pending: tuple[Update, ...]) -> tuple[Update, ...]:
    """Leave out what somebody else has installed since the assessment: the report must not say that this run did."""
    versions = versions_now(work, tally)
    return tuple(update for update in pending if versions.get(update.id) != update.available)


def _not_any_more(work: Work, tally: Tally, pending: tuple[Update, ...]) -> bool:
    why = asked_to_stop(work)
    tally.not_attempted.update({update.id: why for update in pending if why})
    return bool(why)


def _divided(work: Work, tally: Tally, pending: tuple[Update, ...], number: int) -> tuple[Transaction, ...]:
    """Divide updates into transactions that the window can hold; the others are not attempted, and say why."""
    context = work.context
    to_fetch = 0.0 if number else _seconds_to_fetch(work, tally)  # what failed to come has had its time
    parts, late = divide(
        pending,
        rates=work.rates,
        now=context.clock.now(),
        cut_off=over_at(work),
        skew_seconds=work.facts.clock_skew_seconds,
        one_by_one=number > 0,
        first_number=tally.next_number,
        zone=context.window.zone,
        why_cut_off=why_cut_off(context.window, context.options.reboot, work.reboot_reserve),
        download_seconds=to_fetch,
    )
    tally.not_attempted.update({result.update.id: result.reason for result in late})
    return parts


def _allowed(work: Work) -> tuple[Update, ...]:
    """Return what may change: what was chosen, and what merely was not, when it comes along as a dependency."""
    unchosen = (result.update for result in work.plan.skipped if result.state is UpdateState.NOT_SELECTED)
    return (*work.plan.chosen, *unchosen)
