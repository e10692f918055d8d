"""Finds in the journal what an earlier process of a run ordered on a machine, so that this process can attach to it."""

from collections.abc import Mapping

from tasks.domain.errors import RecordsError
from tasks.domain.model import Update
from tasks.domain.protocols.clock import Deadline
from tasks.domain.protocols.package_manager import JobKind as Kind
from tasks.domain.protocols.package_manager import Transaction
from tasks.domain.protocols.records import JournalEntry, JournalMark
from tasks.domain.protocols.transport import JobPhase
from tasks.steps.context import journal
from tasks.steps.context.machine_context import MachineContext
from tasks.steps.jobs.watch import POLL_TIMEOUT_SECONDS, forward_stop
from tasks.steps.machine.machine_lock import announce_attempt
from tasks.steps.machine.retry import retry_transient


def find_submitted_transactions(context: MachineContext, kind: Kind, number: int) -> tuple[Transaction, ...]:
    """Return the transactions of a job that this run may have started before, or ().

    If a stop was requested, the machine is asked: a job that did not reach it does not begin.

    Args:
        context: of the machine.
        kind: what the job does.
        number: distinguishes jobs of one kind in one run.

    Raises:
        RecordsError: the journal entry of that job is not valid.
        TransportError: a stop was requested, and the machine could not be asked.
    """
    if not context.state.was_started:
        return ()
    job_id = journal.build_job_id(context.run.id, context.name, kind.value, number)
    entry = _find_start(context, job_id)
    if entry is None:
        return ()
    try:
        parts = _parse_transactions(entry.detail.get("transactions"), _index_updates(context))
    except (ValueError, TypeError, KeyError, OverflowError) as error:
        raise RecordsError(
            f"the journal of run {entry.run_id} can't be understood at job {entry.key}: {error!r}",
            machine=context.name,
            hint="It was written by another version, or changed by hand: assess the machine, and look at it.",
        ) from error
    return () if context.stop_token.is_stopping and _is_unknown_to_machine(context, job_id) else parts


def find_submitted_update_ids(context: MachineContext, kind: Kind) -> tuple[tuple[str, ...], ...]:
    """Return the ids of the packages in each transaction of a job that this run may have started before, or ().

    They are as find_submitted_transactions finds them, without what is known of the packages now.

    Args:
        context: of the machine.
        kind: what the job does.

    Raises:
        RecordsError, TransportError: see find_submitted_transactions.
    """
    if not find_submitted_transactions(context, kind, 0):
        return ()
    job_id = journal.build_job_id(context.run.id, context.name, kind.value, 0)
    entry = _find_start(context, job_id)
    parts = entry.detail.get("transactions") if entry else None
    if not isinstance(parts, Mapping):
        return ()
    return tuple(tuple(map(str, parts[number]["updates"])) for number in sorted(parts, key=int))


def _find_start(context: MachineContext, job_id: str) -> JournalEntry | None:
    """Return the journal entry that was written before a job was submitted, or None."""
    entries = context.records.read_entries(context.run.id, context.name)
    return next((entry for entry in entries if entry.mark is JournalMark.BEFORE and entry.key == job_id), None)


def _is_unknown_to_machine(context: MachineContext, job_id: str) -> bool:
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


def find_ordered_reboot(context: MachineContext, *, early: bool) -> str:
    """Return the boot id at which this run may have ordered a reboot of this round before, or ""."""
    if not context.state.was_started:
        return ""
    entries = context.records.read_entries(context.run.id, context.name)
    ordered = [
        entry.key
        for entry in entries
        if entry.mark is JournalMark.BEFORE
        and entry.act == "reboot"
        and entry.detail.get("early") is early
        and entry.detail.get("round", 0) == context.state.follow_up_count
    ]
    return ordered[-1] if ordered else ""


def find_submitted_restarts(context: MachineContext, act: str) -> tuple[str, ...]:
    """Return the units of a restart job that this run may have started before, or ().

    Args:
        context: of the machine.
        act: of its journal entry.

    Raises:
        RecordsError: the journal entry of that job is not valid.
        TransportError: a stop was requested, and the machine could not be asked.
    """
    if not context.state.was_started:
        return ()
    for entry in context.records.read_entries(context.run.id, context.name):
        if entry.mark is JournalMark.BEFORE and entry.act == act:
            units = entry.detail.get("units")
            if not isinstance(units, list | tuple) or not all(isinstance(unit, str) for unit in units):
                raise RecordsError(
                    f"the journal of run {entry.run_id} can't be understood at job {entry.key}: {units!r:.200}",
                    machine=context.name,
                    hint="It was written by another version, or changed by hand: assess the machine, and look at it.",
                )
            return () if context.stop_token.is_stopping and _is_unknown_to_machine(context, entry.key) else tuple(units)
    return ()


def _index_updates(context: MachineContext) -> Mapping[str, Update]:
    planned = [*context.plan.chosen, *(result.update for result in context.plan.skipped)]
    return {update.id: update for update in (*context.packages.updates, *planned)}


def _parse_transactions(detail: object, known: Mapping[str, Update]) -> tuple[Transaction, ...]:
    if not isinstance(detail, Mapping):
        return ()
    return tuple(
        Transaction(
            number=int(number),
            updates=tuple(known[name] for name in part["updates"] if name in known),
            latest_start=float(part["latest_start"]),
            predicted_seconds=float(part["predicted"]),
            stop_at=None if part.get("stop_at") is None else float(part["stop_at"]),
        )
        for number, part in sorted(detail.items(), key=lambda item: int(item[0]))
    )
