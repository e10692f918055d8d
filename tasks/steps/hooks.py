"""Owners' hooks around one machine, and what every hook has in common: it is journalled, and runs once."""

import logging
import math
from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from datetime import datetime, timedelta

from pydantic import TypeAdapter, ValidationError

from tasks.errors import FleetpatchError, RecordsError, WindowClosed
from tasks.model import ErrorInfo, Hook, HookResult
from tasks.rules.hooks import BEFORE, OF_A_MACHINE, stops, why_stopped
from tasks.rules.urls import shown_place, without_secrets
from tasks.seams.clock import Deadline
from tasks.seams.records import JournalEntry, JournalMark
from tasks.seams.transport import Script
from tasks.states import HookKind, HookPlace, OperationState, Step
from tasks.steps.context import Context, MachineRun, Work
from tasks.steps.report import settle_outcome
from tasks.steps.turn import asked_to_stop, held_back, no_time_left, over_at
from tasks.steps.updaters import ACT as PAUSE

logger = logging.getLogger(__name__)

ACT = "hook"
"""The act of journal entries about hooks; their key is place, name and subject."""
GRACE_SECONDS = 25.0  # on top of a command's own timeout: for the way there and back, and for ending it
CHANGING_ACTS = frozenset({ACT, PAUSE, "install", "repair", "reboot", "restart"})
"""Acts that come only once the hooks before a machine have had their turn."""
UNKNOWN = (
    "this run began it and was cut short: nobody knows whether it ran. It is not run again, for it is not marked as "
    "repeatable"
)
ENDED = frozenset({124, 137, 143})  # what `timeout` leaves behind when it ended a command
TAIL = 2000  # characters of what a hook printed that are kept

Call = Callable[[Hook, str, Deadline], HookResult]


@dataclass(frozen=True, slots=True)
class _Ended:
    """The journal's detail of a hook that has ended."""

    succeeded: bool
    message: str
    started_at: datetime
    ended_at: datetime


_CODEC = TypeAdapter(_Ended)


def key_of(hook: Hook, subject: str) -> str:
    """Return what tells a hook's turn apart from all others in its run."""
    return f"{hook.place}/{hook.name}/{subject}"


def shown(hook: Hook) -> Hook:
    """Return a hook as it may be kept and shown: of a URL only where it leads."""
    return replace(hook, target=shown_place(hook.target)) if hook.kind is HookKind.HTTP else hook


def once(context: Context, hook: Hook, subject: str, call: Call, until: datetime | None = None) -> HookResult:
    """Run a hook, unless this run did so before: then return what came of it.

    Args:
        context: of the run.
        hook: what is run.
        subject: the machine's name, "wave 2" or "run".
        call: runs it.
        until: the moment at which it has to be over, besides its own timeout.

    Raises:
        RecordsError: it can't be journalled, so it is not begun; or its end could not be stored.
    """
    machine = subject if hook.place in OF_A_MACHINE else ""
    key, clock = key_of(hook, subject), context.clock
    told = [e for e in context.records.entries(context.run.id, machine) if e.act == ACT and e.key == key]
    ended = next((entry for entry in told if entry.mark is JournalMark.AFTER), None)
    if ended is not None:
        return remembered(ended, hook, subject)
    if told and not _may_be_asked_again(hook):
        result = HookResult(
            shown(hook), subject, succeeded=False, message=UNKNOWN, started_at=told[-1].at, ended_at=clock.now()
        )
    else:
        _note(context, hook, machine, JournalMark.BEFORE, key, {})
        deadline = Deadline.after(clock, hook.timeout_seconds)
        result = _called(context, hook, subject, call, min(deadline, Deadline(until)) if until else deadline)
    _note(context, hook, machine, JournalMark.AFTER, key, _CODEC.dump_python(_of(result), mode="json"))
    return result


def _may_be_asked_again(hook: Hook) -> bool:
    """A deployment may: Prefect knows its run by our key, and gives back the one that was begun."""
    return hook.repeatable or hook.kind is HookKind.DEPLOYMENT


