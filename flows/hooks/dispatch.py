"""Run hooks that are not commands on a machine, by their kind. Python functions are called here."""

import importlib
import logging
from collections.abc import Callable

from flows.engine.retrying_records import build_retrying_appender
from flows.hooks.command import find_module_problem, run_command_hook
from flows.hooks.event import HookEvent, build_hook_event
from flows.hooks.hook_deadline import HookDeadline, run_in_thread
from flows.hooks.http_call import run_http_hook
from flows.ports.audit import AuditAppender, append_nowhere, record_act
from flows.ports.caller import read_os_actor
from flows.ports.ports import HookCaller
from tasks.domain.errors import RecordsError, RequestError
from tasks.domain.model import Hook, HookResult, RunReport
from tasks.domain.protocols.clock import Clock, Deadline
from tasks.domain.rows.audit import AuditResult
from tasks.domain.states import HookKind
from tasks.rules.runs.hooks import BEFORE_PLACES
from tasks.steps.context.run_control import StopToken
from tasks.steps.hooks import redact_hook

logger = logging.getLogger(__name__)

StopRequestRecorder = Callable[[str, str, str], object]
"""Records a stop request: the run's id, who requests it, and why. Raises RecordsError."""


def build_hook_dispatcher(
    clock: Clock,
    stop_token: StopToken,
    record_stop_request: StopRequestRecorder,
    append_audit: AuditAppender = append_nowhere,
) -> HookCaller:
    """Return the function that runs hooks.

    Args:
        clock: the clock.
        stop_token: the run's stop token; a hook before something is aborted if the run is asked to stop.
        record_stop_request: called if an answer cancels the run, so that a process that resumes the run stops too.
        append_audit: stores that a hook begins and how it ends. A hook that can't be recorded does not begin.
    """

    def dispatch_recorded(hook: Hook, report: RunReport, subject: str, deadline: Deadline) -> HookResult:
        append = build_retrying_appender(append_audit, clock, deadline.expires_at)
        redacted_hook = redact_hook(hook)
        detail = f"{hook.name} ({hook.place}, {subject}): {hook.kind} {redacted_hook.target}"
        with record_act(append, read_os_actor(), clock, "hook", report.run.id, detail) as act:
            result = dispatch_hook(hook, report, subject, deadline)
            act.message = result.message
            if not result.succeeded:
                act.result = AuditResult.FAILED
            return result

    def dispatch_hook(hook: Hook, report: RunReport, subject: str, deadline: Deadline) -> HookResult:
        began = clock.now()
        event = build_hook_event(hook, report, subject, deadline, began)
        observed_stop_token = stop_token if hook.place in BEFORE_PLACES else None
        hook_deadline = HookDeadline(deadline, clock, observed_stop_token, deadline.remaining_seconds(clock))
        match hook.kind:
            case HookKind.CONTROLLER_COMMAND:
                succeeded, message = run_command_hook(hook, event, hook_deadline)
            case HookKind.HTTP:
                succeeded, message, reason = run_http_hook(hook, event, hook_deadline)
                if reason:
                    message = f"it cancelled the run: {reason}"
                    stop_token.request_stop(f"{reason} (hook {hook.name})")
                    _try_record_stop_request(report.run.id, hook, reason, record_stop_request)
            case HookKind.PYTHON:
                succeeded, message = _run_function_hook(hook, event, hook_deadline)
            case HookKind.DEPLOYMENT:
                from flows.hooks.deployment import run_deployment_hook  # noqa: PLC0415 - loading Prefect takes a second

                succeeded, message = run_deployment_hook(hook, event, hook_deadline)
            case HookKind.MACHINE_COMMAND:
                raise RequestError(f"hook {hook.name!r} is a command on a machine, and has no machine here")
        return HookResult(hook, subject, succeeded, message, began, clock.now())

    return dispatch_recorded


def _try_record_stop_request(run_id: str, hook: Hook, reason: str, record_stop_request: StopRequestRecorder) -> None:
    try:
        record_stop_request(run_id, f"hook {hook.name}", reason)
    except RecordsError as error:
        logger.warning("that hook %s cancelled run %s is not in the records: %s", hook.name, run_id, error.message)


def _run_function_hook(hook: Hook, event: HookEvent, hook_deadline: HookDeadline) -> tuple[bool, str]:
    """Call a function with ``event=`` in a thread. Return whether it succeeded, and the text that it returned, if any.

    It succeeds if it neither raises nor returns False.

    A thread can't be killed. A function that takes too long counts as failed, and runs on until the process ends.

    Raises:
        HookWaitAborted: it took too long.
    """
    module, _, name = hook.target.partition(":")
    if problem := find_module_problem(module):
        return False, problem
    try:
        returned = run_in_thread(lambda: getattr(importlib.import_module(module), name)(event=event), hook_deadline)
    except (ImportError, AttributeError) as error:
        return False, f"{hook.target} can't be called: {error}"
    return returned is not False, returned if isinstance(returned, str) else ""
