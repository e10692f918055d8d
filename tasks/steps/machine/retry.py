"""Retries calls to a machine after transient errors, until a deadline."""

import logging
from collections.abc import Callable
from typing import TypeVar

from tasks.errors import (
    DeadlineExceeded,
    FleetpatchError,
)
from tasks.protocols.clock import Deadline
from tasks.steps.context.machine_context import MachineContext

logger = logging.getLogger(__name__)


FIRST_PAUSE_SECONDS, LONGEST_PAUSE_SECONDS = 0.5, 10.0


T = TypeVar("T")


def retry_transient(context: MachineContext, ask: Callable[[], T], until: Deadline) -> T:
    """Retry a call after transient errors, until the deadline. Only for calls that may be repeated."""
    clock = context.run_context.clock
    while True:
        try:
            return ask()
        except FleetpatchError as error:
            if not is_transient(error) or until.remaining_seconds(clock) <= LONGEST_PAUSE_SECONDS:
                raise
            logger.info("%s: asking again after: %s", context.name, error.message)
        clock.sleep(LONGEST_PAUSE_SECONDS)


def is_transient(error: FleetpatchError) -> bool:
    """Return whether an error may pass without action. A machine that was too slow once may be faster the next time."""
    return error.transient or isinstance(error, DeadlineExceeded)