def _called(context: Context, hook: Hook, subject: str, call: Call, deadline: Deadline) -> HookResult:
    """Run a hook. Whatever goes wrong in it is its result."""
    began = context.clock.now()
    try:
        if obstacle := _obstacle(context, hook, deadline):
            raise WindowClosed(obstacle)
        result = call(hook, subject, deadline)
    except FleetpatchError as error:
        failed = error.message
    except Exception as error:  # a hook must cost no more than its mode says
        logger.exception("hook %s for %s failed in a way that was not foreseen", hook.name, subject)
        failed = f"{type(error).__name__}: {error}"
    else:
        return replace(result, hook=shown(hook), message=_clean(hook, result.message))
    return HookResult(
        shown(hook),
        subject,
        succeeded=False,
        message=_clean(hook, failed),
        started_at=began,
        ended_at=context.clock.now(),
    )


def _obstacle(context: Context, hook: Hook, deadline: Deadline) -> str:
    """Return why a hook is not begun after all: to store that it is about to may have taken long."""
    if hook.place in BEFORE and context.control.stopping:
        return f"not begun: the run was asked to stop: {context.control.reason}"
    return "not begun: no time was left for it" if deadline.passed(context.clock) else ""


def _clean(hook: Hook, message: str) -> str:
    """Return a message without what a URL may hold, and no longer than is useful."""
    return (without_secrets(message, hook.target) if hook.kind is HookKind.HTTP else message)[-TAIL:]


def _of(result: HookResult) -> _Ended:
    return _Ended(result.succeeded, result.message, result.started_at, result.ended_at)


def _note(context: Context, hook: Hook, machine: str, mark: JournalMark, key: str, detail: dict[str, object]) -> None:
    step = Step.PRECHECK if hook.place in BEFORE else Step.REPORT
    context.records.append(JournalEntry(context.run.id, machine, step, mark, ACT, key, context.clock.now(), detail))


def remembered(entry: JournalEntry, hook: Hook, subject: str) -> HookResult:
    """Return the result that the journal has of a hook. Pure.

    Raises:
        RecordsError: the entry makes no sense.
    """
    try:
        told = _CODEC.validate_python(entry.detail, strict=False)
    except ValidationError as error:
        raise RecordsError(
            f"the journal of run {entry.run_id} makes no sense at hook {entry.key}: {error}",
            hint="It was written by another version; finish the run with that one.",
        ) from error
    return HookResult(shown(hook), subject, told.succeeded, told.message, told.started_at, told.ended_at)


def recalled(hooks: Iterable[Hook], subject: str, entries: Iterable[JournalEntry]) -> tuple[HookResult, ...]:
    """Return the results that the journal has of a subject's hooks, oldest first. Pure.

    Raises:
        RecordsError: an entry makes no sense.
    """
    by_key = {key_of(hook, subject): hook for hook in hooks}
    ended = (e for e in entries if e.act == ACT and e.mark is JournalMark.AFTER and e.key in by_key)
    return tuple(remembered(entry, by_key[entry.key], subject) for entry in ended)


def taken_up(run: MachineRun, hooks: Iterable[Hook], entries: tuple[JournalEntry, ...]) -> MachineRun:
    """Return a machine's run with what its journal knows of its hooks. Pure.

    Raises:
        RecordsError: an entry makes no sense.
    """
    entered = any(entry.mark is JournalMark.BEFORE and entry.act in CHANGING_ACTS for entry in entries)
    return replace(run, entered=entered, hooks=recalled(hooks, run.machine.name, entries))


def before_machine(work: Work) -> bool:
    """Run the hooks before a machine unless they had their turn; return whether it may be changed.

    Asked just before the first thing that changes the machine. When it may not, the machine's run is halted: Failed
    when a hook failed that must succeed, NotStarted when the run was asked to stop meanwhile or the window was over.
    """
    if not work.context.options.hooks:
        return True
    ran = False
    for hook in _placed(work, HookPlace.BEFORE_MACHINE):
        result = _known(work, hook)
        if result is None:
            if why := held_back(work):
                return _halt(work, why, OperationState.NOT_STARTED)
            work.run = replace(work.run, entered=True)
            result, ran = _run(work, hook, over_at(work)), True
        if stops(result):
            return _failed(work, result, fresh=ran)
    work.run = replace(work.run, entered=True)
    if ran and (why := held_back(work)):
        return _halt(work, f"after its hooks: {why}", OperationState.NOT_STARTED)
    return True


