"""The Prefect runner: steps as tasks, waves as subflows, reports as artifacts.

A StepAttempt keeps a step's own result, whatever state the task run has.

Prefect only shows the work. Its server may become unavailable at any time: machines continue at once, and the report
says what Prefect did not receive. Prefect's client retries for a minute before it fails, and longer if connections
hang. So the runner makes its calls in background threads, and reads their results when the machines are done.
"""

import contextvars
import functools
import logging
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from contextvars import ContextVar
from dataclasses import replace
from datetime import datetime
from pathlib import Path
from uuid import UUID

from prefect.client.schemas.objects import State
from prefect.context import TagsContext
from prefect.runtime import flow_run
from prefect.states import Completed, Failed
from prefect.tasks import Task

from flows.ports.ports import Ports
from flows.ports.web_links import read_web_url
from flows.prefect_runtime.api_health import ApiMonitor
from flows.prefect_runtime.flow_run_names import build_wave_name, describe_subject
from flows.prefect_runtime.flow_run_states import close_stale_flow_run, close_stale_waves
from flows.prefect_runtime.run_artifacts import RunArtifacts, render_link
from flows.prefect_runtime.step_delivery import StepDelivery
from flows.prefect_runtime.wave_subflow import WaveSubflow
from flows.request.assess_request import AssessRequest
from flows.request.patch_request import PatchRequest
from tasks.domain.errors import FleetpatchError, InternalError, RecordsError
from tasks.domain.model import Outcome, RunReport, Wave
from tasks.domain.states import OperationState, Step
from tasks.prefect_tasks import (
    OpaqueMachineState,
    OpaqueReport,
    assess_machine,
    install_updates,
    precheck_machine,
    publish_report,
    reboot_machine,
    validate_machine,
)
from tasks.reports.formatting import format_count
from tasks.reports.report_directory import find_report_directory
from tasks.reports.writer import write_report
from tasks.rules.runs.outcome import determine_run_state
from tasks.steps.context.machine_context import MachineContext
from tasks.steps.context.machine_state import MachineState
from tasks.steps.pipeline import execute_step

logger = logging.getLogger(__name__)

SUBFLOW_START_SECONDS = 10.0
"""How long a wave waits for its subflow. After that its steps appear under the run, and the wave appears later.

If Prefect is that slow, the next wave does not wait at all: a run of many waves would lose minutes of its window.
"""
DELIVERY_TIMEOUT_SECONDS = 90.0
"""How long to wait for a slow Prefect after the machines are done."""
RETURN_TIMEOUT_SECONDS = 30.0
"""How long to wait then until an unavailable Prefect answers again. A restart of its server takes less."""
LOG_RETRY_SECONDS = 60.0  # how long Prefect retries log lines; then they are lost in Prefect


StepTask = Task[[MachineContext], MachineState | State[OpaqueMachineState]]


class StepAttempt:
    """One execution of a step of a machine, independent of the task run that shows it."""

    __slots__ = ("begun", "error", "well")

    def __init__(self) -> None:
        self.begun = False
        self.well = False
        self.error: BaseException | None = None

    def run(
        self, body: Callable[[MachineContext], MachineState | State[OpaqueMachineState]], context: MachineContext
    ) -> MachineState | State[OpaqueMachineState]:
        """Run the body and return its result. Keep the error that it raises."""
        self.begun, self.well, self.error = True, False, None
        try:
            result = body(context)
        except BaseException as error:
            self.error = error
            raise
        self.well = not isinstance(result, State)
        return result

    def get_result(self, context: MachineContext) -> MachineState:
        """Return the step's result, or raise its error."""
        if self.error is not None:
            raise self.error
        return context.state


CURRENT_ATTEMPT: ContextVar[StepAttempt] = ContextVar("fleetpatch_turn")


def wrap_step_task(task: StepTask) -> StepTask:
    """Return a copy of the task that keeps its body's result. Prefect may fail before or after the body."""
    wrapped_task, body = task.with_options(), task.fn

    @functools.wraps(body)
    def run_attempt(context: MachineContext) -> MachineState | State[OpaqueMachineState]:
        return CURRENT_ATTEMPT.get().run(body, context)

    wrapped_task.fn = run_attempt
    return wrapped_task


STEP_TASKS: Mapping[Step, StepTask] = {
    Step.ASSESS: wrap_step_task(assess_machine),
    Step.PRECHECK: wrap_step_task(precheck_machine),
    Step.INSTALL: wrap_step_task(install_updates),
    Step.REBOOT: wrap_step_task(reboot_machine),
    Step.VALIDATE: wrap_step_task(validate_machine),
}


STEP_TASKS_WITHOUT_RETRY: Mapping[Step, StepTask] = {
    Step.ASSESS: wrap_step_task(assess_machine.with_options(retries=0))
}
"""For machines without retries (see ``MachineContext.is_retry_disabled``)."""


