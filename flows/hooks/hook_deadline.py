"""How long to wait for a hook: until its deadline. A hook before something also ends when the run must stop."""

import contextvars
import threading
from collections.abc import Callable
from concurrent.futures import Future
from typing import TypeVar

from inventory.data_class import dataclass
from tasks.domain.errors import DeadlineExceeded
from tasks.domain.protocols.clock import Clock, Deadline
from tasks.steps.context.run_control import StopToken

T = TypeVar("T")

POLL_SECONDS = 0.1  # how often a hook is polled


class HookWaitAborted(DeadlineExceeded):
    """The wait for a hook was aborted."""


@dataclass(frozen=True, slots=True)
class HookDeadline:
    """The rule when to stop waiting for a hook."""

    deadline: Deadline
    clock: Clock
    # The run's stop token; None for a hook that restores something: a run that stops waits for it too.
    stop_token: StopToken | None
    initial_seconds: float  # seconds to the deadline at the start, for messages

    @property
    def remaining_seconds(self) -> float:
        """Seconds to the deadline; never negative."""
        return max(0.0, self.deadline.remaining_seconds(self.clock))

    def find_abort_reason(self) -> str:
        """Return why the wait must end, or ""."""
        if self.stop_token is not None and self.stop_token.is_stopping:
            return f"given up, for the run was asked to stop: {self.stop_token.reason}"
        return f"it took longer than {self.initial_seconds:.0f} s" if self.deadline.has_passed(self.clock) else ""

    def sleep_until_next_poll(self) -> None:
        """Sleep until the next poll."""
        self.clock.sleep(min(POLL_SECONDS, self.remaining_seconds))


def run_in_thread(body: Callable[[], T], hook_deadline: HookDeadline) -> T:
    """Call a function in its own thread and return its result, unless the wait is aborted.

    A thread can't be killed. After an abort it runs on, and its result is ignored.

    Raises:
        HookWaitAborted: it took too long, or the run was asked to stop.
        Exception: any exception of the body.
    """
    future: Future[T] = Future()
    context = contextvars.copy_context()

    def run_body() -> None:
        try:
            future.set_result(context.run(body))
        except BaseException as error:  # noqa: BLE001 - it is raised again, in the thread that waits for it
            future.set_exception(error)

    threading.Thread(target=run_body, name="hook", daemon=True).start()
    while not future.done():
        if reason := hook_deadline.find_abort_reason():
            raise HookWaitAborted(reason)
        hook_deadline.sleep_until_next_poll()
    error = future.exception()
    if error is not None and not isinstance(error, Exception):
        # SystemExit in a user's function ends its thread, not the run
        raise RuntimeError(f"it ended with {type(error).__name__}: {error}") from error
    return future.result()
