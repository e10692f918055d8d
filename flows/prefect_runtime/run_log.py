"""What goes on in a run, in the log of its flow run: so that the Prefect UI tells the story too."""

import logging
from dataclasses import replace

from prefect.exceptions import CancelledRun
from prefect.logging import get_logger, get_run_logger

from flows.ports.caller import Caller
from tasks.errors import FleetpatchError, FleetPatchFailed, InternalError
from tasks.reporting.sanitizing import sanitize_to_one_line
from tasks.states import OperationState, Step
from tasks.steps.context.progress_listener import ProgressListener


class FlowRunLogger:
    """Writes what it is told to the flow run's log, and passes it on. Only within a flow run.

    Args:
        inner: who else wants to know.
    """

    def __init__(self, inner: ProgressListener) -> None:
        self._inner = inner

    def on_progress(self, machine: str, step: Step, fraction: float | None, message: str) -> None:
        """Pass it on; a log line for every percent would drown the rest."""
        self._inner.on_progress(machine, step, fraction, message)

    def on_step_finished(self, machine: str, step: Step, state: str, message: str) -> None:
        """Log the end of a step, as a warning when it went wrong."""
        log = get_run_logger()
        write = log.warning if state == OperationState.FAILED.value else log.info
        write("%s: %s %s%s", machine, step, state, f": {sanitize_to_one_line(message)}" if message else "")
        self._inner.on_step_finished(machine, step, state, message)

    def on_message(self, message: str) -> None:
        """Log it."""
        get_run_logger().info("%s", sanitize_to_one_line(message))
        self._inner.on_message(message)


class TracebackFilter(logging.Filter):
    """Lets Prefect tell of what we raise by its message. A traceback is for a fault of ours."""

    def filter(self, record: logging.LogRecord) -> bool:
        """Take the traceback of what is no fault out; what Prefect has said of it before is not said again."""
        error = record.exc_info[1] if isinstance(record.exc_info, tuple) else None
        if error is None:
            record.exc_info = None
        if isinstance(error, CancelledRun | FleetPatchFailed):
            return False
        if not isinstance(error, FleetpatchError) or isinstance(error, InternalError):
            return True
        record.exc_info = None
        words = str(record.msg)
        if words.startswith("Encountered exception"):
            record.msg, record.args = "%s%s", (error, f" {error.hint}" if error.hint else "")
        return not words.startswith("Engine execution")


_TRACEBACK_FILTER = TracebackFilter()


def log_to_flow_run(caller: Caller) -> Caller:
    """Return the caller, with what it is told written to the flow run's log too."""
    for name in ("flow_runs", "task_runs"):
        get_logger(name).addFilter(_TRACEBACK_FILTER)
    return replace(caller, listener=FlowRunLogger(caller.listener))
