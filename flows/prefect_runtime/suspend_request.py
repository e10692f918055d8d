"""Watch for "Suspend" in Prefect's UI, so that the run stops in a controlled way and no step is interrupted."""

import contextvars
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from prefect.context import FlowRunContext

from tasks.steps.context.stop_token import StopToken

SUSPEND_REASON = "suspended in Prefect"
POLL_SECONDS = 0.2


@contextmanager
def watch_for_suspension(stop_token: StopToken, record_suspension: Callable[[str], None]) -> Iterator[None]:
    """Ask a run to suspend if its flow run is suspended, inside a ``with`` block.

    Otherwise Prefect ends each new task and subflow with an exception, in the middle of a machine's steps. Inside the
    block they do not see the request. The flow itself still ends as suspended: its engine checks the request when the
    flow returns.

    Args:
        stop_token: the stop token of the run.
        record_suspension: is called with the reason in a separate thread; it records the reason for the process that
            resumes.
    """
    context = FlowRunContext.get()
    if context is None:
        yield
        return
    asked, over = context.flow_run_suspension_request, threading.Event()

    def poll_request() -> None:
        while not over.wait(POLL_SECONDS):
            if asked.is_requested():
                stop_token.request_suspension(SUSPEND_REASON)
                if stop_token.is_suspended:
                    record_suspension(SUSPEND_REASON)
                return

    threading.Thread(
        target=contextvars.copy_context().run, args=(poll_request,), name="suspension", daemon=True
    ).start()
    with context.model_copy(update={"flow_run_suspension_request": type(asked)()}):
        try:
            yield
        finally:
            over.set()
