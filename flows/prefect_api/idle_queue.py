"""Prefect's queue of background work (docket): replaced in a server that does no such work, and calm in others.

Docket loads a client of Redis and a checker of types: a fifth of all that Prefect's server loads. Prefect 3.8.8 loads
it in any case.
"""

import sys
from collections.abc import Awaitable, Callable
from datetime import timedelta
from functools import partial
from types import ModuleType
from typing import Any, Final

_MODULE: Final = "docket"


class Queue:
    """Takes work, and drops it."""

    def __init__(self, **_settings: object) -> None:
        pass

    async def __aenter__(self) -> "Queue":
        return self

    async def __aexit__(self, *_error: object) -> None:
        pass

    def add(self, *_work: object, **_options: object) -> Callable[..., Awaitable[None]]:
        """Return a function that takes the work's arguments."""
        return _drop

    replace = add


async def _drop(*_arguments: object, **_options: object) -> None:
    pass


class Parameter:
    """The default of a parameter that docket would supply, or a mark of one."""

    def __init__(self, *_arguments: object, **_options: object) -> None:
        pass

    @classmethod
    def forever(cls, **_options: object) -> "Parameter":
        """Return a mark of work that is tried for ever."""
        return cls()


PARAMETERS: Final = ("CurrentDocket", "Depends", "Logged", "Perpetual", "Retry", "Worker")
_PARTS: Final = {"dependencies": "get_single_dependency_parameter_of_type", "execution": "TaskFunction"}
"""What Prefect takes from modules of docket, by their names. It uses both only where it has the work done."""


def replace_docket() -> None:
    """Let Prefect's server, which is not loaded yet, find this in the place of docket."""
    if _MODULE in sys.modules:
        return
    docket = sys.modules[_MODULE] = ModuleType(_MODULE)
    vars(docket).update(dict.fromkeys(PARAMETERS, Parameter), Docket=Queue)
    for name, content in _PARTS.items():
        part = sys.modules[f"{_MODULE}.{name}"] = ModuleType(f"{_MODULE}.{name}")
        setattr(part, content, Parameter)


_DUE_SECONDS: Final = 1.0
"""How often a calm queue looks for work whose time has come. Docket does so every quarter of a second."""
_NEW_SECONDS: Final = 2.0
"""How long a calm queue waits for new work before it asks again. It gets new work at once."""


def calm_docket(background_workers: Any) -> None:  # noqa: ANN401 - a module of Prefect
    """Let the queue of a server that has no work use less than half of the processor time.

    Docket looks ten times a second whether somebody cancels its work. Prefect 3.8.8 never does.

    Args:
        background_workers: ``prefect.server.api.background_workers``, before the server starts.
    """
    worker = background_workers.Worker
    if worker is Parameter:
        return
    intervals = {"minimum_check_interval": _NEW_SECONDS, "scheduling_resolution": _DUE_SECONDS}
    calm_worker = partial(worker, **{name: timedelta(seconds=seconds) for name, seconds in intervals.items()})
    worker._cancellation_listener = _wait_for_end  # noqa: SLF001 - docket has no setting for it
    background_workers.Worker = calm_worker


async def _wait_for_end(worker: Any) -> None:  # noqa: ANN401 - docket's
    session = worker._processing_session  # noqa: SLF001
    if session is not None:
        session.cancellation_ready.set()
        await session.stopping.wait()
