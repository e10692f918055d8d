"""A flow in the main thread of its process: what signals ask for reaches the run without breaking into it."""

import asyncio
import contextvars
import logging
import signal
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, TypeVar

from prefect.exceptions import TerminationSignal

from flows.prefect_runtime.suspend_request import watch_for_suspension
from tasks.steps.context.stop_token import StopToken

logger = logging.getLogger(__name__)

POLL_SECONDS = 0.1

T = TypeVar("T")
EndSignal = TerminationSignal | KeyboardInterrupt


@dataclass(slots=True)
class _RunThread:
    """A run in its thread: whether it has begun and is over, and what it came to."""

    start_lock: threading.Lock = field(default_factory=threading.Lock)
    has_started: bool = False
    has_ended: bool = False
    report: Any = None
    error: BaseException | None = None


def _ignore_reason(_reason: str) -> None:
    """Nothing is kept for anybody."""


def run_with_signals(
    body: Callable[[], T],
    stop_token: StopToken,
    record_stop: Callable[[str], None] = _ignore_reason,
    record_suspension: Callable[[str], None] = _ignore_reason,
) -> T:
    """Carry a run out in a thread of its own, while this one hears what is asked of the process.

    Prefect ends a flow by an exception in the middle of its main thread. Here that asks the run to stop: it begins
    nothing more, passes that on to the jobs on machines, and is seen to its end, if the process is left alive that
    long. Only then the exception goes on, and Prefect gives the flow run its state.

    Args:
        body: carries the run out.
        stop_token: of the run.
        record_stop: told the reason, in a thread of its own: keeps it for whoever comes after this process.
        record_suspension: the same when the flow run was suspended.

    Raises:
        TerminationSignal: the process was told to end; the run has come to its end before.
        KeyboardInterrupt: so has it after a first Ctrl-C; a second one leaves at once.
    """
    with watch_for_suspension(stop_token, record_suspension):
        if threading.current_thread() is not threading.main_thread():
            return body()  # signals don't come here
        run_thread = _RunThread()
        end_signal = _wait_for_end(lambda: _start_thread(body, run_thread), run_thread, stop_token, record_stop)
    if end_signal is not None:
        raise end_signal
    if run_thread.error is not None:
        raise run_thread.error
    report: T = run_thread.report
    return report


def _wait_for_end(
    start: Callable[[], None], run_thread: _RunThread, stop_token: StopToken, record_stop: Callable[[str], None]
) -> EndSignal | None:
    """Start a run, wait for its end, and return the first signal that came meanwhile.

    It sleeps, and does not join: a join that an exception breaks into takes its thread for ended (Python 3.11).

    Prefect's own handler has to stand until the first signal came: without it, Prefect takes a cancellation for a
    crash. It raises for every signal, wherever this thread is then, and its runner may send two at once: hence the
    second ``try``, and a handler that does nothing from then on.

    A deployment with a limit of its own has a lease in Prefect. When its server is away for minutes, Prefect breaks
    into this thread with ``CancelledError``, which nobody has asked for: machines are kept apart by their claims.
    """
    end_signal: EndSignal | None = None
    handler: Any = signal.getsignal(signal.SIGTERM)
    try:
        while True:
            try:
                try:
                    if not run_thread.has_started:
                        start()
                    if end_signal is not None:
                        signal.signal(signal.SIGTERM, lambda _number, _frame: None)
                        _request_stop(end_signal, stop_token, record_stop)
                    while not run_thread.has_ended:
                        time.sleep(POLL_SECONDS)
                except (TerminationSignal, KeyboardInterrupt) as raised:
                    if end_signal is not None and isinstance(raised, KeyboardInterrupt):
                        raise
                    end_signal = end_signal or raised
                else:
                    return end_signal
            except TerminationSignal as raised:
                end_signal = end_signal or raised
            except asyncio.CancelledError:
                logger.warning("Prefect's limit can't be renewed while its server is unavailable; the run continues")
    finally:
        signal.signal(signal.SIGTERM, handler)


def _request_stop(end_signal: EndSignal, stop_token: StopToken, record_stop: Callable[[str], None]) -> None:
    if stop_token.is_stopping:
        return
    stop_token.request_stop("Ctrl-C" if isinstance(end_signal, KeyboardInterrupt) else "its process was told to end")
    threading.Thread(target=record_stop, args=(stop_token.reason,), name="note", daemon=True).start()


def _start_thread(body: Callable[[], object], run_thread: _RunThread) -> None:
    """Start the run; asked again, after a signal broke into this, it is started once all the same."""
    run = contextvars.copy_context().run
    threading.Thread(target=run, args=(_run_body, body, run_thread), name="run", daemon=True).start()


def _run_body(body: Callable[[], object], run_thread: _RunThread) -> None:
    if not run_thread.start_lock.acquire(blocking=False):
        return
    run_thread.has_started = True
    try:
        run_thread.report = body()
    except BaseException as error:  # noqa: BLE001 - it is raised again, in the main thread
        run_thread.error = error
    finally:
        run_thread.has_ended = True
