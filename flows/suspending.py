"""Suspend in Prefect's UI, heard in a flow's process: the run stops in its own way, and no step is broken off."""

import contextvars
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from prefect.context import FlowRunContext

from tasks.steps.context import Control

REASON = "suspended in Prefect"
LOOK_SECONDS = 0.2


@contextmanager
def heeding_suspension(control: Control, noted: Callable[[str], None]) -> Iterator[None]:
    """Ask a run to suspend when its flow run is suspended, within a ``with`` block.

    Prefect would let each task and each subflow that begins from then on end by an exception, in the middle of a
    machine's turn. Inside of the block they see nothing of it. The flow itself still ends as suspended: its engine
    looks when it returns.

    Args:
        control: of the run.
        noted: told the reason, in a thread of its own: keeps it for whoever comes after this process.
    """
    context = FlowRunContext.get()
    if context is None:
        yield
        return
    asked, over = context.flow_run_suspension_request, threading.Event()

    def look_on() -> None:
        while not over.wait(LOOK_SECONDS):
            if asked.is_requested():
                control.suspend(REASON)
                if control.suspended:
                    noted(REASON)
                return

    threading.Thread(target=contextvars.copy_context().run, args=(look_on,), name="suspension", daemon=True).start()
    with context.model_copy(update={"flow_run_suspension_request": type(asked)()}):
        try:
            yield
        finally:
            over.set()
