"""Hooks around one machine, and what all hooks share: each is in the journal and runs once."""

import logging
import math
from collections.abc import Callable, Iterable
from dataclasses import replace
from datetime import datetime, timedelta
from functools import cache

from pydantic import TypeAdapter, ValidationError

from inventory.data_class import dataclass
from tasks.domain.errors import FleetpatchError, RecordsError, WindowClosed
from tasks.domain.model import Finding, Hook, HookResult
from tasks.domain.protocols.clock import Deadline
from tasks.domain.protocols.records import JournalEntry, JournalMark
from tasks.domain.states import FindingLevel, HookKind, HookPoint, OperationState, Step
from tasks.rules.redaction import redact_url_path, redact_url_secrets
from tasks.rules.runs.hooks import (
    BEFORE_PLACES,
    MACHINE_PLACES,
    describe_blocking_failure,
    find_forgotten_drains,
    is_blocking_failure,
)
from tasks.steps.context.machine_context import MachineContext, MachineState
from tasks.steps.context.run_context import RunContext
from tasks.steps.machine.auto_updaters import PAUSE_ACT as PAUSE
from tasks.steps.machine.set_member import explain_member_left_drained
from tasks.steps.outcome import build_outcome
from tasks.steps.start_checks import explain_no_start, explain_no_time_left, explain_stop_request, find_machine_cut_off

logger = logging.getLogger(__name__)

HOOK_ACT = "hook"
"""The act of journal entries about hooks; their key is place, name and subject."""
COMMAND_GRACE_SECONDS = 25.0  # added to a command's own timeout: for the connection, and for ending the command
ACTS_AFTER_BEFORE_HOOKS = frozenset({HOOK_ACT, PAUSE, "install", "repair", "remove", "reboot", "restart"})
"""Acts that begin only after the hooks before a machine."""
UNKNOWN_RESULT_MESSAGE = (
    "this run began it and was interrupted: whether it ran is not known. It is not run again, for it is not marked as "
    "repeatable"
)
MAX_OUTPUT_CHARACTERS = 2000  # the last characters of a hook's output, which are kept

HookCall = Callable[[Hook, str, Deadline], HookResult]


@dataclass(frozen=True, slots=True)
class _HookEndDetail:
    """The detail of the journal entry for a hook that has ended."""

    succeeded: bool
    message: str
    started_at: datetime
    ended_at: datetime


@cache
def _get_end_adapter() -> TypeAdapter[_HookEndDetail]:
    return TypeAdapter(_HookEndDetail)


def build_hook_key(hook: Hook, subject: str) -> str:
    """Return the key that identifies one execution of a hook in its run."""
    return f"{hook.place}/{hook.name}/{subject}"


def redact_hook(hook: Hook) -> Hook:
    """Return a hook in the form that is stored and shown. A URL is reduced to the part that has no secrets."""
    return replace(hook, target=redact_url_path(hook.target)) if hook.kind is HookKind.HTTP else hook


def run_hook_once(
    run_context: RunContext, hook: Hook, subject: str, call: HookCall, until: datetime | None = None
) -> HookResult:
    """Run a hook. If this run has already run it, return the stored result.

    ``subject`` is the machine's name, "wave 2" or "run". At ``until`` the hook must be over, too.

    Raises:
        RecordsError: the journal entry can't be written, and the hook does not begin; or its end could not be stored.
    """
    machine = subject if hook.place in MACHINE_PLACES else ""
    key, clock = build_hook_key(hook, subject), run_context.clock
    earlier_entries = [
        e for e in run_context.records.read_entries(run_context.run.id, machine) if e.act == HOOK_ACT and e.key == key
    ]
    ended = next((entry for entry in earlier_entries if entry.mark is JournalMark.AFTER), None)
    if ended is not None:
        return parse_recorded_result(ended, hook, subject)
    if earlier_entries and not _may_run_again(hook):
        result = HookResult(
            redact_hook(hook),
            subject,
            succeeded=False,
            message=UNKNOWN_RESULT_MESSAGE,
            started_at=earlier_entries[-1].at,
            ended_at=clock.now(),
        )
    else:
        _append_journal_entry(run_context, hook, machine, JournalMark.BEFORE, key, {})
        deadline = Deadline.after(clock, hook.timeout_seconds)
        result = _call_hook(run_context, hook, subject, call, min(deadline, Deadline(until)) if until else deadline)
    _append_journal_entry(
        run_context,
        hook,
        machine,
        JournalMark.AFTER,
        key,
        _get_end_adapter().dump_python(
            _HookEndDetail(result.succeeded, result.message, result.started_at, result.ended_at), mode="json"
        ),
    )
    return result


