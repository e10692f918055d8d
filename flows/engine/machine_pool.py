"""Execute a function for many machines in parallel threads."""

import contextvars
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

from tasks.steps.context.machine_context import MachineContext
from tasks.steps.context.stop_token import StopToken

T = TypeVar("T")


def run_concurrently(
    contexts: Sequence[MachineContext], at_once: int, body: Callable[[MachineContext], T], stop_token: StopToken
) -> list[T]:
    """Call the body for each machine in parallel, each in a copy of this context, which holds Prefect's flow run.

    If a body raises, ask the run to stop, wait for the other bodies, and raise the error.
    """
    if not contexts:
        return []
    with ThreadPoolExecutor(min(at_once, len(contexts)), thread_name_prefix="machine") as pool:
        futures = [pool.submit(contextvars.copy_context().run, body, work) for work in contexts]
        try:
            return [future.result() for future in futures]
        except BaseException as error:  # the exit of the pool waits for the others; they begin nothing new
            stop_token.request_stop(f"the run broke off: {type(error).__name__}: {error}")
            raise
