"""A clock that stands still until somebody sleeps or pushes it."""

import threading
from datetime import UTC, datetime, timedelta

START = datetime(2026, 3, 10, 1, 0, tzinfo=UTC)


class FakeClock:
    """Time is what the test says. Safe for several threads; each sleep moves the one clock on.

    Attributes:
        sleeps: every sleep asked for, in seconds.
    """

    def __init__(self, start: datetime = START) -> None:
        self._now = start
        self._lock = threading.Lock()
        self.sleeps: list[float] = []

    def now(self) -> datetime:
        """Return the present moment."""
        return self._now

    def sleep(self, seconds: float) -> None:
        """Let time pass at once."""
        self.sleeps.append(seconds)
        self.advance(max(0.0, seconds))

    def advance(self, seconds: float) -> None:
        """Push the clock on."""
        with self._lock:
            self._now += timedelta(seconds=seconds)