def _may_run_again(hook: Hook) -> bool:
    """Return whether a hook may run again. A deployment may: Prefect knows its flow run by our idempotency key."""
    return hook.repeatable or hook.kind is HookKind.DEPLOYMENT


def _call_hook(run_context: RunContext, hook: Hook, subject: str, call: HookCall, deadline: Deadline) -> HookResult:
    """Run a hook. Every error in it becomes its result."""
    began = run_context.clock.now()
    try:
        if obstacle := _explain_no_hook_start(run_context, hook, deadline):
            raise WindowClosed(obstacle)
        result = call(hook, subject, deadline)
    except FleetpatchError as error:
        failed = error.message
    except Exception as error:  # an error in a hook must have no more effect than its mode says
        logger.exception("hook %s for %s failed unexpectedly", hook.name, subject)
        failed = f"{type(error).__name__}: {error}"
    else:
        return replace(result, hook=redact_hook(hook), message=_redact_message(hook, result.message))
    return HookResult(
        redact_hook(hook),
        subject,
        succeeded=False,
        message=_redact_message(hook, failed),
        started_at=began,
        ended_at=run_context.clock.now(),
    )


def _explain_no_hook_start(run_context: RunContext, hook: Hook, deadline: Deadline) -> str:
    """Return why a hook does not begin, or "". Writing the journal entry may have taken long."""
    if hook.place in BEFORE_PLACES and run_context.stop_token.is_stopping:
        return f"not begun: the run was asked to stop: {run_context.stop_token.reason}"
    return "not begun: no time was left for it" if deadline.has_passed(run_context.clock) else ""


def _redact_message(hook: Hook, message: str) -> str:
    """Return a message without the secrets of a URL, cut to the length that is kept."""
    return (redact_url_secrets(message, hook.target) if hook.kind is HookKind.HTTP else message)[
        -MAX_OUTPUT_CHARACTERS:
    ]


def _append_journal_entry(
    run_context: RunContext, hook: Hook, machine: str, mark: JournalMark, key: str, detail: dict[str, object]
) -> None:
    step = Step.PRECHECK if hook.place in BEFORE_PLACES else Step.REPORT
    run_context.records.append_entry(
        JournalEntry(run_context.run.id, machine, step, mark, HOOK_ACT, key, run_context.clock.now(), detail)
    )


def parse_recorded_result(entry: JournalEntry, hook: Hook, subject: str) -> HookResult:
    """Return the result of a hook that the journal has. Pure. Raise RecordsError if the entry is not valid."""
    try:
        end_detail = _get_end_adapter().validate_python(entry.detail, strict=False)
    except ValidationError as error:
        raise RecordsError(
            f"the journal of run {entry.run_id} can't be understood at hook {entry.key}: {error}",
            hint="It was written by another version; finish the run with that one.",
        ) from error
    return HookResult(
        redact_hook(hook), subject, end_detail.succeeded, end_detail.message, end_detail.started_at, end_detail.ended_at
    )


def find_recorded_results(
    hooks: Iterable[Hook], subject: str, entries: Iterable[JournalEntry]
) -> tuple[HookResult, ...]:
    """Return the results of a subject's hooks that the journal has, oldest first. Pure.

    Raises:
        RecordsError: an entry is not valid.
    """
    by_key = {build_hook_key(hook, subject): hook for hook in hooks}
    ended = (e for e in entries if e.act == HOOK_ACT and e.mark is JournalMark.AFTER and e.key in by_key)
    return tuple(parse_recorded_result(entry, by_key[entry.key], subject) for entry in ended)


