"""Starts jobs on a machine, and runs those of the package manager from their journal entry to their result.

What an earlier process of the run ordered is found in the journal, so that this process can attach to it.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any, TypeVar

from inventory.data_class import dataclass
from tasks.domain.errors import ConnectionLost, FleetpatchError, RecordsError, TransportError
from tasks.domain.model import JobOutput, Update
from tasks.domain.protocols.clock import Deadline
from tasks.domain.protocols.package_manager import JobKind as Kind
from tasks.domain.protocols.package_manager import Transaction
from tasks.domain.protocols.records import JournalMark
from tasks.domain.protocols.transport import Job, JobPhase, JobStatus
from tasks.domain.states import Step
from tasks.rules.kept_packages import build_keep_parameters
from tasks.rules.updates.selection import get_exclude_name_masks
from tasks.steps.context import journal
from tasks.steps.context.machine_context import MachineContext
from tasks.steps.jobs.job_result import JobResult, build_job_result
from tasks.steps.jobs.watch import POLL_TIMEOUT_SECONDS, JobProgressReporter, forward_stop, watch_job
from tasks.steps.machine.machine_lock import announce_attempt, with_lock_token
from tasks.steps.machine.retry import retry_transient

T = TypeVar("T")
SUBMIT_TIMEOUT_SECONDS = 300.0
"""One attempt to submit a job, with a reconnection. A machine of Windows waits up to 180 s until its job begins."""

_UNSTOPPABLE = frozenset({Kind.ROLL_BACK})
"""Without its end the machine would stay unhealthy, so a request to stop is not for it."""


@dataclass(frozen=True, slots=True)
class SubmittedJob:
    """A job that may have been started: its kind and its transactions."""

    kind: Kind
    transactions: tuple[Transaction, ...]


def run_job(
    context: MachineContext,
    kind: Kind,
    number: int,
    transactions: Sequence[Transaction],
    deadline: Deadline,
    *,
    submitted_jobs: dict[str, SubmittedJob],
    allowed: Sequence[Update] = (),
    may_be_stopped: bool = True,
) -> JobResult:
    """Start a job, or attach to it if this run has started it before. Watch it to its end.

    ``number`` distinguishes jobs of one kind in one run. Watching stops at the deadline; the job itself enforces its
    latest starts. ``submitted_jobs`` gets the job before anything can happen on the machine, so that no error hides it.
    The ``allowed`` updates may change in the same transactions. Work that may not be stopped,
    as a way back, gets no request to stop.
    """
    job_id = journal.build_job_id(context.run.id, context.name, kind.value, number)
    plan: dict[str, object] = {
        str(t.number): {
            "updates": [u.id for u in t.updates],
            "latest_start": t.latest_start,
            "predicted": t.predicted_seconds,
            **({} if t.stop_at is None else {"stop_at": t.stop_at}),
        }
        for t in transactions
    }
    step = Step.VALIDATE if kind in {Kind.REMOVE, Kind.ROLL_BACK} else Step.INSTALL
    journal.record_start(context, step, kind.value, job_id, {"transactions": plan})
    options = context.options
    script = context.manager.build_job_script(
        kind,
        transactions,
        allowed=allowed,
        allow_removals=options.allow_removals,
        excluded=get_exclude_name_masks(options.selection),
    )
    if kind is Kind.STAGE and keeps_previous(context):
        kept = build_keep_parameters(context.run.id, (u for t in transactions for u in t.updates))
        script = replace(script, params={**script.params, **kept})
    script = with_lock_token(context, script)
    submitted_jobs[job_id] = SubmittedJob(kind, tuple(transactions))
    try:
        started = submit_job(context, Job(job_id, script))
    except ConnectionLost:
        raise
    except FleetpatchError as error:  # the machine answered, and refused
        del submitted_jobs[job_id]
        journal.record_end(context, step, kind.value, job_id, {"phase": "refused", "error": error.message})
        raise
    reporter = JobProgressReporter(context, step, kind, transactions)
    stops = may_be_stopped and kind not in _UNSTOPPABLE
    ended_job = watch_job(context, started, reporter.report_record, deadline, may_be_stopped=stops)
    context.records.save(JobOutput(context.run.id, context.name, job_id, ended_job.log))
    now, skew = context.clock.now(), context.facts.clock_skew_seconds
    job_result = build_job_result(job_id, ended_job, transactions, skew, now)
    journal.record_end(context, step, kind.value, job_id, {"phase": ended_job.phase.value, "error": job_result.error})
    return job_result


def keeps_previous(context: MachineContext) -> bool:
    """Return whether the download of this run keeps the packages that are replaced."""
    options = context.options
    is_other = options.download_only or options.undo_order is not None or options.component_order is not None
    return options.keep_previous and not is_other and context.manager.way_back.keeps


def submit_job(context: MachineContext, job: Job) -> JobStatus:
    """Start a job, or attach to it. If the connection breaks, retry; the machine starts the job only once.

    Raises:
        ConnectionLost: the machine stayed unreachable; the job may be running.
        FleetpatchError: the machine refused to start it.
    """
    clock = context.clock
    until = Deadline.after(clock, context.options.max_unreachable_seconds)
    try:
        return retry_transient(context, lambda: _start_job(context, job), until)
    except TransportError as error:
        raise ConnectionLost(
            f"connection lost while job {job.id} was submitted: {error.message}",
            machine=context.name,
            hint="The job may be running. Assess the machine when it can be reached: "
            "its package database shows the result.",
        ) from error


def _start_job(context: MachineContext, job: Job) -> JobStatus:
    # this process may have been suspended since the last check
    if not context.stop_token.still_holds_lease():
        raise RecordsError(
            "another process executes this run now, so this process begins nothing more",
            machine=context.name,
            hint="Look at the run: the other process continues it.",
        )
    return context.transport.start_job(job, deadline=Deadline.after(context.clock, SUBMIT_TIMEOUT_SECONDS))


def find_submitted_transactions(context: MachineContext, kind: Kind, number: int) -> tuple[Transaction, ...]:
    """Return the transactions of a job that this run may have started before, or ().

    If a stop was requested, the machine is asked: a job that did not reach it does not begin.

    Raises:
        RecordsError: the journal entry of that job is not valid.
        TransportError: a stop was requested, and the machine could not be asked.
    """
    if not context.state.was_changed_before_resume:
        return ()
    planned = (*context.plan.chosen, *(result.update for result in context.plan.skipped))
    updates_by_id = {update.id: update for update in (*context.packages.updates, *planned)}

    def build_transaction(number: int, part: Mapping[str, Any]) -> Transaction:
        return Transaction(
            number=number,
            updates=tuple(updates_by_id[name] for name in part["updates"] if name in updates_by_id),
            latest_start=float(part["latest_start"]),
            predicted_seconds=float(part["predicted"]),
            stop_at=None if part.get("stop_at") is None else float(part["stop_at"]),
        )

    return _read_submission(context, kind, number, build_transaction)


def find_submitted_update_ids(context: MachineContext, kind: Kind) -> tuple[tuple[str, ...], ...]:
    """Return the ids of the packages in each transaction of a job that this run may have started before, or ().

    Unlike find_submitted_transactions, it also finds a job of this process: its step may be repeated.

    Raises:
        RecordsError, TransportError: see find_submitted_transactions.
    """
    return _read_submission(context, kind, 0, lambda _, part: tuple(map(str, part["updates"])))


def _read_submission(
    context: MachineContext, kind: Kind, number: int, build: Callable[[int, Mapping[str, Any]], T]
) -> tuple[T, ...]:
    """Return what is built of each transaction that the journal has of a job, or ()."""
    job_id = journal.build_job_id(context.run.id, context.name, kind.value, number)
    entries = context.records.read_entries(context.run.id, context.name)
    entry = next((entry for entry in entries if entry.mark is JournalMark.BEFORE and entry.key == job_id), None)
    transactions = entry.detail.get("transactions") if entry else None
    if entry is None or not isinstance(transactions, Mapping):
        return ()
    try:
        built = tuple(build(int(place), transactions[place]) for place in sorted(transactions, key=int))
    except (ValueError, TypeError, KeyError, OverflowError) as error:
        raise journal.build_unreadable_error(entry, f"job {entry.key}", repr(error), context.name) from error
    if kind in _UNSTOPPABLE or not context.stop_token.is_stopping:
        return built
    return () if is_job_unknown_to_machine(context, job_id) else built


def is_job_unknown_to_machine(context: MachineContext, job_id: str) -> bool:
    """Return whether the machine does not know a job that was about to be submitted.

    The attempt is announced before the look: a delayed order of an earlier attempt must not take effect after that. An
    order that waits on the machine blocks the announcement, but not the job's stop request, which is sent first.
    """
    clock = context.clock
    forward_stop(context, job_id)
    until = Deadline.after(clock, context.options.max_unreachable_seconds)
    retry_transient(context, lambda: announce_attempt(context), until)
    view = retry_transient(
        context, lambda: context.transport.poll_job(job_id, deadline=Deadline.after(clock, POLL_TIMEOUT_SECONDS)), until
    )
    return view.phase is JobPhase.ABSENT
