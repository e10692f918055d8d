"""Several machines at once, outside of a run: `doctor`, `clean` and `hotpatch` look at each, and some change it."""

import contextvars
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

from flows.ports.ports import Ports
from inventory.machine import Machine
from tasks.domain.model import RunInfo
from tasks.domain.states import OperationState
from tasks.steps.context.run_context import PatchOptions, RunContext

T = TypeVar("T")


def visit_machines(machines: Sequence[Machine], at_once: int, visit: Callable[[Machine], T]) -> tuple[T, ...]:
    """Return what each visit returned, in the order of the machines.

    An interruption begins nothing more. It waits for visits that have begun, so that their locks are released.
    """
    with ThreadPoolExecutor(max(1, min(at_once, len(machines))), thread_name_prefix="visit") as pool:
        futures = [pool.submit(contextvars.copy_context().run, visit, machine) for machine in machines]
        try:
            return tuple(future.result() for future in futures)
        except BaseException:
            pool.shutdown(wait=True, cancel_futures=True)
            raise


def build_visit_context(ports: Ports, kind: str, *, refresh: bool = False) -> RunContext:
    """Return the context of steps that belong to no recorded run."""
    return RunContext(
        run=RunInfo(id="", kind=kind, started_at=ports.clock.now(), state=OperationState.IN_PROGRESS),
        options=PatchOptions(refresh=refresh),
        clock=ports.clock,
        records=ports.records,
        connect=ports.connect,
        find_manager=ports.find_manager,
        listener=ports.listener,
        stop_token=ports.stop_token,
        open_provider=ports.open_provider,
    )
