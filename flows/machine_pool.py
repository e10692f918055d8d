"""Many machines side by side, each in a thread."""

import contextvars
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

from tasks.steps.context import Control, Work

T = TypeVar("T")


def side_by_side(works: Sequence[Work], at_once: int, body: Callable[[Work], T], control: Control) -> list[T]:
    """Call the body for each machine, so many at once, each in a copy of this context: Prefect's run is there.

    When a body raises, the run is asked to stop, the other bodies are waited for, and the error is raised.
    """
    if not works:
        return []
    with ThreadPoolExecutor(min(at_once, len(works)), thread_name_prefix="machine") as pool:
        futures = [pool.submit(contextvars.copy_context().run, body, work) for work in works]
        try:
            return [future.result() for future in futures]
        except BaseException as error:  # leaving the pool waits for the others: they begin nothing new
            control.stop(f"the run broke off: {type(error).__name__}: {error}")
            raise
