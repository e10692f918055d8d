"""A flow in the main thread of its process: what signals ask for reaches the run without breaking into it."""

import asyncio
import contextvars
import logging
import signal
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, TypeVar

from prefect.exceptions import TerminationSignal

from flows.suspending import heeding_suspension
from tasks.steps.context import Control

logger = logging.getLogger(__name__)

LOOK_SECONDS = 0.1

T = TypeVar("T")
Told = TerminationSignal | KeyboardInterrupt


@dataclass(slots=True)
class _Ending:
    """A run in its thread: whether it has begun and is over, and what it came to."""

    turn: threading.Lock = field(default_factory=threading.Lock)
    begun: bool = False
    over: bool = False
    report: Any = None
    error: BaseException | None = None


def _not_noted(_reason: str) -> None:
    """Nothing is kept for anybody."""


def attended(
    body: Callable[[], T],
    control: Control,
    stopped: Callable[[str], None] = _not_noted,
    suspended: Callable[[str], None] = _not_noted,
) -> T:
    """Carry a run out in a thread of its own, while this one hears what is asked of the process.

    Prefect ends a flow by an exception in the middle of its main thread. Here that asks the run to stop: it begins
    nothing more, passes that on to the jobs on machines, and is seen to its end, if the process is left alive that
    long. Only then the exception goes on, and Prefect gives the flow run its state.

    Args:
        body: carries the run out.
        control: of the run.
        stopped: told the reason, in a thread of its own: keeps it for whoever comes after this process.
        suspended: the same when the flow run was suspended.

    Raises:
        TerminationSignal: the process was told to end; the run has come to its end before.
        KeyboardInterrupt: so has it after a first Ctrl-C; a second one leaves at once.
    """
    with heeding_suspension(control, suspended):
        if threading.current_thread() is not threading.main_thread():
            return body()  # signals don't come here
        ending = _Ending()
        told = _outlasted(lambda: _start(body, ending), ending, control, stopped)
    if told is not None:
        raise told
    if ending.error is not None:
        raise ending.error
    report: T = ending.report
    return report


def _outlasted(
    start: Callable[[], None], ending: _Ending, control: Control, stopped: Callable[[str], None]
) -> Told | None:
    """Start a run, wait for its end, and return the first signal that came meanwhile.

    It sleeps, and does not join: a join that an exception breaks into takes its thread for ended (Python 3.11).

    Prefect's own handler has to stand until the first signal came: without it, Prefect takes a cancellation for a
    crash. It raises for every signal, wherever this thread is then, and its runner may send two at once: hence the
    second ``try``, and a handler that does nothing from then on.

    A deployment with a limit of its own has a lease in Prefect. When its server is away for minutes, Prefect breaks
    into this thread with ``CancelledError``, which nobody has asked for: machines are kept apart by their claims.
    """
    told: Told | None = None
    handler: Any = signal.getsignal(signal.SIGTERM)
    try:
        while True:
            try:
                try:
                    if not ending.begun:
                        start()
                    if told is not None:
                        signal.signal(signal.SIGTERM, lambda _number, _frame: None)
                        _pass_on(told, control, stopped)
                    while not ending.over:
                        time.sleep(LOOK_SECONDS)
                except (TerminationSignal, KeyboardInterrupt) as raised:
                    if told is not None and isinstance(raised, KeyboardInterrupt):
                        raise
                    told = told or raised
                else:
                    return told
            except TerminationSignal as raised:
                told = told or raised
            except asyncio.CancelledError:
                logger.warning("Prefect's limit can't be kept while its server is away; the run goes on all the same")
    finally:
        signal.signal(signal.SIGTERM, handler)


def _pass_on(told: Told, control: Control, stopped: Callable[[str], None]) -> None:
    if control.stopping:
        return
    control.stop("Ctrl-C" if isinstance(told, KeyboardInterrupt) else "its process was told to end")
    threading.Thread(target=stopped, args=(control.reason,), name="note", daemon=True).start()


def _start(body: Callable[[], object], ending: _Ending) -> None:
    """Start the run; asked again, after a signal broke into this, it is started once all the same."""
    run = contextvars.copy_context().run
    threading.Thread(target=run, args=(_run, body, ending), name="run", daemon=True).start()


def _run(body: Callable[[], object], ending: _Ending) -> None:
    if not ending.turn.acquire(blocking=False):
        return
    ending.begun = True
    try:
        ending.report = body()
    except BaseException as error:  # noqa: BLE001 - it is raised again, in the main thread
        ending.error = error
    finally:
        ending.over = True