class PrefectRunner:
    """Shows a run's steps and waves in Prefect. Only inside a flow run.

    Args:
        directory: the directory of report files; None: artifacts only.
        formats: the formats of the report files.
        ports: the ports of the run.
        subject: what the run is for, in the names of its waves.
    """

    def __init__(self, directory: Path | None, formats: Sequence[str], ports: Ports, subject: str = "run") -> None:
        self._directory = directory
        self._formats = tuple(formats)
        self._ports = ports
        self._flow_run_id = str(flow_run.get_id() or "")
        self._subject = subject
        self._web_url = read_web_url()
        self._api_monitor = ApiMonitor(UUID(self._flow_run_id))
        self._artifacts = RunArtifacts(UUID(self._flow_run_id), BackgroundCall, self._web_url)
        self._background_calls: list[BackgroundCall] = []
        self._wave_subflows: list[WaveSubflow] = []
        self._step_delivery = StepDelivery()
        self.written_files: dict[str, Path] = {}

    def run_step(self, context: MachineContext, step: Step) -> MachineState:
        """Run the step's task. Return or raise the step's own result. Run the step once, even if Prefect fails.

        A task run without tags needs no call to the API. With tags it would wait for their concurrency limits, so it
        has none.
        """
        name, attempt = f"{step} {context.name}", StepAttempt()
        token = CURRENT_ATTEMPT.set(attempt)
        try:
            with TagsContext(current_tags=set()):
                task = (
                    STEP_TASKS_WITHOUT_RETRY.get(step, STEP_TASKS[step])
                    if context.is_retry_disabled
                    else STEP_TASKS[step]
                )
                state = task(context, return_state=True)
            if state.state_details.task_run_id is not None and state.is_completed() is attempt.well:
                self._step_delivery.add_shown(state.state_details.task_run_id, name)
            else:
                self._step_delivery.add_unshown(name)
        except Exception:  # an error of Prefect: an error of the step is inside the state
            logger.warning("Prefect can't show %s; the run continues", name, exc_info=True)
            self._step_delivery.add_unshown(name)
        finally:
            CURRENT_ATTEMPT.reset(token)
        return attempt.get_result(context) if attempt.begun else execute_step(context, step)

    def show_plan(self, planned: RunReport) -> None:
        """Show the plan as an artifact, in the background."""
        self._artifacts.show_plan(planned)

    def run_wave(self, wave: Wave, body: Callable[[], Sequence[Outcome]]) -> Sequence[Outcome]:
        """Run the wave's work in this thread, as part of its subflow if there is one."""
        name = build_wave_name(self._subject, wave.number, self._artifacts.wave_count, len(wave.machines))
        subflow = WaveSubflow(wave, self._api_monitor, name)
        self._artifacts.begin_wave(wave)
        lateness = (each.is_late(SUBFLOW_START_SECONDS) for each in reversed(self._wave_subflows))
        is_slow = next((is_late for is_late in lateness if is_late is not None), False)
        self._wave_subflows.append(subflow)
        self._background_calls.append(BackgroundCall(f"wave-{wave.number}", subflow.run_subflow))
        try:
            is_hopeless = is_slow or self._api_monitor.is_unreachable
            inside = subflow.wait_for_context(0.0 if is_hopeless else SUBFLOW_START_SECONDS)
            with self._api_monitor:
                outcomes = inside.run(body)
        except BaseException as error:
            subflow.finish(Failed(message=f"it broke off: {type(error).__name__}: {error}"))
            raise
        subflow.finish(_build_wave_state(outcomes))
        self._artifacts.end_wave(outcomes)
        return outcomes

    def publish(self, report: RunReport) -> None:
        """Write the report files, then create artifacts. A failure is reported, and does not fail the run."""
        try:
            logs = self._ports.read_logs(report)
        except RecordsError as error:
            logger.error("the report of run %s is without raw output: %s", report.run.id, error)  # noqa: TRY400 - no fault of ours
            logs = {}
        self._write_files(report, logs)
        undelivered = self._find_undelivered(report)
        if not undelivered:
            return
        note = _describe_undelivered(undelivered, self._api_monitor.unreachable_since)
        self._ports.listener.on_message(note)
        message = f"{report.run.message}; {note}" if report.run.message else note
        report = replace(report, run=replace(report.run, message=message))
        self._write_files(report, logs)
        try:
            self._ports.records.save(report)
        except RecordsError as error:
            logger.error("what Prefect did not receive of run %s is not in the records: %s", report.run.id, error)  # noqa: TRY400

    def _write_files(self, report: RunReport, logs: Mapping[str, str]) -> None:
        if self._directory is None:
            return
        try:
            self.written_files = write_report(
                report, self._directory, logs, self._formats, rollout=self._ports.read_rollout(report)
            )
        except FleetpatchError as error:
            self._ports.handle_report_error(report.run.id, error)
        except Exception as error:
            logger.exception("the report of run %s could not be made", report.run.id)
            self._ports.handle_report_error(report.run.id, InternalError(f"{type(error).__name__}: {error}"))

    def _find_undelivered(self, report: RunReport) -> list[str]:
        """Create what is missing in Prefect, wait until Prefect has everything, and return what it did not receive."""
        until = time.monotonic() + DELIVERY_TIMEOUT_SECONDS
        if self._api_monitor.is_unreachable:
            wait = f"waiting up to {RETURN_TIMEOUT_SECONDS:.0f} s for the Prefect server; the run itself is over"
            self._ports.listener.on_message(wait)
        if not self._api_monitor.wait_until_reachable(min(until, time.monotonic() + RETURN_TIMEOUT_SECONDS)):
            self._api_monitor.give_up()
            undelivered = [each.description for each in self._background_calls if not each.wait_until_delivered(0.0)]
            return [
                *undelivered,
                f"the ends of up to {format_count(self._step_delivery.shown_count, 'step')}",
                "the artifacts",
                "how the flow run ended",
            ]
        artifacts = BackgroundCall("the artifacts", functools.partial(self._publish_to_prefect, report))
        undelivered = [
            each.description for each in (*self._background_calls, artifacts) if not each.wait_until_delivered(until)
        ]
        is_doubtful = bool(undelivered or self._api_monitor.unreachable_seconds)
        if steps := self._step_delivery.describe_missing(until, is_doubtful=is_doubtful):
            undelivered.append(steps)
        if self._api_monitor.unreachable_seconds >= LOG_RETRY_SECONDS:
            undelivered.append(f"some log lines (it was unavailable for {self._api_monitor.unreachable_seconds:.0f} s)")
        return undelivered

    def _publish_to_prefect(self, report: RunReport) -> None:
        first = report.run.flow_run_id
        if first and first != self._flow_run_id:
            close_stale_flow_run(first, report.run)
        own_wave_ids = [each.id for each in self._wave_subflows if each.id is not None]
        # Only if all ids are known: a subflow that is created now looks like one of an earlier process.
        if len(own_wave_ids) == len(self._wave_subflows):
            close_stale_waves(UUID(self._flow_run_id), own_wave_ids)
        link = render_link(report.run.id, self._web_url)
        publish_report(report.run.id, OpaqueReport(report), self.written_files.get("directory"), link)
        self._artifacts.finish(report)


