"""How each kind of hook is run that is no command on a machine."""

import logging
from collections.abc import Callable

from flows.hooks.command import run_command
from flows.hooks.deployment import run_deployment
from flows.hooks.event import event_of
from flows.hooks.function import call_function
from flows.hooks.patience import Patience
from flows.hooks.web import post
from flows.ports import CallHook
from tasks.errors import RecordsError, RequestError
from tasks.model import Hook, HookResult, RunReport
from tasks.rules.hooks import BEFORE
from tasks.seams.clock import Clock, Deadline
from tasks.states import HookKind
from tasks.steps.context import Control

logger = logging.getLogger(__name__)

AskToStop = Callable[[str, str, str], object]
"""Stores that a run is to stop: its id, who wants it, and why. Raises RecordsError."""


def hook_caller(clock: Clock, control: Control, ask_to_stop: AskToStop) -> CallHook:
    """Return what runs hooks.

    Args:
        clock: tells the time.
        control: of the run; a hook before something is given up once the run is asked to stop.
        ask_to_stop: called when an answer cancels the run, so that whoever takes it up stops too.
    """

    def call(hook: Hook, report: RunReport, subject: str, deadline: Deadline) -> HookResult:
        began = clock.now()
        event = event_of(hook, report, subject, deadline, began)
        heeds = control if hook.place in BEFORE else None
        patience = Patience(deadline, clock, heeds, deadline.remaining(clock))
        match hook.kind:
            case HookKind.CONTROLLER_COMMAND:
                succeeded, message = run_command(hook, event, patience)
            case HookKind.HTTP:
                succeeded, message, reason = post(hook, event, patience)
                if reason:
                    message = f"it cancelled the run: {reason}"
                    control.stop(f"{reason} (hook {hook.name})")
                    _stored(report.run.id, hook, reason, ask_to_stop)
            case HookKind.PYTHON:
                succeeded, message = call_function(hook, event, patience)
            case HookKind.DEPLOYMENT:
                succeeded, message = run_deployment(hook, event, patience)
            case HookKind.MACHINE_COMMAND:
                raise RequestError(f"hook {hook.name!r} is a command on a machine, and has no machine here")
        return HookResult(hook, subject, succeeded, message, began, clock.now())

    return call


def _stored(run_id: str, hook: Hook, reason: str, ask_to_stop: AskToStop) -> None:
    try:
        ask_to_stop(run_id, f"hook {hook.name}", reason)
    except RecordsError as error:
        logger.warning("that hook %s cancelled run %s is not in the records: %s", hook.name, run_id, error.message)
