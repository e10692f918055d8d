"""Powers a machine off again that this run has powered on for its turn.

Anything that is in doubt keeps the machine on: a failure, a reboot, a person who is logged in, another run. The report
says why.
"""

import logging
from dataclasses import replace
from datetime import datetime

from inventory.machine import WakeSettings
from tasks.domain.errors import (
    ConnectionLost,
    DeadlineExceeded,
    FleetpatchError,
    RecordsError,
    TransportError,
    Unreachable,
)
from tasks.domain.model import ErrorInfo
from tasks.domain.protocols.clock import Deadline
from tasks.domain.states import HookPoint, OperationState, Step
from tasks.rules.runs.power import POWER_OFF_ACT, PowerCycle, find_reason_to_stay_on
from tasks.steps.context import journal
from tasks.steps.context.machine_context import MachineContext
from tasks.steps.machine.facts import read_facts
from tasks.steps.machine.power import PowerAnswer, check_power_off, order_power_off
from tasks.steps.machine.reboot_watch import pause_between_polls
from tasks.steps.machine.retry import is_transient
from tasks.steps.report import build_outcome
from tasks.steps.wake import run_power_command

logger = logging.getLogger(__name__)

OFF_HOOK_NAME = "power-off"
COMMAND_TIMEOUT_SECONDS = 300.0
LOGIN_TIMEOUT_SECONDS = 20.0
POLL_SECONDS = 2.0
OBSTACLE_SECONDS = 120.0
"""How long to wait for what usually passes by itself: the end of a job of this run holds its inhibitor for a moment."""
_PASSING_OBSTACLES = frozenset({"job", "lock", "packages", "inhibitor"})
SILENT_SECONDS = 10.0
"""How long a machine must not answer, until it counts as off: one lost connection proves nothing."""


def power_off_again(context: MachineContext) -> None:
    """Power the machine off, if this run has powered it on and nothing is against it. Raises nothing.

    If another process has taken the run over, that process does it. A suspended run leaves a machine on that it left
    open: the process that resumes the run needs it.
    """
    cycle, wake = context.state.power, context.state.machine.wake
    if cycle is None or wake is None or not cycle.was_off or cycle.note:
        return
    if context.stop_token.is_lease_lost or _is_left_open(context):
        return
    try:
        note, needs_attention = _power_off(context, cycle, wake)
        context.state = replace(
            context.state, power=replace(cycle, off_began=True, note=note, needs_attention=needs_attention)
        )
        detail: dict[str, object] = {"note": note, "needs_attention": needs_attention}
        journal.record_end(context, Step.REPORT, POWER_OFF_ACT, context.name, detail)
    except RecordsError as error:
        context.stop_token.request_stop(f"the records failed: {error.message}")
        info = ErrorInfo.from_error(error)
        context.state = replace(context.state, error=context.state.error or info)


def _is_left_open(context: MachineContext) -> bool:
    state = context.state
    held = bool(state.halted) and state.halted_as is OperationState.NOT_STARTED
    return context.stop_token.is_suspended and held


def _power_off(context: MachineContext, cycle: PowerCycle, wake: WakeSettings) -> tuple[str, bool]:
    """Return what became of it, for the report, and whether a person should look at it."""
    if cycle.off_began:
        if _wait_for_silence(context, context.clock.now()):
            return "powered off again", False  # an earlier process of this run has ordered it
        return _order_and_watch(context, wake)
    if not wake.off_again:
        return "it stays on, as its inventory entry says", False
    if context.is_set_member:
        return "it stays on: members of its set that are off count as out of service", False
    if reason := find_reason_to_stay_on(build_outcome(context), context.state.hooks):
        return f"it stays on: {reason}", False  # what failed is told already
    halt: dict[str, object] = {"halted": context.state.halted, "halted_as": context.state.halted_as.value}
    journal.record_start(context, Step.REPORT, POWER_OFF_ACT, context.name, halt)
    return _order_and_watch(context, wake)


def _order_and_watch(context: MachineContext, wake: WakeSettings) -> tuple[str, bool]:
    began = context.clock.now()
    _report_progress(context, "powering it off again")
    try:
        refusal, is_wanted = _order(context, wake)
    except FleetpatchError as error:
        return f"it could not be powered off: {error.message}", True
    if refusal:
        return f"it stays on: {refusal}", not is_wanted
    waited = Deadline.after(context.clock, context.going_down_seconds).expires_at
    if _wait_for_silence(context, waited):
        seconds = (context.clock.now() - began).total_seconds()
        return f"powered off again in {seconds:.0f} s", False
    return f"it was powered off again, and still answers {(waited - began).total_seconds():.0f} s later", True


def _order(context: MachineContext, wake: WakeSettings) -> tuple[str, bool]:
    """Order it. Return why not, or "", and whether people or another run want the machine to stay on."""
    clock = context.clock
    answer, deadline = _ask(context, wake), Deadline.after(clock, OBSTACLE_SECONDS)
    while answer.refusal_kind in _PASSING_OBSTACLES and not deadline.has_passed(clock):
        clock.sleep(POLL_SECONDS)
        answer = _ask(context, wake)
    if answer.refusal:
        return answer.refusal, answer.refusal_kind in {"people", "claim"}
    if not wake.off_command:
        return "", False
    deadline = Deadline.after(clock, COMMAND_TIMEOUT_SECONDS)
    succeeded, message = run_power_command(context, OFF_HOOK_NAME, HookPoint.AFTER_MACHINE, wake.off_command, deadline)
    return ("" if succeeded else message), False


def _ask(context: MachineContext, wake: WakeSettings) -> PowerAnswer:
    """Ask whether it may be powered off, or order it if the machine does that itself.

    A connection that breaks proves nothing: the machine may have the order, so it is watched.
    """
    try:
        return check_power_off(context) if wake.off_command else order_power_off(context)
    except TransportError as error:
        if wake.off_command or not is_transient(error):
            raise
        return PowerAnswer()
    finally:
        context.transport.close()


def _wait_for_silence(context: MachineContext, until: datetime) -> bool:
    """Return whether the machine answers nothing any more, for some seconds. Wait for that until the given time."""
    clock = context.clock
    began, silent_since = clock.now(), None
    while True:
        asked_at = clock.now()
        if _answers(context):
            silent_since = None
            if clock.now() >= until:
                return False
        else:
            silent_since = silent_since or asked_at
            if (clock.now() - silent_since).total_seconds() >= SILENT_SECONDS:
                return True
        since = silent_since or began
        pause_between_polls(context, (clock.now() - since).total_seconds(), (until - since).total_seconds())


def _answers(context: MachineContext) -> bool:
    clock = context.clock
    try:
        read_facts(context.transport, clock, Deadline.after(clock, LOGIN_TIMEOUT_SECONDS), context.known_facts)
    except (Unreachable, ConnectionLost, DeadlineExceeded):
        return False
    except FleetpatchError as error:
        logger.info("%s: it still answers: %s", context.name, error.message)
    finally:
        context.transport.close()
    return True


def _report_progress(context: MachineContext, message: str) -> None:
    context.listener.on_progress(context.name, Step.REPORT, None, message)
