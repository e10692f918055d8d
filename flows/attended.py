"""A flow in the main thread of its process: what signals ask for reaches the run without breaking into it."""

import contextvars
import signal
import threading
from collections.abc import Callable
from dataclasses import dataclass
from types import FrameType, TracebackType
from typing import Any, Self

from prefect.exceptions import TerminationSignal

from tasks.model import RunReport
from tasks.steps.context import Control

LOOK_SECONDS = 0.2
SIGNALS = {signal.SIGINT: "Ctrl-C", signal.SIGTERM: "its process was told to end"}


@dataclass(slots=True)
class _Ending:
    report: RunReport | None = None
    error: BaseException | None = None


class _Heard:
    """Counts signals. Prefect's own handler raises in the middle of whatever the main thread does, once for each."""

    def __init__(self) -> None:
        self._before: dict[int, Any] = {}
        self.first: int | None = None
        self.leave = False

    def __enter__(self) -> Self:
        for number in SIGNALS:
            self._before[number] = signal.signal(number, self._hear)
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        """Hand the signals back."""
        for number, handler in self._before.items():
            signal.signal(number, handler)

    def _hear(self, number: int, _frame: FrameType | None) -> None:
        self.leave = self.leave or (self.first is not None and number == signal.SIGINT)
        self.first = self.first or number


def attended(body: Callable[[], RunReport], control: Control, stopped: Callable[[str], None]) -> RunReport:
    """Carry a run out in a thread of its own, while this one hears what is asked of the process.

    Left alone, Prefect ends a flow by an exception in the middle of its main thread. Here a signal asks the run to
    stop: it begins nothing more, passes that on to the jobs on machines, and is seen to its end, if the process is
    left alive that long. Only then the exception is raised, and Prefect gives the flow run its state.

    Args:
        body: carries the run out.
        control: of the run.
        stopped: told the reason, in a thread of its own: keeps it for whoever comes after this process.

    Raises:
        TerminationSignal: the process was told to end; the run has come to its end before.
        KeyboardInterrupt: so has it after a first Ctrl-C; a second one leaves at once.
    """
    if threading.current_thread() is not threading.main_thread():
        return body()  # signals don't come here
    ending = _Ending()
    thread = threading.Thread(target=contextvars.copy_context().run, args=(_run, body, ending), name="run", daemon=True)
    with _Heard() as heard:
        thread.start()
        told = False
        while thread.is_alive() and not heard.leave:
            thread.join(LOOK_SECONDS)
            if heard.first is not None and not told:
                told = True
                control.stop(SIGNALS[signal.Signals(heard.first)])
                threading.Thread(target=stopped, args=(control.reason,), name="note", daemon=True).start()
    if heard.first == signal.SIGTERM and not heard.leave:
        raise TerminationSignal(signal=signal.SIGTERM)
    if heard.first is not None:
        raise KeyboardInterrupt
    if ending.report is None:
        raise ending.error or RuntimeError("the run ended without a report")
    return ending.report


def _run(body: Callable[[], RunReport], ending: _Ending) -> None:
    try:
        ending.report = body()
    except BaseException as error:  # noqa: BLE001 - it is raised again, in the main thread
        ending.error = error
