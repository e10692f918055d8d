"""Runs without Prefect: the same engine and the same requests, in this process."""

import functools
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from flows.execution import execute
from flows.ports.caller import Caller
from flows.ports.ports import Ports, ReportErrorHandler, RolloutReader, log_report_error
from flows.request import PatchRequest, RunRequest
from tasks.domain.errors import PatchError
from tasks.domain.model import Outcome, RunReport, Wave
from tasks.domain.states import Step
from tasks.reports.report_directory import find_report_directory
from tasks.steps.context.machine_context import MachineContext, MachineState
from tasks.steps.pipeline import execute_step


class LocalRunner:
    """A runner that does everything in this process, without Prefect."""

    def __init__(
        self,
        directory: Path | None = None,
        formats: Sequence[str] = (),
        read_logs: Callable[[RunReport], Mapping[str, str]] = lambda report: {},  # noqa: ARG005 - none is kept anywhere
        handle_report_error: ReportErrorHandler | None = None,
        read_rollout: RolloutReader = lambda report: None,  # noqa: ARG005 - without records there is none
    ) -> None:
        self._directory = directory
        self._formats = tuple(formats)
        self._read_logs = read_logs
        self._handle_report_error = handle_report_error or log_report_error
        self._read_rollout = read_rollout
        self.written_files: dict[str, Path] = {}

    def run_step(self, context: MachineContext, step: Step) -> MachineState:
        """Call the step's function."""
        return execute_step(context, step)

    def show_plan(self, planned: RunReport) -> None:
        """Show nothing: the command prints the plan itself."""

    def begin_wave(self, wave: Wave) -> None:
        """Show nothing: the listener has the message."""

    def end_wave(self, outcomes: Sequence[Outcome]) -> None:
        """Show nothing."""

    def publish(self, report: RunReport) -> None:
        """Write the report files. If that fails, the error is reported and the run does not fail."""
        if self._directory is None:
            return
        from tasks.reports.writer import write_report  # noqa: PLC0415 - it loads pandas, which a plan can do without

        try:
            self.written_files = write_report(
                report,
                self._directory,
                self._read_logs(report),
                self._formats,
                rollout=self._read_rollout(report),
            )
        except PatchError as error:
            self._handle_report_error(report.run.id, error)


def execute_locally(request: RunRequest, caller: Caller) -> RunReport:
    """Execute a request without Prefect. Write report files if the request names a directory.

    Unlike the flows, this function does not raise if a machine failed. The report has the failure.

    Raises:
        InventoryError: the inventory or the scope is not usable.
        RequestError: it is a run of a configuration without a window.
        RecordsError: the records are not usable.
    """
    if isinstance(request, PatchRequest):
        request.require_window()
    return execute(request, caller, functools.partial(_build_local_runner, request.report_directory))


def build_reporting_runner(request: RunRequest, ports: Ports) -> LocalRunner:
    """Return a runner without Prefect that writes the report to the request's directory or the user's data folder."""
    return _build_local_runner(find_report_directory(request.report_directory), request, ports)


def _build_local_runner(directory: Path | None, request: RunRequest, ports: Ports) -> LocalRunner:
    return LocalRunner(
        directory, request.report_formats, ports.read_logs, ports.handle_report_error, ports.read_rollout
    )
