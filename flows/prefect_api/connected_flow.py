"""Flows that may be called without a configured Prefect server: the call starts a server for its run.

Prefect's own would have no password. It is off wherever these flows are imported (flows/__init__.py). So other uses of
a flow need a configured server.

The end of a flow's function is the end of the flow, also if Prefect did not receive it (``flow_end``).
"""

import logging
from collections.abc import Callable
from functools import wraps
from typing import Any, ParamSpec, TypeVar, cast

import httpx
from prefect import Flow
from prefect.context import FlowRunContext

from flows.prefect_api.connection import connect_prefect
from flows.prefect_api.flow_end import claim_flow_result_place, end_flow_process_if_prefect_hangs, use_flow_result_place
from flows.prefect_api.log_filters import silence_delivery
from flows.prefect_api.prefect_insides import (
    keep_run_without_place,
    print_no_lost_log_lines,
    start_no_server_for_events,
)
from flows.prefect_api.tags import use_tagged_fleet, use_tagged_site
from tasks.domain.errors import CannotRun

P = ParamSpec("P")
R = TypeVar("R")

logger = logging.getLogger(__name__)


start_no_server_for_events()
keep_run_without_place()
print_no_lost_log_lines()
silence_delivery()


class ConnectedFlow(Flow[P, R]):
    """A flow that connects Prefect's client before it is called, and whose end does not depend on Prefect."""

    def __call__(self, *args: Any, **kwargs: Any) -> Any:  # noqa: ANN401 - Prefect's class has twelve overloads
        """Call the flow as Prefect does. Return its function's own result, whatever Prefect raises after it.

        Raises:
            CannotRun: no server is configured, and none can be started; or it went away before the function began.
            KeyFileError: the file of the server's password can't be read, or others than its owner can read it.
        """
        connect_prefect()
        result_place = claim_flow_result_place()
        try:
            with use_flow_result_place(result_place):
                return super().__call__(*args, **kwargs)
        except Exception as error:
            if result_place.ended.is_set():
                if error is not result_place.error and isinstance(error, httpx.HTTPError):
                    logger.info("Prefect did not receive how %s ended: %s", self.name, error)
                    return result_place.get_result(as_state=bool(kwargs.get("return_state")))
            elif not result_place.has_begun and isinstance(error, httpx.HTTPError):
                raise CannotRun(
                    "the Prefect server went away before the run began",
                    hint="Nothing has begun. Start the server and run again, or use --no-prefect (Python: "
                    "execute_locally) to patch without Prefect.",
                ) from error
            raise

    def with_options(self, **options: Any) -> "ConnectedFlow[P, R]":  # noqa: ANN401 - Prefect's options
        """Return the same flow with other options. Prefect's own method would return a plain one."""
        changed = super().with_options(**options)
        connected = ConnectedFlow(changed.fn)
        vars(connected).update(vars(changed))
        return connected


def flow(**options: Any) -> Callable[[Callable[P, R]], Flow[P, R]]:  # noqa: ANN401 - Prefect's options
    """Return a decorator like ``prefect.flow``, with the same options. Prefect finds it by this name in source text.

    The flow uses the records of the fleet to which its flow run belongs, and reaches the machines of its site.
    """

    def decorate(function: Callable[P, R]) -> Flow[P, R]:
        return ConnectedFlow(_use_own_fleet_and_site(function), **options)

    return decorate


def _use_own_fleet_and_site(function: Callable[P, R]) -> Callable[P, R]:
    @wraps(function)
    def call(*args: P.args, **kwargs: P.kwargs) -> R:
        context, result_place = FlowRunContext.get(), claim_flow_result_place()
        run = context.flow_run if context is not None else None
        tags = run.tags if run is not None else ()
        try:
            with result_place.record(), use_tagged_fleet(tags), use_tagged_site(tags):
                result_place.result = function(*args, **kwargs)
                return cast("R", result_place.result)
        finally:
            end_flow_process_if_prefect_hangs()

    return call
