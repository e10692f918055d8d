"""Runs without Prefect: the same engine and the same requests, in this process."""

from collections.abc import Mapping, Sequence
from pathlib import Path

from flows.execution import execute_run
from flows.ports.caller import Caller
from flows.ports.ports import Ports
from flows.request import PatchRequest, RunRequest
from tasks.domain.model import Outcome, RunReport, Wave
from tasks.domain.states import Step
from tasks.reports.report_directory import find_report_directory
from tasks.steps.context.machine_context import MachineContext, MachineState
from tasks.steps.pipeline import call_step_function, run_steps


class LocalRunner:
    """A runner that does everything in this process, without Prefect."""

    def __init__(self, directory: Path | None = None, formats: Sequence[str] = ()) -> None:
        self.report_directory = directory
        self.report_formats: Sequence[str] = tuple(formats)

    def execute_steps(self, context: MachineContext, *, last: Step = Step.REPORT) -> MachineState:
        """Call the functions of the steps."""
        return run_steps(context, call_step_function, last=last)

    def show_plan(self, planned: RunReport) -> None:
        """Show nothing: the command prints the plan itself."""

    def show_wave_begin(self, wave: Wave) -> None:
        """Show nothing: the listener has the message."""

    def show_wave_end(self, outcomes: Sequence[Outcome]) -> None:
        """Show nothing."""

    def show_end(self, report: RunReport, files: Mapping[str, Path]) -> str:  # noqa: ARG002 - the protocol's names
        """Show nothing: the command prints the report itself."""
        return ""


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
    return execute_run(request, caller, lambda asked, _ports: LocalRunner(asked.report_directory, asked.report_formats))


def build_reporting_runner(request: RunRequest, _ports: Ports) -> LocalRunner:
    """Return a runner without Prefect that writes the report to the request's directory or the user's data folder."""
    return LocalRunner(find_report_directory(request.report_directory), request.report_formats)
