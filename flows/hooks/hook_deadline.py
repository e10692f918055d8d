"""How long a hook is waited for: until its deadline, and one before something no longer than the run goes on."""

import contextvars
import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Generic, TypeVar

from tasks.errors import DeadlineExceeded
from tasks.protocols.clock import Clock, Deadline
from tasks.steps.context.stop_token import StopToken

T = TypeVar("T")

POLL_SECONDS = 0.1  # how often a hook is looked at


class HookWaitAborted(DeadlineExceeded):
    """A hook is not waited for any longer."""


@dataclass(frozen=True, slots=True)
class HookDeadline:
    """Says when to stop waiting.

    Attributes:
        deadline: its deadline.
        clock: tells the time.
        stop_token: of the run; None for a hook that puts things back, which a run that stops waits for too.
        initial_seconds: how long it had at its beginning, for people.
    """

    deadline: Deadline
    clock: Clock
    stop_token: StopToken | None
    initial_seconds: float

    @property
    def remaining_seconds(self) -> float:
        """Seconds that are left; never negative."""
        return max(0.0, self.deadline.remaining_seconds(self.clock))

    def find_abort_reason(self) -> str:
        """Return why it is waited no longer, or ""."""
        if self.stop_token is not None and self.stop_token.is_stopping:
            return f"given up, for the run was asked to stop: {self.stop_token.reason}"
        return f"it took longer than {self.initial_seconds:.0f} s" if self.deadline.has_passed(self.clock) else ""

    def sleep_until_next_poll(self) -> None:
        """Let a moment pass."""
        self.clock.sleep(min(POLL_SECONDS, self.remaining_seconds))


@dataclass(slots=True)
class _ThreadResult(Generic[T]):
    finished: threading.Event = field(default_factory=threading.Event)
    value: T | None = None
    error: BaseException | None = None


def run_in_thread(body: Callable[[], T], hook_deadline: HookDeadline) -> T:
    """Call something in a thread of its own and return what it returns, for as long as there is patience.

    A thread can't be ended: what is given up goes on by itself, unheard.

    Raises:
        HookWaitAborted: it was not over in time, or the run was asked to stop.
        Exception: whatever the body raised.
    """
    thread_result: _ThreadResult[T] = _ThreadResult()
    context = contextvars.copy_context()

    def run_body() -> None:
        try:
            thread_result.value = context.run(body)
        except BaseException as error:  # noqa: BLE001 - it is raised again, where somebody waits for it
            thread_result.error = error
        finally:
            thread_result.finished.set()

    threading.Thread(target=run_body, name="hook", daemon=True).start()
    while not thread_result.finished.is_set():
        if why := hook_deadline.find_abort_reason():
            raise HookWaitAborted(why)
        hook_deadline.sleep_until_next_poll()
    if isinstance(thread_result.error, Exception):
        raise thread_result.error
    if thread_result.error is not None:  # SystemExit of an owner's function ends its thread, not the run
        raise RuntimeError(
            f"it ended with {type(thread_result.error).__name__}: {thread_result.error}"
        ) from thread_result.error
    return thread_result.value  # type: ignore[return-value]  # it returned, so this is a T
