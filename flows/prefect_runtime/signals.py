"""Run a flow's body in a thread, so that signals to the process, and "Suspend" in Prefect, don't interrupt a step."""

import asyncio
import contextvars
import logging
import signal
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, TypeVar

from prefect.context import FlowRunContext
from prefect.exceptions import TerminationSignal

from tasks.steps.context.run_control import StopToken

logger = logging.getLogger(__name__)

POLL_SECONDS = 0.1
SUSPEND_POLL_SECONDS = 0.2
SUSPEND_REASON = "suspended in Prefect"

T = TypeVar("T")
EndSignal = TerminationSignal | KeyboardInterrupt


class _RunThread:
    """A run in its thread: whether it has begun or ended, and its result."""

    def __init__(self, body: Callable[[], object]) -> None:
        self._body, self._start_lock = body, threading.Lock()
        self.has_started = self.has_ended = False
        self.report: Any = None
        self.error: BaseException | None = None

    def start(self) -> None:
        """Start the run. It starts only once, even if this is called again after a signal interrupted it."""
        run = contextvars.copy_context().run
        threading.Thread(target=run, args=(self._run,), name="run", daemon=True).start()

    def _run(self) -> None:
        if not self._start_lock.acquire(blocking=False):
            return
        self.has_started = True
        try:
            self.report = self._body()
        except BaseException as error:  # noqa: BLE001 - it is raised again, in the main thread
            self.error = error
        finally:
            self.has_ended = True


def _ignore_reason(_reason: str) -> None:
    """Record nothing."""


def run_with_signals(
    body: Callable[[], T],
    stop_token: StopToken,
    record_stop: Callable[[str], None] = _ignore_reason,
    record_suspension: Callable[[str], None] = _ignore_reason,
) -> T:
    """Execute a run in a separate thread, while this thread receives signals.

    Prefect ends a flow with an exception in its main thread. Here that exception asks the run to stop: the run begins
    nothing more, passes the request to the jobs on machines, and completes, if the process lives long enough. Then the
    exception is raised, and Prefect sets the flow run's state.

    ``record_stop`` and ``record_suspension`` get the reason, in a separate thread, for the process that resumes.

    Raises:
        TerminationSignal: the process got SIGTERM. The run has ended before this is raised.
        KeyboardInterrupt: the same for the first Ctrl-C. A second Ctrl-C raises at once.
    """
    with watch_for_suspension(stop_token, record_suspension):
        if threading.current_thread() is not threading.main_thread():
            return body()  # signals arrive only in the main thread
        run_thread = _RunThread(body)
        end_signal = _wait_for_end(run_thread, stop_token, record_stop)
    if end_signal is not None:
        raise end_signal
    if run_thread.error is not None:
        raise run_thread.error
    report: T = run_thread.report
    return report


def _wait_for_end(
    run_thread: _RunThread, stop_token: StopToken, record_stop: Callable[[str], None]
) -> EndSignal | None:
    """Start a run, wait for its end, and return the first signal that arrived.

    It sleeps and does not join: if an exception interrupts a join, Python 3.11 regards the thread as ended. Prefect's
    own handler must stay until the first signal: without it, Prefect regards a cancellation as a crash. The handler
    raises for every signal at any place in this thread, and Prefect's runner may send two at once. So there is a second
    ``try``, and after the first signal a handler that does nothing.

    A deployment with a concurrency limit has a lease in Prefect. If its server is unavailable for minutes, Prefect
    raises ``CancelledError`` in this thread. It is ignored: machine locks keep runs apart.
    """
    end_signal: EndSignal | None = None
    handler: Any = signal.getsignal(signal.SIGTERM)
    try:
        while True:
            try:
                try:
                    if not run_thread.has_started:
                        run_thread.start()
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


@contextmanager
def watch_for_suspension(stop_token: StopToken, record_suspension: Callable[[str], None]) -> Iterator[None]:
    """Ask a run to suspend if its flow run is suspended, inside a ``with`` block.

    Otherwise Prefect ends each new task and subflow with an exception, in the middle of a machine's steps. Inside the
    block they do not see the request. The flow itself still ends as suspended: its engine checks the request when the
    flow returns.
    """
    context = FlowRunContext.get()
    if context is None:
        yield
        return
    suspension_request, over = context.flow_run_suspension_request, threading.Event()

    def poll_request() -> None:
        while not over.wait(SUSPEND_POLL_SECONDS):
            if suspension_request.is_requested():
                stop_token.request_suspension(SUSPEND_REASON)
                if stop_token.is_suspended:
                    record_suspension(SUSPEND_REASON)
                return

    threading.Thread(
        target=contextvars.copy_context().run, args=(poll_request,), name="suspension", daemon=True
    ).start()
    with context.model_copy(update={"flow_run_suspension_request": type(suspension_request)()}):
        try:
            yield
        finally:
            over.set()


def is_suspension_requested() -> bool:
    """Return whether Prefect will end this flow as suspended when it returns, whatever became of its run."""
    context = FlowRunContext.get()
    return context is not None and context.flow_run_suspension_request.is_requested()