def restore_hook_results(
    machine_state: MachineState, hooks: Iterable[Hook], entries: tuple[JournalEntry, ...]
) -> MachineState:
    """Return a machine's state with the hook results of its journal. Pure.

    Raises:
        RecordsError: an entry is not valid.
    """
    before_hooks_ran = any(
        entry.mark is JournalMark.BEFORE and entry.act in ACTS_AFTER_BEFORE_HOOKS for entry in entries
    )
    hooks, name = tuple(hooks), machine_state.machine.name
    results = find_recorded_results(hooks, name, entries)
    hook_keys = {build_hook_key(hook, name) for hook in hooks}
    findings = (*machine_state.findings, *find_forgotten_drains(hook_keys, entries))
    return replace(machine_state, before_hooks_ran=before_hooks_ran, hooks=results, findings=findings)


def run_before_hooks(context: MachineContext) -> bool:
    """Run the hooks before a machine, if they have not run yet. Return whether the machine may be changed.

    Call it just before the first change of the machine. If the machine may not be changed, it is halted: as Failed when
    a hook that must succeed has failed, as NotStarted when a stop was requested or the window is over.
    """
    if not context.has_hooks:
        return True
    if not context.state.before_hooks_ran and (reason := context.explain_no_first_change()):
        return _halt_machine(context, reason, OperationState.NOT_STARTED)
    ran = False
    for hook in _find_hooks(context, HookPoint.BEFORE_MACHINE):
        result = _find_hook_result(context, hook)
        if result is None:
            if reason := explain_no_start(context):
                return _halt_machine(context, reason, OperationState.NOT_STARTED)
            context.state = replace(context.state, before_hooks_ran=True)
            result, ran = _run_machine_hook(context, hook, find_machine_cut_off(context)), True
        if is_blocking_failure(result):
            return _halt_after_failed_hook(context, result, fresh=ran)
    context.state = replace(context.state, before_hooks_ran=True)
    if ran and (reason := explain_no_start(context)):
        return _halt_machine(context, f"after its hooks: {reason}", OperationState.NOT_STARTED)
    return True


def _halt_after_failed_hook(context: MachineContext, result: HookResult, *, fresh: bool) -> bool:
    """Halt a machine whose hook failed: NotStarted if a stop or the end of the window cut it short, else Failed."""
    cut = result.ended_at >= find_machine_cut_off(context) and explain_no_time_left(context)
    blameless = (explain_stop_request(context) or cut) if fresh else ""
    if blameless:
        return _halt_machine(context, f"{blameless}; {describe_blocking_failure(result)}", OperationState.NOT_STARTED)
    return _halt_machine(context, describe_blocking_failure(result), OperationState.FAILED)


def _halt_machine(context: MachineContext, reason: str, state: OperationState) -> bool:
    context.state = replace(context.state, halted=reason, halted_as=state)
    return False


def run_after_hooks(context: MachineContext) -> None:
    """Run the hooks after a machine, if the hooks before it have run. Raises nothing.

    The result of the machine does not matter. If another process has taken the run over, that process runs them.
    """
    stop_token = context.stop_token
    if not context.state.before_hooks_ran or stop_token.is_lease_lost:
        return
    for hook in _find_hooks(context, HookPoint.AFTER_MACHINE):
        if _find_hook_result(context, hook) is not None:
            continue
        try:
            if hook in context.set_hooks and (reason := explain_member_left_drained(context)):
                context.add_finding(_build_left_drained_finding(context, hook, reason))
            else:
                _run_machine_hook(context, hook, None)
        except RecordsError as error:
            context.record_failed_records(error)
            return