def _failed(work: Work, result: HookResult, *, fresh: bool) -> bool:
    """Halt a machine whose hook failed; one that was only cut short by a stop or by the window is not to blame."""
    cut = result.ended_at >= over_at(work) and no_time_left(work)
    blameless = (asked_to_stop(work) or cut) if fresh else ""
    if blameless:
        return _halt(work, f"{blameless}; {why_stopped(result)}", OperationState.NOT_STARTED)
    return _halt(work, why_stopped(result), OperationState.FAILED)


def _halt(work: Work, why: str, state: OperationState) -> bool:
    work.run = replace(work.run, halted=why, halted_as=state)
    return False


def after_machine(work: Work) -> None:
    """Run the hooks after a machine, however its run went, once those before it had their turn. Raises nothing.

    A run that somebody else has taken over leaves them to that one.
    """
    control = work.context.control
    if not work.run.entered or control.taken_over:
        return
    for hook in _placed(work, HookPlace.AFTER_MACHINE):
        if _known(work, hook) is not None:
            continue
        try:
            _run(work, hook, None)
        except RecordsError as error:
            control.stop(f"the records failed: {error.message}")
            info = ErrorInfo.of(error)
            work.run = replace(work.run, error=work.run.error or info)
            return


def _placed(work: Work, place: HookPlace) -> list[Hook]:
    return [hook for hook in work.context.options.hooks if hook.place is place]


def _known(work: Work, hook: Hook) -> HookResult | None:
    return next((r for r in work.run.hooks if (r.hook.place, r.hook.name) == (hook.place, hook.name)), None)


def _run(work: Work, hook: Hook, until: datetime | None) -> HookResult:
    step = Step.INSTALL if hook.place in BEFORE else Step.REPORT
    work.context.watch.progress(work.name, step, None, f"hook {hook.name}")

    def call(hook: Hook, subject: str, deadline: Deadline) -> HookResult:
        if hook.kind is HookKind.MACHINE_COMMAND:
            return _on_machine(work, hook, deadline)
        return work.context.call_hook(hook, subject, deadline)

    result = once(work.context, hook, work.name, call, until)
    work.run = replace(work.run, hooks=(*work.run.hooks, result))
    return result


def _on_machine(work: Work, hook: Hook, deadline: Deadline) -> HookResult:
    """Run an owner's command as root on the machine, which itself ends a command that takes too long."""
    clock = work.context.clock
    began = clock.now()
    seconds = max(1, math.floor(deadline.remaining(clock)))
    parameters = {
        "command": hook.target,
        "timeout": str(seconds),
        "run": work.context.run.id,
        "machine": work.name,
        "place": hook.place.value,
        "name": hook.name,
        "state": settle_outcome(work).state.value if hook.place is HookPlace.AFTER_MACHINE else "",
    }
    patience = Deadline(deadline.at + timedelta(seconds=GRACE_SECONDS))
    answer = work.transport.run(Script("hook", parameters, read_only=False), deadline=patience).of_kind("hook")
    code = answer[0].get("exit_code") if answer else None
    text = str(answer[0].get("text", "")).strip() if answer else ""
    late = code in ENDED and (clock.now() - began).total_seconds() >= seconds - 1
    message = _told(code, text, seconds if late else None) if answer else "the machine gave no answer"
    return HookResult(hook, work.name, code == 0, message, began, clock.now())


def _told(code: object, text: str, seconds: float | None) -> str:
    tail = text[-TAIL:]
    if code == 0:
        return tail
    how = f"it was ended after {seconds:.0f} s" if seconds is not None else f"exit code {code}"
    return f"{how}: {tail}" if tail else how
