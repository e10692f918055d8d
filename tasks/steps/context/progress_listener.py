"""Receives the progress of a run. ``LoggingListener`` writes it to the log."""

import logging
from typing import Protocol

from tasks.states import Step

logger = logging.getLogger(__name__)


class ProgressListener(Protocol):
    """Receives what goes on, for progress bars and logs. Must not raise and must not block."""

    def on_progress(self, machine: str, step: Step, fraction: float | None, message: str) -> None:
        """A step of a machine has come so far (0 to 1; None when it can't tell)."""
        ...

    def on_step_finished(self, machine: str, step: Step, state: str, message: str) -> None:
        """A step of a machine has ended."""
        ...

    def on_message(self, message: str) -> None:
        """Something happened that concerns the whole run."""
        ...


class LoggingListener:
    """A listener that only writes to the log."""

    def on_progress(self, machine: str, step: Step, fraction: float | None, message: str) -> None:
        """Log it."""
        logger.debug("%s: %s: %s (%s)", machine, step, message, fraction)

    def on_step_finished(self, machine: str, step: Step, state: str, message: str) -> None:
        """Log it."""
        logger.info("%s: %s: %s %s", machine, step, state, message)

    def on_message(self, message: str) -> None:
        """Log it."""
        logger.info("%s", message)
