"""Listeners for the progress of a run. ``LoggingListener`` writes it to the log."""

import logging
from typing import Protocol

from tasks.domain.states import Step

logger = logging.getLogger(__name__)


class ProgressListener(Protocol):
    """The interface for progress bars and logs. Methods must not raise and must not block."""

    def on_progress(self, machine: str, step: Step, fraction: float | None, message: str) -> None:
        """Receive the progress of a machine's step, from 0 to 1. None: it is not known."""

    def on_step_finished(self, machine: str, step: Step, state: str, message: str) -> None:
        """Receive the end of a machine's step."""

    def on_message(self, message: str) -> None:
        """Receive a message about the whole run."""


class LoggingListener:
    """A listener that only writes to the log."""

    def on_progress(self, machine: str, step: Step, fraction: float | None, message: str) -> None:
        """Write it to the log."""
        logger.debug("%s: %s: %s (%s)", machine, step, message, fraction)

    def on_step_finished(self, machine: str, step: Step, state: str, message: str) -> None:
        """Write it to the log."""
        logger.info("%s: %s: %s %s", machine, step, state, message)

    def on_message(self, message: str) -> None:
        """Write it to the log."""
        logger.info("%s", message)
