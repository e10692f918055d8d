"""Powers a machine on that does not answer in its open window, and off again after its turn.

The journal has each order before it is given. A resumed run finds it there, and knows that the machine may be on only
because of this run. Anything that is in doubt keeps the machine on: a failure, a reboot, a person who is logged in,
another run. The report says why.
"""

import logging
from dataclasses import replace
from datetime import datetime, timedelta
from typing import Literal

from inventory.data_class import dataclass
from inventory.machine import WakeSettings
from tasks.domain.errors import (
    ConnectionLost,
    DeadlineExceeded,
    FleetpatchError,
    ProtocolViolation,
    RecordsError,
    TransportError,
    Unreachable,
)
from tasks.domain.model import ErrorInfo, Hook
from tasks.domain.protocols.clock import Deadline
from tasks.domain.protocols.transport import ScriptParameter
from tasks.domain.states import HookKind, HookPoint, OperationState, Step
from tasks.rules.calendar.local_time import format_duration
from tasks.rules.machine_checks.findings import describe_blocking_findings
from tasks.rules.runs.power import POWER_OFF_ACT, POWER_ON_ACT, PowerCycle, find_reason_to_stay_on, has_booted_since
from tasks.steps.context import journal
from tasks.steps.context.machine_context import MachineContext
from tasks.steps.machine.facts import read_facts
from tasks.steps.machine.machine_lock import build_lock_holder
from tasks.steps.machine.provider_orders import check_disks
from tasks.steps.machine.reboot_watch import read_boot_id
from tasks.steps.machine.retry import is_transient, pause_between_polls
from tasks.steps.outcome import build_outcome
from tasks.steps.start_checks import explain_stop_request, find_machine_cut_off

SCRIPT_TIMEOUT_SECONDS = 60.0  # one call, including a reconnection


@dataclass(frozen=True, slots=True)
class PowerAnswer:
    """The answer of a machine.

    Attributes:
        up_seconds: since it booted; None: it does not know.
        refusal: why it may not be powered off, or "".
        refusal_kind: machine_lock, job, people, lock, packages, inhibitor, or "".
    """

    up_seconds: float | None = None
    refusal: str = ""
    refusal_kind: str = ""


def ask_power(context: MachineContext, work: Literal["look", "check", "off"]) -> PowerAnswer:
    """Ask how long a machine has run ("look") and whether it may be powered off ("check"), or order that ("off").

    Only "off" changes something: the machine powers itself off, unless something is against that.

    Raises:
        TransportError: no answer; it may have received the order.
        ProtocolViolation: the answer is not valid.
    """
    parameters: dict[str, ScriptParameter] = {"work": work}
    if work != "look":
        parameters |= {"run": build_lock_holder(context), "locks": context.manager.lock_files}
    script = context.build_shared_script("power", parameters, read_only=work != "off")
    answer = context.transport.run_script(script, deadline=Deadline.after(context.clock, SCRIPT_TIMEOUT_SECONDS))
    power, refused = answer.find_records("power"), answer.find_records("refused")
    due = {"look": "power", "check": "allowed", "off": "ordered"}[work]
    if answer.exit_code or len(power) != 1 or not (refused or answer.find_records(due)):
        raise ProtocolViolation(f"power gave no answer (exit code {answer.exit_code}): {answer.unframed_output[-300:]}")
    up_seconds = power[0].get("up_seconds")
    return PowerAnswer(
        float(up_seconds) if isinstance(up_seconds, int | float) and up_seconds >= 0 else None,
        str(refused[0].get("why") or "it gave no reason") if refused else "",
        str(refused[0].get("about", "")) if refused else "",
    )


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
    obstacle = describe_blocking_findings(check_disks(context))  # first: its provider may need minutes for an answer
    latest_use = find_machine_cut_off(context) - timedelta(seconds=SHORTEST_USE_SECONDS)
    ends_at = min(clock.now() + timedelta(minutes=wake.minutes), latest_use)
    if ends_at <= clock.now():
        return _fail(context, "it was not powered on: no time was left for it in the window")
    if reason := explain_stop_request(context):
        return _fail(context, f"it was not powered on: {reason}")
    if obstacle:
        return _fail(context, f"it was not powered on: {obstacle}")
    ordered_at = clock.now()
    journal.record_start(context, Step.ASSESS, POWER_ON_ACT, context.name)
    context.state = replace(context.state, power=PowerCycle(ordered_at))
    context.report_progress(Step.ASSESS, "powering it on")
    how = _order_power_on(context, wake, Deadline(ends_at))
    try:
        answers = _wait_for_login(context, ends_at)
    except FleetpatchError as error:  # a wrong host key, for example: it answers, and must not be trusted
        context.state = replace(context.state, error=ErrorInfo.from_error(error))
        return False
    if not answers:
        reason = explain_stop_request(context)
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
        up_seconds = ask_power(context, "look").up_seconds
    except FleetpatchError as error:
        logger.info("%s: how long it has run is not known: %s", context.name, error.message)
        up_seconds = None
    was_off = has_booted_since(cycle, up_seconds, clock.now())
    note = "" if was_off else "it does not say how long it has run, so it stays on"
    if not was_off and up_seconds is not None:
        note = f"it was on already, for {format_duration(up_seconds)}, so it stays on"
    seconds = (clock.now() - cycle.ordered_at).total_seconds()
    context.state = replace(context.state, power=replace(cycle, seconds=seconds, was_off=was_off, note=note))
    detail: dict[str, object] = {"seconds": seconds, "was_off": was_off, "note": note, "how": how}
    journal.record_end(context, Step.ASSESS, POWER_ON_ACT, context.name, detail)


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
        if left <= 0 or explain_stop_request(context):
            return False
        context.report_progress(Step.ASSESS, f"powered on, waiting for a login: {left:.0f} s left")
        clock.sleep(min(POLL_SECONDS, left))


def _fail(context: MachineContext, tried: str) -> bool:
    """Add to the machine's error what was tried. Return False."""
    error = context.state.error
    if error is not None:
        context.state = replace(context.state, error=replace(error, message=f"{error.message}; {tried}"))
    return False


OFF_HOOK_NAME = "power-off"
COMMAND_TIMEOUT_SECONDS = 300.0
LOGIN_TIMEOUT_SECONDS = 20.0
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
    is_held = bool(context.state.halted) and context.state.halted_as is OperationState.NOT_STARTED
    if context.stop_token.is_lease_lost or (context.stop_token.is_suspended and is_held):
        return
    try:
        note, needs_attention = _power_off(context, cycle, wake)
        context.state = replace(
            context.state, power=replace(cycle, off_began=True, note=note, needs_attention=needs_attention)
        )
        detail: dict[str, object] = {"note": note, "needs_attention": needs_attention}
        journal.record_end(context, Step.REPORT, POWER_OFF_ACT, context.name, detail)
    except RecordsError as error:
        context.record_failed_records(error)


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
    context.report_progress(Step.REPORT, "powering it off again")
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
        return answer.refusal, answer.refusal_kind in {"people", "machine_lock"}
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
        return ask_power(context, "check" if wake.off_command else "off")
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
