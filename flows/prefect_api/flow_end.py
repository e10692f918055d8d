"""The end of a flow's function counts, whether or not Prefect receives it.

After the function, Prefect still sends its state, events and log lines. While its server is gone, that takes minutes,
and it ends with an error. So the function's own result is kept here, and nobody waits long for a server that is gone.
"""

import logging
import os
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import field
from typing import Any, Final

from prefect.client.schemas.objects import State
from prefect.context import FlowRunContext
from prefect.settings import get_current_settings
from prefect.states import Completed

from flows.prefect_api.connection import find_server_fault, stop_ephemeral_servers
from inventory.data_class import dataclass

logger = logging.getLogger(__name__)

MAX_WAIT_SECONDS: Final = 300.0
"""How long Prefect may need after a flow's function while its server answers: a slow one gets what it missed."""
CHECK_SECONDS: Final = 2.0
MAX_FAULTS: Final = 2
"""After so many checks in a row without an answer, the server counts as gone."""
FLOW_RUN_VARIABLE: Final = "PREFECT__FLOW_RUN_ID"
"""Prefect's variable in a process that was started for one flow run."""


@dataclass(slots=True)
class FlowResultPlace:
    """Keeps how a flow's function ended: ``result`` is what it returned, ``error`` what it raised."""

    has_begun: bool = False
    ended: threading.Event = field(default_factory=threading.Event)
    result: Any = None
    error: BaseException | None = None

    @contextmanager
    def record(self) -> Iterator[None]:
        """Record the end of the function, which is called in the block and sets ``result``."""
        self.has_begun = True
        try:
            yield
        except BaseException as error:
            self.error = error
            raise
        finally:
            self.ended.set()

    def get_result(self, *, as_state: bool = False) -> Any:  # noqa: ANN401 - the result of any flow
        """Return the function's result, or raise its error, as the call of the flow does.

        With ``as_state``, return a state in any case.
        """
        if self.error is not None:
            raise self.error
        if isinstance(self.result, State):
            return self.result if as_state else self.result.result(_sync=True)  # type: ignore[call-overload]
        return Completed(data=self.result) if as_state else self.result


_CURRENT_RESULT_PLACE: ContextVar[FlowResultPlace | None] = ContextVar("fleetpatch_flow_end", default=None)


@contextmanager
def use_flow_result_place(result_place: FlowResultPlace) -> Iterator[None]:
    """Let the flow that is called inside the block record its end here."""
    token = _CURRENT_RESULT_PLACE.set(result_place)
    try:
        yield
    finally:
        _CURRENT_RESULT_PLACE.reset(token)


def claim_flow_result_place() -> FlowResultPlace:
    """Return the place for the end of the flow that is called now. Flows inside it have places of their own."""
    result_place = _CURRENT_RESULT_PLACE.get() or FlowResultPlace()
    _CURRENT_RESULT_PLACE.set(None)
    return result_place


def wait_while_server_answers(is_over: Callable[[], bool], poll_seconds: float = 0.1) -> bool:
    """Wait until something is over, as long as Prefect's server answers, and at most ``MAX_WAIT_SECONDS``.

    Return whether it is over.
    """
    url, until = _read_server_url(), time.monotonic() + MAX_WAIT_SECONDS
    faults, check_at = 0, time.monotonic() + CHECK_SECONDS
    while not is_over():
        if time.monotonic() >= until or faults >= MAX_FAULTS:
            return False
        if url and time.monotonic() >= check_at:
            faults = faults + 1 if find_server_fault(url) else 0
            check_at = time.monotonic() + CHECK_SECONDS
        time.sleep(poll_seconds)
    return True


def _read_server_url() -> str:
    return get_current_settings().api.url or ""


def end_process_if_prefect_hangs(exit_code: int) -> None:
    """Let this process end by itself while Prefect's server answers; end it when the server is gone.

    For a process that has nothing more to do. At its exit, Prefect waits for each event that its server did not get.
    The exit code is that of a process that does not end by itself.
    """

    def end_process() -> None:
        wait_while_server_answers(lambda: False)
        stop_ephemeral_servers()
        for stream in (sys.stdout, sys.stderr):
            if stream is not None:
                stream.flush()
        os._exit(exit_code)

    threading.Thread(target=end_process, name="end of the process", daemon=True).start()


def end_flow_process_if_prefect_hangs() -> None:
    """Do so if this process was started for the present flow run, whose function has ended.

    Its exit code says nothing about the run: ``reconcile`` sets the state of a flow run that Prefect did not receive.
    """
    context = FlowRunContext.get()
    run = context.flow_run if context is not None else None
    if run is not None and os.environ.get(FLOW_RUN_VARIABLE) == str(run.id):
        end_process_if_prefect_hangs(0)
