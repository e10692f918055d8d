"""Write the progress of a run to the log of its flow run, for the Prefect UI."""

import threading
from dataclasses import replace
from typing import Final

from prefect.logging import get_logger, get_run_logger

from flows.ports.caller import Caller
from flows.prefect_api.log_filters import TracebackFilter
from tasks.domain.states import OperationState, Step
from tasks.reports.sanitizing import sanitize_to_one_line
from tasks.steps.context.run_control import ProgressListener

MAX_MACHINES_WITH_STEPS: Final = 200
"""Up to so many machines of a run, each step of each machine is a task run, and a line in the log of its flow run. With
more, the assessment and each wave are a task run.

A task run has three events, and costs 4 ms of a processor here and 8 ms at the server. The server keeps 10,000 events
in memory, and drops what comes when that is full (``flows/prefect_api/server_settings.py``).
"""


class FlowRunLogger:
    """Writes messages to the flow run's log, and passes them on. Only inside a flow run.

    Of a run with many machines, only steps that did not succeed are logged: nobody reads thousands of lines there.
    """

    def __init__(self, inner: ProgressListener) -> None:
        self._inner = inner
        self._machines: set[str] = set()
        self._is_brief = False
        self._lock = threading.Lock()

    def on_progress(self, machine: str, step: Step, fraction: float | None, message: str) -> None:
        """Pass the progress on. It is not logged, because one line for each percent is too much."""
        self._inner.on_progress(machine, step, fraction, message)

    def on_step_finished(self, machine: str, step: Step, state: str, message: str) -> None:
        """Log the end of a step; a failed step is a warning."""
        with self._lock:
            self._machines.add(machine)
            becomes_brief = not self._is_brief and len(self._machines) > MAX_MACHINES_WITH_STEPS
            self._is_brief |= becomes_brief
        if becomes_brief:
            get_run_logger().info(
                "these were the first %d machines: from here on only steps that did not succeed are logged here",
                MAX_MACHINES_WITH_STEPS,
            )
        if not self._is_brief or state != OperationState.SUCCEEDED.value:
            log = get_run_logger()
            write = log.warning if state == OperationState.FAILED.value else log.info
            write("%s: %s %s%s", machine, step, state, f": {sanitize_to_one_line(message)}" if message else "")
        self._inner.on_step_finished(machine, step, state, message)

    def on_message(self, message: str) -> None:
        """Log the message and pass it on."""
        get_run_logger().info("%s", sanitize_to_one_line(message))
        self._inner.on_message(message)


_TRACEBACK_FILTER = TracebackFilter()


def log_to_flow_run(caller: Caller) -> Caller:
    """Return the caller with a listener that also writes to the flow run's log."""
    for name in ("flow_runs", "task_runs"):
        get_logger(name).addFilter(_TRACEBACK_FILTER)
    return replace(caller, listener=FlowRunLogger(caller.listener))
