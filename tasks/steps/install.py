"""Install: repair what was interrupted if allowed, download, then install in transactions that the window can hold.

The exit codes of the package manager decide nothing here: what is installed is what its database says afterwards.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from datetime import timedelta

from tasks.errors import BrokenPackages
from tasks.model import ErrorInfo, InstallResult, TransactionResult, Update, UpdateResult
from tasks.rules.budget import transactions as divide
from tasks.rules.results import came_along, settle
from tasks.rules.window import cut_off, fit, overrun, why_cut_off
from tasks.seams.clock import Deadline
from tasks.seams.manager import Transaction
from tasks.seams.manager import Work as Kind
from tasks.states import UpdateState
from tasks.steps.assess import plan
from tasks.steps.context import MachineRun, Work
from tasks.steps.jobs import JobStory, carry_out

ROUNDS = 2
"""The planned transactions, then once more, each alone, for updates that a failed transaction left untouched."""


@dataclass(slots=True)
class _Tally:
    """What has been gathered so far, over all rounds."""

    transactions: list[TransactionResult] = field(default_factory=list)
    not_attempted: dict[str, str] = field(default_factory=dict)
    conffiles: list[str] = field(default_factory=list)
    job_ids: list[str] = field(default_factory=list)
    errors: list[str] = field(default_factory=list)
    versions: Mapping[str, str] = field(default_factory=dict)

    def add(self, story: JobStory) -> None:
        self.transactions += story.transactions
        self.not_attempted.update(story.not_attempted)
        self.conffiles += story.conffiles
        self.job_ids.append(story.job_id)
        if story.error:
            self.errors.append(story.error)


def install(work: Work) -> MachineRun:
    """Install the plan's updates and report what the package database says of each."""
    tally = _Tally()
    if work.packages.problems:
        _repair(work, tally)
    chosen = work.plan.chosen
    if chosen and work.context.options.stage:
        late = _stage(work, tally)
        if late:
            return _settled(work, tally, not_attempted={update.id: late for update in chosen})
    _rounds(work, tally)
    return _settled(work, tally)


def _watching(work: Work) -> Deadline:
    """Until when a job is watched: it may end late, and the machine may be out of touch for a while."""
    return Deadline(work.context.window.end + timedelta(seconds=work.context.options.out_of_touch_seconds))


def _repair(work: Work, tally: _Tally) -> None:
    """Finish what was interrupted before we came, once, and plan anew with what is pending after that.

    Raises:
        BrokenPackages: it was not allowed, or did not help.
    """
    problems = "; ".join(work.packages.problems)
    if not (work.context.options.repair and work.packages.repairable):
        raise BrokenPackages(
            f"packages are in a broken state: {problems}",
            machine=work.name,
            hint="Mend it by hand, or allow repairs in the request.",
        )
    until = cut_off(work.context.window, work.context.options.reboot, work.reboot_reserve)
    repair = Transaction(0, (), until.timestamp() + work.facts.clock_skew_seconds, 60.0)
    tally.add(carry_out(work, Kind.REPAIR, 0, (repair,), _watching(work)))
    state = work.manager.assess(work.transport, refresh=False, deadline=work.reading())
    if state.problems:
        raise BrokenPackages(
            f"the repair did not help: {'; '.join(state.problems)}", machine=work.name, hint="Mend it by hand."
        )
    if work.run.assessment is not None:
        work.run = replace(work.run, assessment=replace(work.run.assessment, packages=state))
    work.run = plan(work)


def _stage(work: Work, tally: _Tally) -> str:
    """Download everything; return why it was not begun, or "". A failed download is the installation's to name."""
    context, chosen = work.context, work.plan.chosen
    until = cut_off(context.window, context.options.reboot, work.reboot_reserve)
    needed = work.plan.prediction.stage + work.rates.transaction_seconds
    check = fit(
        context.clock.now(),
        needed,
        until,
        f"download and first installation of {len(chosen)} updates",
        why_cut_off(context.window, context.options.reboot, work.reboot_reserve),
        zone=context.window.zone,
    )
    if not check.fits:
        return check.arithmetic
    whole = Transaction(0, chosen, until.timestamp() + work.facts.clock_skew_seconds, work.plan.prediction.stage)
    story = carry_out(work, Kind.STAGE, 0, (whole,), _watching(work))
    tally.job_ids.append(story.job_id)
    return ""


