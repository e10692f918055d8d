"""The Clock protocol, and the Deadline that limits every wait."""

import math
import time
from datetime import UTC, datetime, timedelta
from typing import Protocol

from inventory.data_class import dataclass
from tasks.domain.errors import DeadlineExceeded


class Clock(Protocol):
    """The source of time. Code never reads the system clock directly, so that tests can control time."""

    def now(self) -> datetime:
        """Return the current time, aware, in UTC."""

    def sleep(self, seconds: float) -> None:
        """Wait for that many seconds."""


class SystemClock:
    """The system clock of the controller."""

    def now(self) -> datetime:
        """Return the current time in UTC."""
        return datetime.now(UTC)

    def sleep(self, seconds: float) -> None:
        """Block this thread for that many seconds."""
        time.sleep(max(0.0, seconds))


@dataclass(frozen=True, slots=True, order=True)
class Deadline:
    """The time at which a wait must end."""

    expires_at: datetime

    @classmethod
    def after(cls, clock: Clock, seconds: float) -> "Deadline":
        """Return the deadline that is that many seconds from now."""
        return cls(clock.now() + timedelta(seconds=seconds))

    def remaining_seconds(self, clock: Clock) -> float:
        """Return the seconds that remain; negative when the deadline has passed."""
        return (self.expires_at - clock.now()).total_seconds()

    def require_seconds(
        self,
        clock: Clock,
        at_most: float = math.inf,
        *,
        message: str = "the machine did not answer in the time it was given",
    ) -> float:
        """Return the seconds that remain, or ``at_most``, if that is less.

        Raises:
            DeadlineExceeded: the deadline has passed.
        """
        seconds = self.remaining_seconds(clock)
        if seconds <= 0:
            raise DeadlineExceeded(message)
        return min(seconds, at_most)

    def has_passed(self, clock: Clock) -> bool:
        """Return whether the deadline has passed."""
        return self.remaining_seconds(clock) <= 0

    def limit_to(self, clock: Clock, seconds: float) -> "Deadline":
        """Return the earlier one: this deadline, or that many seconds from now."""
        return min(self, Deadline.after(clock, seconds))
