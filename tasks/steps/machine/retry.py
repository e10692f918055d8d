"""Retries calls to a machine after transient errors, until a deadline."""

import logging
from collections.abc import Callable
from typing import TypeVar

from tasks.domain.errors import DeadlineExceeded, FleetpatchError
from tasks.domain.protocols.clock import Deadline
from tasks.domain.retry import retry
from tasks.steps.context.machine_context import MachineContext

logger = logging.getLogger(__name__)

FIRST_PAUSE_SECONDS, LONGEST_PAUSE_SECONDS = 0.5, 10.0

T = TypeVar("T")


def retry_transient(context: MachineContext, ask: Callable[[], T], until: Deadline) -> T:
    """Retry a call after transient errors, until the deadline. Only for calls that may be repeated."""
    return retry(
        ask,
        FleetpatchError,
        clock=context.clock,
        deadline=until,
        wait=LONGEST_PAUSE_SECONDS,
        is_retryable=is_transient,
        on_retry=lambda error: logger.info("%s: asking again after: %s", context.name, error.message),
    )


def is_transient(error: FleetpatchError) -> bool:
    """Return whether an error may pass without action. A machine that was too slow once may be faster the next time."""
    return error.transient or isinstance(error, DeadlineExceeded)
