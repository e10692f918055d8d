"""What goes on in a run, in the log of its flow run: so that the Prefect UI tells the story too."""

from dataclasses import replace

from prefect.logging import get_run_logger

from flows.context import Caller
from tasks.reporting.text import one_line
from tasks.states import OperationState, Step
from tasks.steps.context import Watcher


class RunLog:
    """Writes what it is told to the flow run's log, and passes it on. Only within a flow run.

    Args:
        inner: who else wants to know.
    """

    def __init__(self, inner: Watcher) -> None:
        self._inner = inner

    def progress(self, machine: str, step: Step, fraction: float | None, message: str) -> None:
        """Pass it on; a log line for every percent would drown the rest."""
        self._inner.progress(machine, step, fraction, message)

    def finished(self, machine: str, step: Step, state: str, message: str) -> None:
        """Log the end of a step, as a warning when it went wrong."""
        log = get_run_logger()
        write = log.warning if state == OperationState.FAILED.value else log.info
        write("%s: %s %s%s", machine, step, state, f": {one_line(message)}" if message else "")
        self._inner.finished(machine, step, state, message)

    def said(self, message: str) -> None:
        """Log it."""
        get_run_logger().info("%s", one_line(message))
        self._inner.said(message)


def logged(who: Caller) -> Caller:
    """Return the caller, with what it is told written to the flow run's log too."""
    return replace(who, watch=RunLog(who.watch))