def build_prefect_runner(request: PatchRequest | AssessRequest, ports: Ports) -> PrefectRunner:
    """Return the runner of a flow run. A patch run always writes its report, other runs only if requested."""
    directory = request.report_directory
    if isinstance(request, PatchRequest):
        directory = find_report_directory(directory)
    return PrefectRunner(directory, request.report_formats, ports, describe_subject(request))


def _build_wave_state(outcomes: Sequence[Outcome]) -> State[None]:
    failed = [outcome.machine for outcome in outcomes if outcome.state is OperationState.FAILED]
    if failed:
        return Failed(
            message=f"{len(failed)} of {format_count(len(outcomes), 'machine')} failed: {', '.join(failed[:20])}"
        )
    return Completed(message=f"{format_count(len(outcomes), 'machine')}: {determine_run_state(outcomes)}")


def _describe_undelivered(undelivered: Sequence[str], away_since: datetime | None) -> str:
    lacks, complete = ", ".join(undelivered), "The records and this report are complete."
    if away_since is None:
        return f"Prefect did not receive {lacks}. {complete}"
    return (
        f"Prefect can't be reached since {away_since:%Y-%m-%d %H:%M:%S} UTC: it did not receive {lacks}, and shows "
        f"this run as Running until `fleetpatch reconcile` corrects that. {complete}"
    )


class BackgroundCall:
    """A call to Prefect in a separate thread, in the context of the present flow run.

    Args:
        description: a few words for messages.
        call: the call; it may take long, and it may raise.
    """

    def __init__(self, description: str, call: Callable[[], object]) -> None:
        self.description = description
        self._error: BaseException | None = None
        self._finished = threading.Event()
        run = contextvars.copy_context().run
        threading.Thread(
            target=run, args=(self._run, call), name=f"telling Prefect: {description}", daemon=True
        ).start()

    def _run(self, call: Callable[[], object]) -> None:
        try:
            call()
        except BaseException as error:  # noqa: BLE001 - it is said below; Prefect's own signals are no Exceptions
            self._error = error
            logger.info("Prefect did not receive %s: %s: %s", self.description, type(error).__name__, error)
        finally:
            self._finished.set()

    def wait_until_delivered(self, until: float) -> bool:
        """Wait for the call until this ``time.monotonic()``. Return whether it succeeded."""
        return self._finished.wait(max(0.0, until - time.monotonic())) and self._error is None
