"""Asks a run to stop, and says whether it still holds its lease."""

import threading
from collections.abc import Callable


class StopToken:
    """Asks a run to stop: nothing new starts, and what runs is left to end.

    Attributes:
        reason: why it was asked to stop.
        is_suspended: it was asked to stop so that it can be resumed later: what was not begun stays open.
        is_lease_lost: another process has the run now; the machines and their locks are left to it.
        still_holds_lease: whether this process still holds the run lease; asked just before a machine is changed.
    """

    def __init__(self) -> None:
        self._stop_event = threading.Event()
        self.reason = ""
        self.is_suspended = False
        self.is_lease_lost = False
        self.still_holds_lease: Callable[[], bool] = lambda: True

    def request_stop(self, reason: str) -> None:
        """Ask the run to stop. The first reason stands."""
        if not self._stop_event.is_set():
            self.reason = reason
            self._stop_event.set()

    def request_suspension(self, reason: str) -> None:
        """Ask it to stop, and to leave open what was not begun. A run that stops already goes on stopping."""
        if not self._stop_event.is_set():
            self.is_suspended = True
            self.request_stop(reason)

    def mark_lease_lost(self) -> None:
        """Note that another process has taken the run over: it stops, and releases no machine lock."""
        self.is_lease_lost = True
        self.is_suspended = False
        self.request_stop("somebody else has taken this run over")

    @property
    def is_stopping(self) -> bool:
        """Whether the run was asked to stop."""
        return self._stop_event.is_set()
