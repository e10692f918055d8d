"""A flow in the main thread of its process: what signals ask for reaches the run without breaking into it."""

import contextvars
import logging
import threading
from collections.abc import Callable
from dataclasses import dataclass

from prefect.exceptions import TerminationSignal

from tasks.model import RunReport
from tasks.steps.context import Control

logger = logging.getLogger(__name__)

LOOK_SECONDS = 0.2


@dataclass(slots=True)
class _Ending:
    report: RunReport | None = None
    error: BaseException | None = None


def attended(body: Callable[[], RunReport], control: Control, stopped: Callable[[str], None]) -> RunReport:
    """Carry a run out in a thread of its own, while this one hears what is asked of the process.

    Prefect ends a flow by an exception in the middle of its main thread. Here that asks the run to stop: it begins
    nothing more, passes that on to the jobs on machines, and is seen to its end, if the process is left alive that
    long. Only then the exception goes on, and Prefect gives the flow run its state. A second Ctrl-C leaves at once.

    Args:
        body: carries the run out.
        control: of the run.
        stopped: told the reason, in a thread of its own: keeps it for whoever comes after this process.
    """
    if threading.current_thread() is not threading.main_thread():
        return body()  # signals don't come here
    ending = _Ending()
    thread = threading.Thread(target=contextvars.copy_context().run, args=(_run, body, ending), name="run", daemon=True)
    thread.start()
    asked: BaseException | None = None
    while thread.is_alive():
        try:
            thread.join(LOOK_SECONDS)
        except (TerminationSignal, KeyboardInterrupt) as signal:
            if asked is not None and isinstance(signal, KeyboardInterrupt):
                raise
            if asked is None:
                reason = "Ctrl-C" if isinstance(signal, KeyboardInterrupt) else "its process was told to end"
                control.stop(reason)
                threading.Thread(target=stopped, args=(reason,), name="note", daemon=True).start()
            asked = asked or signal
    if asked is not None:
        raise asked
    if ending.report is None:
        raise ending.error or RuntimeError("the run ended without a report")
    return ending.report


def _run(body: Callable[[], RunReport], ending: _Ending) -> None:
    try:
        ending.report = body()
    except BaseException as error:  # noqa: BLE001 - it is raised again, in the main thread
        ending.error = error
