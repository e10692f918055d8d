"""Retries of a call, by the given clock. Only for calls that may be repeated: reads, and writes with one effect."""

from collections.abc import Callable
from datetime import timedelta
from typing import TypeVar, cast

from tenacity import RetryCallState, Retrying, retry_if_exception, wait_fixed
from tenacity.wait import wait_base

from tasks.domain.protocols.clock import Clock, Deadline

T = TypeVar("T")
E = TypeVar("E", bound=Exception)


def retry(
    call: Callable[[], T],
    errors: type[E] | tuple[type[E], ...],
    *,
    clock: Clock,
    deadline: Deadline,
    wait: float | timedelta | wait_base,
    max_attempts: int | None = None,
    is_retryable: Callable[[E], bool] = lambda _error: True,
    on_retry: Callable[[E], object] = lambda _error: None,
) -> T:
    """Call until there is a result. If no attempt is left, raise the last attempt's error.

    Args:
        call: the call; it may be repeated.
        errors: the types of errors after which it is repeated. Any other error is raised at once.
        clock: measures the time, and waits.
        deadline: the last attempt begins before it.
        wait: the time between two attempts (a number: seconds), or tenacity's rule for it.
        max_attempts: how many attempts there are; None: as many as the deadline permits.
        is_retryable: whether the call is repeated after this error of these types.
        on_retry: gets the error before each wait.
    """
    seconds = deadline.remaining_seconds(clock)

    def is_last_attempt(attempt: RetryCallState) -> bool:
        # A clock that is set back does not make the waits longer than the deadline meant.
        time_left = min(deadline.remaining_seconds(clock), seconds - attempt.idle_for)
        return time_left <= attempt.upcoming_sleep or attempt.attempt_number == max_attempts

    def report_error(attempt: RetryCallState) -> None:
        if attempt.outcome is not None:
            on_retry(cast("E", attempt.outcome.exception()))

    retrying = Retrying(
        retry=retry_if_exception(lambda error: isinstance(error, errors) and is_retryable(error)),
        stop=is_last_attempt,
        wait=wait if isinstance(wait, wait_base) else wait_fixed(wait),
        before_sleep=report_error,
        sleep=clock.sleep,
        reraise=True,
    )
    return retrying(call)
