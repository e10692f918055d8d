"""Powers a machine on that does not answer in its open window, and waits until a login works.

The journal has the order before it is given. A resumed run finds it there, and knows that the machine may be on only
because of this run.
"""

import logging
from dataclasses import replace
from datetime import datetime, timedelta

from inventory.machine import WakeSettings
from tasks.domain.errors import FleetpatchError, RecordsError, Unreachable
from tasks.domain.model import ErrorInfo, Hook
from tasks.domain.protocols.clock import Deadline
from tasks.domain.states import HookKind, HookPoint, Step
from tasks.rules.calendar.time_format import format_duration
from tasks.rules.runs.power import POWER_ON_ACT, PowerCycle, has_booted_since
from tasks.steps.context import journal
from tasks.steps.context.machine_context import MachineContext
from tasks.steps.machine.power import read_power
from tasks.steps.machine.reboot_watch import read_boot_id
from tasks.steps.start_checks import check_stop_requested, find_machine_cut_off

logger = logging.getLogger(__name__)

POLL_SECONDS = 2.0
WAKE_HOOK_NAME = "wake"
MAX_OUTPUT_CHARACTERS = 500
SHORTEST_USE_SECONDS = 60.0
"""How long before its cut-off a machine is powered on at the latest: after that, nothing could begin on it."""


def can_wake(context: MachineContext) -> bool:
    """Return whether this run may power the machine on: it changes machines, and the inventory says how."""
    wake = context.state.machine.wake
    if wake is None or not (wake.mac or wake.command):
        return False
    return context.run.kind == "patch" and not context.options.download_only


def is_wake_due(context: MachineContext) -> bool:
    """Return whether the machine does not answer at all, and this run may power it on."""
    error = context.state.error
    return can_wake(context) and error is not None and error.is_a(Unreachable)


def wake_machine(context: MachineContext) -> bool:
    """Power the machine on, and wait until a login works. Return whether one does.

    If none does, the machine's error says what was tried. It waits as long as the inventory says, and never past the
    time at which the machine could still begin.

    Raises:
        RecordsError: the order could not be recorded, and was not given.
    """
    wake, clock = context.state.machine.wake, context.clock
    assert wake is not None  # noqa: S101 - for the type checker; can_wake has asked
    ends_at = min(clock.now() + timedelta(minutes=wake.minutes), _find_latest_use(context))
    if ends_at <= clock.now():
        return _fail(context, "it was not powered on: no time was left for it in the window")
    if reason := check_stop_requested(context):
        return _fail(context, f"it was not powered on: {reason}")
    ordered_at = clock.now()
    journal.record_start(context, Step.ASSESS, POWER_ON_ACT, context.name)
    context.state = replace(context.state, power=PowerCycle(ordered_at))
    _report_progress(context, "powering it on")
    how = _order_power_on(context, wake, Deadline(ends_at))
    try:
        answers = _wait_for_login(context, ends_at)
    except FleetpatchError as error:  # a wrong host key, for example: it answers, and must not be trusted
        context.state = replace(context.state, error=ErrorInfo.from_error(error))
        return False
    if not answers:
        reason = check_stop_requested(context)
        waited = f"no login worked in {format_duration((clock.now() - ordered_at).total_seconds())}"
        return _fail(context, f"{how}; {reason or waited}")
    judge_wake(context, how)
    return True


def judge_wake(context: MachineContext, how: str = "") -> None:
    """Record whether a machine that answers now was powered on by this run. Do nothing if that is known already.

    Raises:
        RecordsError: it could not be recorded.
    """
    cycle, clock = context.state.power, context.clock
    if cycle is None or cycle.seconds is not None:
        return
    try:
        up_seconds = read_power(context).up_seconds
    except FleetpatchError as error:
        logger.info("%s: how long it has run is not known: %s", context.name, error.message)
        up_seconds = None
    was_off = has_booted_since(cycle, up_seconds, clock.now())
    note = "" if was_off else _describe_other_cause(up_seconds)
    seconds = (clock.now() - cycle.ordered_at).total_seconds()
    context.state = replace(context.state, power=replace(cycle, seconds=seconds, was_off=was_off, note=note))
    detail: dict[str, object] = {"seconds": seconds, "was_off": was_off, "note": note, "how": how}
    journal.record_end(context, Step.ASSESS, POWER_ON_ACT, context.name, detail)


def _describe_other_cause(up_seconds: float | None) -> str:
    if up_seconds is None:
        return "it does not say how long it has run, so it stays on"
    return f"it was on already, for {format_duration(up_seconds)}, so it stays on"


def _find_latest_use(context: MachineContext) -> datetime:
    return find_machine_cut_off(context) - timedelta(seconds=SHORTEST_USE_SECONDS)


def _order_power_on(context: MachineContext, wake: WakeSettings, deadline: Deadline) -> str:
    """Give the orders that the inventory has. Return what was done, without the command: it may have secrets."""
    done: list[str] = []
    if wake.mac:
        where = f"{wake.broadcast}:{wake.port}"
        try:
            context.run_context.send_magic_packet(wake.mac, wake.broadcast, wake.port)
            done.append(f"Wake-on-LAN was sent for {wake.mac} to {where}")
        except FleetpatchError as error:
            done.append(f"Wake-on-LAN failed: {error.message}")
    if wake.command:
        done.append(run_power_command(context, WAKE_HOOK_NAME, HookPoint.BEFORE_MACHINE, wake.command, deadline)[1])
    return "; ".join(done)


def run_power_command(
    context: MachineContext, name: str, place: HookPoint, command: str, deadline: Deadline
) -> tuple[bool, str]:
    """Run a command on the controller, as hooks run there. Return whether it succeeded, and words for the report.

    Raises:
        RecordsError: the records failed.
    """
    seconds = max(0.0, deadline.remaining_seconds(context.clock))
    hook = Hook(name, place, HookKind.CONTROLLER_COMMAND, command, timeout_seconds=seconds, repeatable=True)
    try:
        result = context.run_context.call_hook(hook, context.name, deadline)
    except RecordsError:
        raise
    except Exception as error:  # as with hooks: an error in it must only have its own effect
        logger.exception("%s: the command %s failed unexpectedly", context.name, name)
        return False, f"the {name} command failed: {type(error).__name__}: {error}"
    output = result.message[-MAX_OUTPUT_CHARACTERS:]
    message = f"the {name} command {'succeeded' if result.succeeded else 'failed'}"
    return result.succeeded, f"{message}: {output}" if output else message


def _wait_for_login(context: MachineContext, ends_at: datetime) -> bool:
    clock = context.clock
    while True:
        if read_boot_id(context) is not None:
            return True
        left = (ends_at - clock.now()).total_seconds()
        if left <= 0 or check_stop_requested(context):
            return False
        _report_progress(context, f"powered on, waiting for a login: {left:.0f} s left")
        clock.sleep(min(POLL_SECONDS, left))


def _fail(context: MachineContext, tried: str) -> bool:
    """Add to the machine's error what was tried. Return False."""
    error = context.state.error
    if error is not None:
        context.state = replace(context.state, error=replace(error, message=f"{error.message}; {tried}"))
    return False


def _report_progress(context: MachineContext, message: str) -> None:
    context.listener.on_progress(context.name, Step.ASSESS, None, message)
