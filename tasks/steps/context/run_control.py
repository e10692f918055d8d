"""The progress of a run, which its caller follows, and the request to stop it."""

import logging
import threading
from collections.abc import Callable
from datetime import datetime
from typing import TYPE_CHECKING, Protocol

from inventory.data_class import dataclass
from tasks.domain.states import Step

if TYPE_CHECKING:
    from tasks.rules.components.health import HealthAnswer, HealthWatch

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


class StopToken:
    """The request to stop a run: nothing new begins, and what runs may end.

    Attributes:
        is_suspended: the run is to be resumed later. What did not begin stays open.
        is_lease_lost: another process has the run now. This process does not touch the machines and their locks.
        still_holds_lease: returns whether this process still has the run lease. Called just before a machine is
            changed.
        confirm_lease: asks the records whether it has. Called just before something about the run is shown or sent.
        is_end_recorded: whether the records have the end of the run.
        lease_taken_at: when this process took the lease, by the clock of the records; None: the run has none.
    """

    def __init__(self) -> None:
        self._stop_event = threading.Event()
        self.reason = ""
        self.is_suspended = False
        self.is_lease_lost = False
        self.is_end_recorded = False
        self.still_holds_lease: Callable[[], bool] = lambda: True
        self.confirm_lease: Callable[[], bool] = lambda: True
        self.lease_taken_at: datetime | None = None

    def request_stop(self, reason: str) -> None:
        """Ask the run to stop. Only the first reason is kept."""
        if not self._stop_event.is_set():
            self.reason = reason
            self._stop_event.set()

    def request_suspension(self, reason: str) -> None:
        """Ask the run to stop, and leave open what did not begin. A run that already stops is not changed."""
        if not self._stop_event.is_set():
            self.is_suspended = True
            self.request_stop(reason)

    def mark_lease_lost(self) -> None:
        """Record that another process has taken the run over. This process stops, and releases no machine lock."""
        self.is_lease_lost = True
        self.is_suspended = False
        self.request_stop("another process executes this run now")

    def may_tell(self) -> bool:
        """Ask the records, and return whether this process may tell how the run is.

        If they have its end and don't answer any more, it may: no other process gives the run another end.
        """
        return self.confirm_lease() or (self.is_end_recorded and not self.is_lease_lost)

    @property
    def is_stopping(self) -> bool:
        """Whether a stop was requested."""
        return self._stop_event.is_set()


@dataclass(frozen=True, slots=True)
class StepWait:
    """How a step waits: its machine leaves the worker until a time. Another process begins the watch again.

    Attributes:
        since: when the step began.
        answers: the health of the machine so far.
    """

    since: datetime
    until: datetime
    watch: "HealthWatch"
    answers: tuple["HealthAnswer", ...]