def _rounds(work: Work, tally: _Tally) -> None:
    context = work.context
    pending: tuple[Update, ...] = work.plan.chosen
    first = 0
    for number in range(ROUNDS):
        if not pending:
            return
        until = cut_off(context.window, context.options.reboot, work.reboot_reserve)
        parts, late = divide(
            pending,
            rates=work.rates,
            now=context.clock.now(),
            cut_off=until,
            skew_seconds=work.facts.clock_skew_seconds,
            one_by_one=number > 0,
            first_number=first,
            zone=context.window.zone,
            why_cut_off=why_cut_off(context.window, context.options.reboot, work.reboot_reserve),
        )
        tally.not_attempted.update({result.update.id: result.reason for result in late})
        if context.control.stopping:
            tally.not_attempted.update({u.id: f"the run was asked to stop: {context.control.reason}" for u in pending})
            return
        if parts:
            tally.add(carry_out(work, Kind.INSTALL, number, parts, _watching(work), allowed=_allowed(work)))
            first += len(parts)
        tally.versions = work.manager.installed(work.transport, work.plan.chosen, deadline=work.reading())
        pending = _bystanders(work, tally)


def _allowed(work: Work) -> tuple[Update, ...]:
    """Return what may change: what was chosen, and what merely was not, when it comes along as a dependency."""
    unchosen = (result.update for result in work.plan.skipped if result.state is UpdateState.NOT_SELECTED)
    return (*work.plan.chosen, *unchosen)


def _bystanders(work: Work, tally: _Tally) -> tuple[Update, ...]:
    """Return updates that are untouched because something else in their transaction failed."""
    failed = [t for t in tally.transactions if t.exit_code != 0 and len(t.updates) > 1]
    names = {update_id for transaction in failed for update_id in transaction.updates}
    return tuple(
        update
        for update in work.plan.chosen
        if update.id in names and update.installed is not None and tally.versions.get(update.id) == update.installed
    )


def _settled(work: Work, tally: _Tally, not_attempted: Mapping[str, str] | None = None) -> MachineRun:
    """Ask the package manager how things stand, and say of each update what became of it."""
    reasons = dict(not_attempted if not_attempted is not None else tally.not_attempted)
    after = work.manager.assess(work.transport, refresh=False, deadline=work.reading())
    if not tally.versions:
        tally.versions = work.manager.installed(work.transport, work.plan.chosen, deadline=work.reading())
    chosen_results = settle(work.plan.chosen, work.packages, tally.versions, tally.transactions, reasons)
    skipped = _skipped(work)
    ended = [t.ended_at for t in tally.transactions if t.ended_at is not None]
    result = InstallResult(
        results=(*chosen_results, *skipped),
        transactions=tuple(tally.transactions),
        job_ids=tuple(tally.job_ids),
        conffiles=tuple(dict.fromkeys(tally.conffiles)),
        unasked=tuple(
            f"{result.update.id} {result.update.installed} -> {result.version_after}"
            for result in skipped
            if result.state is UpdateState.INSTALLED
        ),
        overrun_seconds=max((overrun(work.context.window, moment) for moment in ended), default=0.0),
        error=ErrorInfo("JobError", "; ".join(tally.errors)) if tally.errors else None,
    )
    return replace(work.run, install=result, packages_after=after)


def _skipped(work: Work) -> tuple[UpdateResult, ...]:
    """Return what was not chosen, told as Installed where it came along as a dependency all the same."""
    skipped = work.plan.skipped
    if not skipped:
        return ()
    now = work.manager.installed(work.transport, [result.update for result in skipped], deadline=work.reading())
    return came_along(skipped, now)
