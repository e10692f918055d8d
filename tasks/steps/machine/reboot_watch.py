"""Sends the reboot order to a machine, and watches the machine go down and come back."""

from collections.abc import Callable
from dataclasses import replace
from datetime import datetime
from typing import NamedTuple

from tasks.errors import (
    AuthenticationFailed,
    DeadlineExceeded,
    FleetpatchError,
    PrivilegeError,
    ProtocolViolation,
    ScriptFailed,
    TransportError,
)
from tasks.model import RebootResult
from tasks.protocols.clock import Deadline
from tasks.protocols.transport import Script, ScriptRecord
from tasks.states import RebootState, Step
from tasks.steps.context.machine_context import MachineContext
from tasks.steps.machine.facts import read_facts
from tasks.steps.machine.reboot_obstacles import read_reboot_readiness
from tasks.steps.machine.retry import is_transient

ORDER_TIMEOUT_SECONDS = 60.0  # sending the order, including a reconnection


LOGIN_TIMEOUT_SECONDS = 20.0  # one login attempt


POLL_SECONDS = 1.0


_BOOTING_ERRORS = (AuthenticationFailed, DeadlineExceeded, PrivilegeError, ProtocolViolation, ScriptFailed)


# after a refused login: a booting machine refuses all logins, and accounts could be locked
LOGIN_REFUSED_PAUSE_SECONDS = 10.0


def send_reboot_order(context: MachineContext, order: Script) -> ScriptRecord | None:
    """Send the order once. Return the machine's refusal, or None. A refused reboot was not ordered.

    The machine refuses if another run or a later attempt has its lock, if it has no lock, and if its boot id is not the
    expected one. The last case is no refusal here: the reboot of an earlier order is done. A broken connection or a
    late answer proves nothing: the machine may execute the order, so the caller watches it.
    """
    boot_id = order.params["expected_boot_id"]
    try:
        answer = context.transport.run_script(
            order, deadline=Deadline.after(context.run_context.clock, ORDER_TIMEOUT_SECONDS)
        )
    except TransportError as error:
        if not is_transient(error):
            raise
        return None
    finally:
        context.transport.close()
    refusals = [record for record in answer.find_records("refused") if record.get("boot_id") in (boot_id, "")]
    return refusals[0] if refusals else None


def watch_reboot(
    context: MachineContext, result: RebootResult, ordered_at: datetime
) -> tuple[RebootResult, ScriptRecord | None]:
    """Watch the machine go down and come back. Return the result, and why it abandoned the order, if it did."""
    seconds = context.run_context.options.going_down_seconds
    given_up: list[ScriptRecord] = []

    def has_gone_down(boot_id: str | None) -> bool:
        given_up.extend(_read_given_up_order(context) if boot_id == result.boot_id_before else ())
        return boot_id != result.boot_id_before or bool(given_up)

    last_poll = poll_boot_id(context, seconds, has_gone_down, "going down")
    if given_up:
        return result, given_up[0]
    if last_poll is None:
        reason = f"{result.reason}; it did not go down in {seconds:.0f} s"
        return replace(result, state=RebootState.FAILED, reason=reason), None
    down_at = last_poll.began_at  # it may take a long time until it is known that there is no answer
    return _wait_until_back(
        context, replace(result, down_seconds=(down_at - ordered_at).total_seconds()), down_at
    ), None


def _read_given_up_order(context: MachineContext) -> tuple[ScriptRecord, ...]:
    """Return why a machine that is still up abandoned its order, or nothing if it may be going down."""
    try:
        readiness = read_reboot_readiness(context)
    except FleetpatchError as error:
        context.transport.close()
        if is_still_booting(error):
            return ()
        raise
    return ({"why": readiness.given_up_reason, "about": readiness.given_up_kind},) if readiness.given_up_reason else ()


def _wait_until_back(context: MachineContext, result: RebootResult, down_at: datetime) -> RebootResult:
    limit = context.state.machine.limits.reboot_timeout_minutes
    seconds = context.run_context.options.coming_up_seconds if limit is None else limit * 60
    seen: list[str] = []

    def is_back(boot_id: str | None) -> bool:
        seen.extend([boot_id] if boot_id is not None else [])
        return boot_id not in {None, result.boot_id_before}

    last_poll = poll_boot_id(context, seconds, is_back, "coming up")
    if last_poll is None:
        how = "it answers, and is still in the boot that it was in" if seen else "it did not come back"
        return replace(result, state=RebootState.FAILED, reason=f"{result.reason}; {how} after {seconds:.0f} s")
    return replace(
        result,
        state=RebootState.COMPLETED,
        boot_id_after=seen[-1],
        up_seconds=(last_poll.ended_at - down_at).total_seconds(),
    )


class Poll(NamedTuple):
    """When the boot id was asked for, and when there was an answer, or none was awaited any longer."""

    began_at: datetime
    ended_at: datetime


def poll_boot_id(
    context: MachineContext, seconds: float, condition: Callable[[str | None], bool], doing: str
) -> Poll | None:
    """Poll the boot id (None: no answer) until the condition is true. Return the last poll, or None at the deadline."""
    clock = context.run_context.clock
    deadline = Deadline.after(clock, seconds)
    while True:
        began_at = clock.now()
        if condition(read_boot_id(context)):
            return Poll(began_at, clock.now())
        if deadline.has_passed(clock):
            return None
        report_reboot_progress(context, f"{doing}: {max(0.0, deadline.remaining_seconds(clock)):.0f} s left")
        clock.sleep(POLL_SECONDS)


def read_boot_id(context: MachineContext) -> str | None:
    """Return the boot id, or None if no login works.

    A wrong host key, or another machine that answers, is raised: it does not prove a boot.
    """
    clock = context.run_context.clock
    try:
        deadline = Deadline.after(clock, LOGIN_TIMEOUT_SECONDS)
        return read_facts(context.transport, clock, deadline, context.known_facts).boot_id
    except FleetpatchError as error:
        context.transport.close()
        if is_still_booting(error):
            if isinstance(error, AuthenticationFailed):
                clock.sleep(LOGIN_REFUSED_PAUSE_SECONDS)
            return None
        raise


def is_still_booting(error: FleetpatchError) -> bool:
    """Return whether an error may come from a machine that goes down or boots.

    Logins are refused for a short time in both cases, and scripts break off.
    """
    return error.transient or isinstance(error, _BOOTING_ERRORS)


def report_reboot_progress(context: MachineContext, message: str) -> None:
    """Report the progress of the reboot step."""
    context.run_context.listener.on_progress(context.name, Step.REBOOT, None, message)
