"""Replaces Prefect's queue of background work (docket) in a server that does no such work.

Docket loads a client of Redis and a checker of types: a fifth of all that Prefect's server loads. Prefect 3.8.8 loads
it in any case.
"""

import sys
from collections.abc import Awaitable, Callable
from types import ModuleType
from typing import Final

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