def run_undrains(context: MachineContext) -> str:
    """Run the undrain actions of a machine's sets that this run has not run yet. Return which failed and why, or "".

    For a machine that an earlier run left drained, and on which this run has nothing else to do.

    Raises:
        RecordsError: the journal can't be written.
    """
    undrains = [hook for hook in context.set_hooks if hook.place is HookPoint.AFTER_MACHINE]
    for hook in undrains:
        if not _may_run_again(hook):
            reason = f"hook {hook.name} is not marked as repeatable, and the earlier run may have run it"
            context.add_finding(_build_left_drained_finding(context, hook, reason))
            return reason
    for hook in undrains:
        result = _find_hook_result(context, hook) or _run_machine_hook(context, hook, None)
        if is_blocking_failure(result):
            return f"hook {hook.name} failed: {result.message}"
    return ""


def _build_left_drained_finding(context: MachineContext, hook: Hook, reason: str) -> Finding:
    hook_text = f"{hook.kind} {redact_hook(hook).target}"
    release = f"fleetpatch sets release {context.name}"
    remedy = (
        f"Look at {context.name}. When it is healthy, bring it back into its set ({hook_text}), and say `{release}`."
    )
    return Finding(hook.name, FindingLevel.WARN, f"not run, so the machine stays out of service: {reason}", remedy)


def _find_hooks(context: MachineContext, point: HookPoint) -> list[Hook]:
    """Return the hooks at a point. Those of the machine's sets come first before it, and last after it."""
    own = [hook for hook in context.options.hooks if hook.place is point]
    of_sets = [hook for hook in context.set_hooks if hook.place is point]
    return [*of_sets, *own] if point is HookPoint.BEFORE_MACHINE else [*own, *of_sets]


def _find_hook_result(context: MachineContext, hook: Hook) -> HookResult | None:
    return next((r for r in context.state.hooks if (r.hook.place, r.hook.name) == (hook.place, hook.name)), None)


def _run_machine_hook(context: MachineContext, hook: Hook, until: datetime | None) -> HookResult:
    # People see it in the installation, where it runs. The journal has it under the pre-check: nothing is changed yet.
    step = Step.INSTALL if hook.place in BEFORE_PLACES else Step.REPORT
    context.report_progress(step, f"hook {hook.name}")

    def call_machine_hook(hook: Hook, subject: str, deadline: Deadline) -> HookResult:
        if hook.kind is HookKind.MACHINE_COMMAND:
            return _run_command_on_machine(context, hook, deadline)
        return context.run_context.call_hook(hook, subject, deadline)

    result = run_hook_once(context.run_context, hook, context.name, call_machine_hook, until)
    context.state = replace(context.state, hooks=(*context.state.hooks, result))
    return result


def _run_command_on_machine(context: MachineContext, hook: Hook, deadline: Deadline) -> HookResult:
    """Run a hook's command on the machine, which ends a command that exceeds its timeout."""
    clock = context.clock
    began = clock.now()
    seconds = max(1, math.floor(deadline.remaining_seconds(clock)))
    parameters = {
        "command": hook.target,
        "timeout": str(seconds),
        "run": context.run.id,
        "machine": context.name,
        "place": hook.place.value,
        "name": hook.name,
        "state": build_outcome(context).state.value if hook.place is HookPoint.AFTER_MACHINE else "",
    }
    answer_deadline = Deadline(deadline.expires_at + timedelta(seconds=COMMAND_GRACE_SECONDS))
    answer = context.transport.run_script(
        context.build_shared_script("hook", parameters, read_only=False), deadline=answer_deadline
    ).find_records("hook")
    code = answer[0].get("exit_code") if answer else None
    text = str(answer[0].get("text", "")).strip() if answer else ""
    late = bool(answer) and answer[0].get("timed_out") is True
    message = _describe_exit(code, text, seconds if late else None) if answer else "the machine gave no answer"
    return HookResult(hook, context.name, code == 0, message, began, clock.now())


def _describe_exit(code: object, text: str, seconds: float | None) -> str:
    tail = text[-MAX_OUTPUT_CHARACTERS:]
    if code == 0:
        return tail
    how = f"it was ended after {seconds:.0f} s" if seconds is not None else f"exit code {code}"
    return f"{how}: {tail}" if tail else how
