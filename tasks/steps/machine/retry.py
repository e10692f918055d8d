"""Retries calls to a machine after transient errors, until a deadline, and sleeps between questions."""

import logging
from collections.abc import Callable
from typing import TypeVar

from inventory.credential_references import KEY_REFERENCES, parse_reference
from inventory.machine import TransportKind
from tasks.domain.errors import DeadlineExceeded, FleetpatchError, TransportError
from tasks.domain.protocols.clock import Deadline
from tasks.domain.retry import retry
from tasks.steps.context.machine_context import MachineContext

logger = logging.getLogger(__name__)

FIRST_PAUSE_SECONDS, LONGEST_PAUSE_SECONDS = 0.5, 10.0
STOP_CHECK_SECONDS = 1.0  # how often a pause checks whether a stop was requested
MIN_POLL_SECONDS, MAX_POLL_SECONDS = 1.0, 15.0
KNOCK_SECONDS = 0.3  # how often a silent machine is tried, which costs it nothing
PASSWORD_PAUSE_SECONDS = 5.0
"""A machine whose port opens may refuse all logins until its boot has ended. Refused passwords lock accounts."""
_POLL_SHARE = 0.1  # of the wait so far: a long wait is measured to a tenth, and costs few questions

T = TypeVar("T")


def retry_transient(
    context: MachineContext, ask: Callable[[], T], until: Deadline, *, asks_provider: bool = False
) -> T:
    """Retry a call after transient errors, until the deadline. Only for calls that may be repeated."""
    began = context.clock.now()

    def report(error: FleetpatchError) -> None:
        logger.info("%s: asking again after: %s", context.name, error.message)
        if asks_provider:
            context.report_silence(began, until.expires_at)
        elif isinstance(error, TransportError):
            context.report_silence(began)

    answer = retry(
        ask,
        FleetpatchError,
        clock=context.clock,
        deadline=until,
        wait=LONGEST_PAUSE_SECONDS,
        is_retryable=is_transient,
        on_retry=report,
    )
    context.report_answer()
    return answer


def is_transient(error: FleetpatchError) -> bool:
    """Return whether an error may pass without action. A machine that was too slow once may be faster the next time."""
    return error.transient or isinstance(error, DeadlineExceeded)


def sleep_unless_stopped(context: MachineContext, seconds: float) -> None:
    """Sleep. If a stop is requested meanwhile, return at once."""
    was_stopping = context.stop_token.is_stopping
    while seconds > 0 and context.stop_token.is_stopping is was_stopping:
        context.clock.sleep(min(STOP_CHECK_SECONDS, seconds))
        seconds -= STOP_CHECK_SECONDS


def close_before_pause(context: MachineContext, seconds: float) -> None:
    """Close the connection before a long pause, unless it is SSH: a login costs more than five idle minutes of that.

    An idle connection over WinRM holds a PowerShell on the machine.
    """
    if seconds >= LONGEST_PAUSE_SECONDS and context.state.machine.transport is not TransportKind.SSH:
        context.transport.close()


def pause_between_polls(context: MachineContext, waited: float, allowed: float) -> None:
    """Sleep before a machine is asked again: longer, the longer it was waited for."""
    context.clock.sleep(_find_pause(waited, allowed))


def pause_until_reachable(
    context: MachineContext, waited: float, allowed: float, *, is_silent: bool, was_asked: bool
) -> bool:
    """Sleep like ``pause_between_polls``. A machine that is silent is asked as soon as it accepts connections.

    Args:
        context: of the machine.
        waited: seconds so far.
        allowed: seconds in all.
        is_silent: whether the machine has not answered; it may be down.
        was_asked: whether it was asked since the last pause: it has a moment then, also if it accepts connections.

    Returns:
        Whether it is to be asked: not if it accepts no connections for the first time. One that is silent is asked from
        time to time all the same: it may be far away.
    """
    clock, machine, pause = context.clock, context.state.machine, _find_pause(waited, allowed)
    is_open = context.run_context.is_port_open(machine)
    if not is_silent or is_open is None:
        clock.sleep(pause)
        return context.run_context.is_port_open(machine) is not False
    if was_asked and is_open:  # it accepts connections, and is not ready
        clock.sleep(pause)
        return True
    until = Deadline.after(clock, max(pause, min(MAX_POLL_SECONDS, allowed - waited)))
    while not context.run_context.is_port_open(machine) and (left := until.remaining_seconds(clock)) > 0:
        clock.sleep(min(KNOCK_SECONDS, left))
    if parse_reference(machine.credential).kind not in KEY_REFERENCES:
        clock.sleep(max(0.0, min(PASSWORD_PAUSE_SECONDS, allowed - waited)))
    return True


def _find_pause(waited: float, allowed: float) -> float:
    pause = min(MAX_POLL_SECONDS, max(MIN_POLL_SECONDS, waited * _POLL_SHARE))
    return max(MIN_POLL_SECONDS, min(pause, allowed - waited))


def build_retry_deadline(context: MachineContext) -> Deadline:
    """Return the deadline for retries on a machine that was just changed and may be unreachable."""
    return Deadline.after(context.clock, context.options.max_unreachable_seconds)
