"""What a run handed a machine before this process took it up: read from the journal, so that it is attached to."""

from collections.abc import Mapping

from tasks.errors import RecordsError
from tasks.model import Update
from tasks.seams.clock import Deadline
from tasks.seams.manager import Transaction
from tasks.seams.manager import Work as Kind
from tasks.seams.records import JournalMark
from tasks.seams.transport import JobPhase
from tasks.steps import journal
from tasks.steps.claim import outrank
from tasks.steps.context import Work
from tasks.steps.follow import LOOK_SECONDS, pass_on_stop, patiently


def handed_over(work: Work, kind: Kind, number: int) -> tuple[Transaction, ...]:
    """Return the transactions of a job that this run may have started already; empty when it has not.

    A run that is being stopped asks the machine: what was only about to be handed over is not begun any more.

    Args:
        work: the machine's turn.
        kind: what the job does.
        number: tells jobs of one kind in one run apart.

    Raises:
        RecordsError: the journal's entry of that job makes no sense.
        TransportError: a run that is being stopped could not ask the machine.
    """
    if not work.run.begun:
        return ()
    wanted = journal.job_id(work.context.run.id, work.name, kind.value, number)
    for entry in work.context.records.entries(work.context.run.id, work.name):
        if entry.mark is JournalMark.BEFORE and entry.key == wanted:
            try:
                parts = _transactions(entry.detail.get("transactions"), _known(work))
            except (ValueError, TypeError, KeyError, OverflowError) as error:
                raise RecordsError(
                    f"the journal of run {entry.run_id} makes no sense at job {entry.key}: {error!r}",
                    machine=work.name,
                    hint="It was written by another version, or changed by hand: assess the machine, and look at it.",
                ) from error
            return () if work.context.control.stopping and _never_came(work, wanted) else parts
    return ()


def _never_came(work: Work, job_id: str) -> bool:
    """Whether the machine knows nothing of a job that was about to be handed to it. A run that stops begins none.

    It hears of this attempt first: an order that an earlier one still has on its way must not come after the look. An
    order that is held up there keeps it from hearing that, but not from hearing that the job is to stop.
    """
    clock = work.context.clock
    pass_on_stop(work, job_id)
    until = Deadline.after(clock, work.context.options.out_of_touch_seconds)
    patiently(work, lambda: outrank(work), until)
    view = patiently(work, lambda: work.transport.look(job_id, deadline=Deadline.after(clock, LOOK_SECONDS)), until)
    return view.phase is JobPhase.ABSENT


def reboot_ordered(work: Work, *, early: bool) -> str:
    """Return the boot id at which this run may have ordered a reboot already, or ""."""
    if not work.run.begun:
        return ""
    entries = work.context.records.entries(work.context.run.id, work.name)
    ordered = [
        e.key for e in entries if e.mark is JournalMark.BEFORE and e.act == "reboot" and e.detail.get("early") is early
    ]
    return ordered[-1] if ordered else ""


def restart_handed_over(work: Work, act: str) -> tuple[str, ...]:
    """Return the units of a job that restarts services and that this run may have started already; empty: it has not.

    Args:
        work: the machine's turn.
        act: of its journal entry.

    Raises:
        RecordsError: the journal's entry of that job makes no sense.
        TransportError: a run that is being stopped could not ask the machine.
    """
    if not work.run.begun:
        return ()
    for entry in work.context.records.entries(work.context.run.id, work.name):
        if entry.mark is JournalMark.BEFORE and entry.act == act:
            units = entry.detail.get("units")
            if not isinstance(units, list | tuple) or not all(isinstance(unit, str) for unit in units):
                raise RecordsError(
                    f"the journal of run {entry.run_id} makes no sense at job {entry.key}: {units!r:.200}",
                    machine=work.name,
                    hint="It was written by another version, or changed by hand: assess the machine, and look at it.",
                )
            return () if work.context.control.stopping and _never_came(work, entry.key) else tuple(units)
    return ()


def _known(work: Work) -> Mapping[str, Update]:
    planned = [*work.plan.chosen, *(result.update for result in work.plan.skipped)]
    return {update.id: update for update in (*work.packages.updates, *planned)}


def _transactions(detail: object, known: Mapping[str, Update]) -> tuple[Transaction, ...]:
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
