"""Runs without Prefect: the same engine, in this process, from the same requests."""

import functools
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from flows.execution import RunRequest, execute
from flows.ports.caller import Caller
from flows.ports.ports import Ports, ReportErrorHandler, log_report_error
from flows.ports.report_directory import find_report_directory
from flows.request.patch_request import PatchRequest
from tasks.errors import PatchError
from tasks.model import Outcome, RunReport, Wave
from tasks.states import Step
from tasks.steps.context.machine_context import MachineContext
from tasks.steps.context.machine_state import MachineState
from tasks.steps.pipeline import execute_step


class LocalRunner:
    """Everything in this process, without Prefect.

    Args:
        directory: where report files go; None: there are none.
        formats: of the report files.
        read_logs: finds the raw output of each machine's jobs.
        handle_report_error: hears of a report that can't be written.
    """

    def __init__(
        self,
        directory: Path | None = None,
        formats: Sequence[str] = (),
        read_logs: Callable[[RunReport], Mapping[str, str]] = lambda report: {},  # noqa: ARG005 - none is kept anywhere
        handle_report_error: ReportErrorHandler | None = None,
    ) -> None:
        self._directory = directory
        self._formats = tuple(formats)
        self._read_logs = read_logs
        self._handle_report_error = handle_report_error or log_report_error
        self.written_files: dict[str, Path] = {}

    def run_step(self, context: MachineContext, step: Step) -> MachineState:
        """Call the step's function."""
        return execute_step(context, step)

    def run_wave(self, wave: Wave, body: Callable[[], Sequence[Outcome]]) -> Sequence[Outcome]:  # noqa: ARG002 - the seam's
        """Call the body."""
        return body()

    def publish(self, report: RunReport) -> None:
        """Write files. A report that can't be written does not make a run fail: it is said."""
        if self._directory is None:
            return
        from tasks.reporting.writer import write_report  # noqa: PLC0415 - it loads pandas, which a plan can do without

        try:
            self.written_files = write_report(report, self._directory, self._read_logs(report), self._formats)
        except PatchError as error:
            self._handle_report_error(report.run.id, error)


def execute_locally(request: RunRequest, caller: Caller) -> RunReport:
    """Do what was asked, without Prefect. Report files are written where the request names a directory.

    Unlike the flows, it does not raise when a machine failed: the report says so.

    Raises:
        InventoryError: the inventory or the scope can't be used.
        RequestError: it is a run of a configuration without a window.
        RecordsError: history can't be kept.
    """
    if isinstance(request, PatchRequest):
        request.require_window()
    return execute(request, caller, functools.partial(_build_local_runner, request.report_directory))


def build_reporting_runner(request: RunRequest, ports: Ports) -> LocalRunner:
    """Return a runner without Prefect that writes the report where it was asked, or else in the user's data folder."""
    return _build_local_runner(find_report_directory(request.report_directory), request, ports)


def _build_local_runner(directory: Path | None, request: RunRequest, ports: Ports) -> LocalRunner:
    return LocalRunner(directory, request.report_formats, ports.read_logs, ports.handle_report_error)
