"""The Clock protocol, and the Deadline that goes down to every wait."""

import time
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Protocol


class Clock(Protocol):
    """Where time comes from. Code never asks the system itself, so that tests can own time."""

    def now(self) -> datetime:
        """Return the present moment, aware, in UTC."""
        ...

    def sleep(self, seconds: float) -> None:
        """Let time pass."""
        ...


class SystemClock:
    """The machine's own clock."""

    def now(self) -> datetime:
        """Return the present moment in UTC."""
        return datetime.now(UTC)

    def sleep(self, seconds: float) -> None:
        """Block this thread."""
        time.sleep(max(0.0, seconds))


@dataclass(frozen=True, slots=True, order=True)
class Deadline:
    """A moment after which nothing more may be waited for."""

    expires_at: datetime

    @classmethod
    def after(cls, clock: Clock, seconds: float) -> "Deadline":
        """Return the deadline that many seconds from now."""
        return cls(clock.now() + timedelta(seconds=seconds))

    def remaining_seconds(self, clock: Clock) -> float:
        """Return the seconds left; negative when it has passed."""
        return (self.expires_at - clock.now()).total_seconds()

    def has_passed(self, clock: Clock) -> bool:
        """Return whether it is over."""
        return self.remaining_seconds(clock) <= 0

    def limit_to(self, clock: Clock, seconds: float) -> "Deadline":
        """Return the earlier of this deadline and that many seconds from now."""
        return min(self, Deadline.after(clock, seconds))
