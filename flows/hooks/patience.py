"""How long a hook is waited for: until its deadline, and one before something no longer than the run goes on."""

import contextvars
import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Generic, TypeVar

from tasks.errors import DeadlineExceeded
from tasks.seams.clock import Clock, Deadline
from tasks.steps.context import Control

T = TypeVar("T")

SLICE_SECONDS = 0.1  # how often a hook is looked at


class GivenUp(DeadlineExceeded):
    """A hook is not waited for any longer."""


@dataclass(frozen=True, slots=True)
class Patience:
    """Says when to stop waiting.

    Attributes:
        until: its deadline.
        clock: tells the time.
        control: of the run; None for a hook that puts things back, which a run that stops waits for too.
        began_seconds: how long it had at its beginning, for people.
    """

    until: Deadline
    clock: Clock
    control: Control | None
    began_seconds: float

    @property
    def left(self) -> float:
        """Seconds that are left; never negative."""
        return max(0.0, self.until.remaining(self.clock))

    def over(self) -> str:
        """Return why it is waited no longer, or ""."""
        if self.control is not None and self.control.stopping:
            return f"given up, for the run was asked to stop: {self.control.reason}"
        return f"it took longer than {self.began_seconds:.0f} s" if self.until.passed(self.clock) else ""

    def pause(self) -> None:
        """Let a moment pass."""
        self.clock.sleep(min(SLICE_SECONDS, self.left))


@dataclass(slots=True)
class _Ending(Generic[T]):
    over: threading.Event = field(default_factory=threading.Event)
    value: T | None = None
    error: BaseException | None = None


def in_a_thread(body: Callable[[], T], patience: Patience) -> T:
    """Call something in a thread of its own and return what it returns, for as long as there is patience.

    A thread can't be ended: what is given up goes on by itself, unheard.

    Raises:
        GivenUp: it was not over in time, or the run was asked to stop.
        Exception: whatever the body raised.
    """
    ending: _Ending[T] = _Ending()
    context = contextvars.copy_context()

    def run() -> None:
        try:
            ending.value = context.run(body)
        except BaseException as error:  # noqa: BLE001 - it is raised again, where somebody waits for it
            ending.error = error
        finally:
            ending.over.set()

    threading.Thread(target=run, name="hook", daemon=True).start()
    while not ending.over.is_set():
        if why := patience.over():
            raise GivenUp(why)
        patience.pause()
    if isinstance(ending.error, Exception):
        raise ending.error
    if ending.error is not None:  # SystemExit of an owner's function ends its thread, not the run
        raise RuntimeError(f"it ended with {type(ending.error).__name__}: {ending.error}") from ending.error
    return ending.value  # type: ignore[return-value]  # it returned, so this is a T
