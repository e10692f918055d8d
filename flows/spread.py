"""The Prefect runner: steps as tasks, waves as subflows, reports as artifacts."""

import logging
from collections.abc import Callable, Mapping, Sequence
from contextvars import ContextVar
from pathlib import Path

from prefect import flow
from prefect.client.schemas.objects import State
from prefect.states import Completed, Failed
from prefect.tasks import Task

from flows.ports import Ports
from flows.request import AssessRequest, PatchRequest
from flows.wiring import report_directory
from tasks.assess import assess_machine
from tasks.errors import RecordsError
from tasks.install import install_updates
from tasks.model import Outcome, RunReport, Wave
from tasks.precheck import precheck_machine
from tasks.reboot import reboot_machine
from tasks.report import Sealed, publish_report
from tasks.rules.verdict import run_state
from tasks.states import OperationState, Step
from tasks.steps.context import MachineRun, Work
from tasks.validate import validate_machine
from tasks.verdict import Handed

logger = logging.getLogger(__name__)

TASKS: Mapping[Step, Task[[Work], MachineRun | State[Handed]]] = {
    Step.ASSESS: assess_machine,
    Step.PRECHECK: precheck_machine,
    Step.INSTALL: install_updates,
    Step.REBOOT: reboot_machine,
    Step.VALIDATE: validate_machine,
}

_BODY: ContextVar[Callable[[], Sequence[Outcome]]] = ContextVar("fleetpatch_wave_body")
_OUTCOMES: ContextVar[list[Outcome]] = ContextVar("fleetpatch_wave_outcomes")


@flow(name="patch-wave", flow_run_name="wave-{number}", persist_result=False, validate_parameters=False)
def patch_wave(number: int, machines: list[str], canary: bool = False) -> State[None]:  # noqa: ARG001
    """Patch one wave of machines. Only ever run as a part of patch_fleet.

    Args:
        number: of the wave, from 1.
        machines: names of the machines in it.
        canary: whether it goes before all others.
    """
    outcomes = _BODY.get()()
    _OUTCOMES.get().extend(outcomes)
    failed = [outcome.machine for outcome in outcomes if outcome.state is OperationState.FAILED]
    if failed:
        return Failed(message=f"{len(failed)} of {len(outcomes)} machines failed: {', '.join(failed[:20])}")
    return Completed(message=f"{len(outcomes)} machines: {run_state(outcomes)}")


class PrefectRunner:
    """Shows a run's parts in Prefect. Only within a flow run.

    Args:
        directory: where report files go; None: only artifacts.
        formats: of the report files.
        logs: finds the raw output of each machine's jobs.
    """

    def __init__(
        self, directory: Path | None, formats: Sequence[str], logs: Callable[[RunReport], dict[str, str]]
    ) -> None:
        self._directory = directory
        self._formats = tuple(formats)
        self._logs = logs
        self.written: dict[str, Path] = {}

    def step(self, work: Work, step: Step) -> MachineRun:
        """Run the step's task; what it raises is raised here, what it returns in a Failed state is returned."""
        state = TASKS[step](work, return_state=True)
        result = state.result(raise_on_failure=False)
        if isinstance(result, Handed):
            return result.run
        if isinstance(result, MachineRun):
            return result
        if isinstance(result, BaseException):
            raise result
        raise TypeError(f"step {step} of {work.name} gave {type(result).__name__}")

    def wave(self, wave: Wave, body: Callable[[], Sequence[Outcome]]) -> Sequence[Outcome]:
        """Run the wave as a subflow."""
        outcomes: list[Outcome] = []
        told, kept = _BODY.set(body), _OUTCOMES.set(outcomes)
        try:
            state = patch_wave(wave.number, list(wave.machines), wave.canary, return_state=True)
            if not outcomes:
                state.result()  # the wave itself broke: let that be known
        finally:
            _BODY.reset(told)
            _OUTCOMES.reset(kept)
        return outcomes

    def publish(self, report: RunReport) -> None:
        """Write files and artifacts. A report that can't be shown does not make a run fail: it says so in the log."""
        try:
            logs = self._logs(report)
        except RecordsError as error:
            logger.error("the report of run %s is without raw output: %s", report.run.id, error)  # noqa: TRY400 - no fault of ours
            logs = {}
        sealed = Sealed(report, logs)
        state = publish_report(report.run.id, sealed, self._directory, self._formats, return_state=True)
        result = state.result(raise_on_failure=False)
        if isinstance(result, dict):
            self.written = result
        else:
            logger.error("the report of run %s could not be written: %s", report.run.id, result)


def prefect_runner(request: PatchRequest | AssessRequest, ports: Ports) -> PrefectRunner:
    """Return the runner of a flow run. A patch run's report always goes somewhere; another's where it was asked."""
    directory = request.report_directory
    if isinstance(request, PatchRequest):
        directory = report_directory(directory)
    return PrefectRunner(directory, request.report_formats, ports.logs)
