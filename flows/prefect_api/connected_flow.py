"""Flows that may be called without a configured Prefect server: the call starts a server for its run.

Without this, Prefect would start its own: without a password, for every user of the machine and every web page.
"""

from collections.abc import Callable
from typing import Any, ParamSpec, TypeVar

from prefect import Flow

from flows.prefect_api.connection import connect_prefect

P = ParamSpec("P")
R = TypeVar("R")


class ConnectedFlow(Flow[P, R]):
    """A flow that connects Prefect's client before it is called."""

    def __call__(self, *args: Any, **kwargs: Any) -> Any:  # noqa: ANN401 - Prefect's class has twelve overloads
        """Call the flow as Prefect does.

        Raises:
            CannotRun: no server is configured, and none can be started.
            KeyFileError: the file of the server's password can't be read, or others than its owner can read it.
        """
        connect_prefect()
        return super().__call__(*args, **kwargs)


def flow(**options: Any) -> Callable[[Callable[P, R]], Flow[P, R]]:  # noqa: ANN401 - Prefect's options
    """Return a decorator like ``prefect.flow``, with the same options. Prefect finds it by this name in source text."""

    def decorate(function: Callable[P, R]) -> Flow[P, R]:
        return ConnectedFlow(function, **options)

    return decorate
