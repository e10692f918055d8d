"""Suspend in Prefect's UI, heard in a flow's process: the run stops in its own way, and no step is broken off."""

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
    """Ask a run to suspend when its flow run is suspended, within a ``with`` block.

    Prefect would let each task and each subflow that begins from then on end by an exception, in the middle of a
    machine's turn. Inside of the block they see nothing of it. The flow itself still ends as suspended: its engine
    looks when it returns.

    Args:
        stop_token: of the run.
        record_suspension: told the reason, in a thread of its own: keeps it for whoever comes after this process.
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
