"""The Prefect runner: the work as tasks; the plan, the waves and the report as artifacts.

Prefect only shows the work. Its server may become unavailable at any time: machines continue at once, and the report
says what Prefect did not receive. Prefect's client retries for a minute before it fails, and longer if connections
hang. So the runner makes its calls in background threads, and reads their results when the machines are done.
"""

import functools
import logging
import threading
import time
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from uuid import UUID

from prefect.client.schemas.objects import State
from prefect.context import TagsContext
from prefect.runtime import flow_run
from prefect.states import Crashed

from flows.engine.run_info import count_machines
from flows.ports.ports import Ports
from flows.ports.web_links import read_web_url
from flows.prefect_api.api_client import open_fail_fast_client
from flows.prefect_runtime.delivery import ApiMonitor, BackgroundCall, TaskRunDelivery
from flows.prefect_runtime.flow_run_states import close_flow_runs_of, close_stale_steps
from flows.prefect_runtime.run_artifacts import RunArtifacts, render_link
from flows.prefect_runtime.run_log import MAX_MACHINES_WITH_STEPS
from flows.prefect_runtime.task_run_states import (
    build_edge,
    build_state,
    build_step_state,
    evaluate_assessment,
    evaluate_wave,
)
from flows.request.patch_request import PatchRequest
from flows.request.read_requests import AssessRequest
from tasks.domain.errors import LeaseLost
from tasks.domain.model import Outcome, RunReport, Wave
from tasks.domain.protocols.records import build_lease_lost_error
from tasks.domain.states import OperationState, Step
from tasks.prefect_tasks import (
    ASSESS_ONCE,
    PART_TASK,
    STEP_TASKS,
    Execution,
    OpaqueReport,
    WorkTask,
    publish_report,
)
from tasks.reports.formatting import format_count
from tasks.reports.report_directory import find_report_directory
from tasks.steps.context.machine_context import MachineContext, MachineState
from tasks.steps.context.run_control import StopToken
from tasks.steps.pipeline import call_step_function, call_step_with_retries, find_settle_end, run_steps

logger = logging.getLogger(__name__)

DELIVERY_TIMEOUT_SECONDS = 90.0
"""How long to wait for a slow Prefect after the machines are done."""
RETURN_TIMEOUT_SECONDS = 30.0
"""How long to wait then until an unavailable Prefect answers again. A restart of its server takes less."""
POLL_SECONDS = 1.0  # how often the task run of an assessment looks whether the run must stop
LOG_RETRY_SECONDS = 60.0  # how long Prefect retries log lines; then they are lost in Prefect


class PrefectRunner:
    """Shows a run's work and waves in Prefect. Only inside a flow run.

    Args:
        directory: the directory of report files; None: artifacts only.
        shows_steps: whether each step of each machine is a task run. Else the assessment and each wave are one.
    """

    def __init__(self, directory: Path | None, formats: Sequence[str], ports: Ports, *, shows_steps: bool) -> None:
        self._shows_steps = shows_steps
        self.report_directory = directory
        self.report_formats: Sequence[str] = tuple(formats)
        self._ports = ports
        self._flow_run_id = str(flow_run.get_id() or "")
        self._web_url = read_web_url()
        self._api_monitor = ApiMonitor(UUID(self._flow_run_id))
        self._artifacts = RunArtifacts(
            UUID(self._flow_run_id), BackgroundCall, self._web_url, ports.stop_token.still_holds_lease
        )
        self._began_at = datetime.now(UTC)
        self._delivery = TaskRunDelivery()
        self._lock = threading.Lock()
        self._is_assessed = False
        self._part: _RunPart | None = None
        self._part_calls: list[BackgroundCall] = []
        self._parts: list[Execution] = []
        self._last_steps: dict[str, Execution] = {}

    def execute_steps(self, context: MachineContext, *, last: Step = Step.REPORT) -> MachineState:
        """Execute the steps of a machine, each in a task where ``shows_steps``."""
        if self._shows_steps:
            return run_steps(context, self._execute_step, last=last)
        if last is Step.ASSESS:
            self._begin_assessment()
        return run_steps(context, call_step_with_retries, last=last)

    def show_plan(self, planned: RunReport) -> None:
        """Show the plan as an artifact, in the background."""
        self._end_assessment(planned)
        self._artifacts.show_plan(planned)

    def show_wave_begin(self, wave: Wave) -> None:
        """Show in the progress that a wave begins. Prefect's API is watched until its end."""
        self._api_monitor.start()
        self._artifacts.show_wave_begin(wave)
        if not self._shows_steps:
            self._part = self._begin_part(f"wave {wave.number}")

    def show_wave_end(self, outcomes: Sequence[Outcome]) -> None:
        """Show in the progress how a wave has ended."""
        self._api_monitor.stop()
        self._artifacts.show_wave_end(outcomes)
        if self._part is not None:
            self._part.end(*evaluate_wave(outcomes))
            self._part = None

    def show_end(self, report: RunReport, files: Mapping[str, Path]) -> str:
        """Create artifacts, close what dead processes left open, and return what Prefect did not receive."""
        self._end_assessment(report)
        undelivered = self._find_undelivered(report, files)
        return _describe_undelivered(undelivered, self._api_monitor.unreachable_since) if undelivered else ""

    def _execute_step(self, context: MachineContext, step: Step) -> MachineState:
        """Run the step's task. Return or raise the step's own result."""
        lost: list[LeaseLost] = []

        def execute() -> State[None]:
            try:
                machine_state = call_step_function(context, step)
            except LeaseLost as error:
                lost.append(error)
            if lost or not self._ports.stop_token.still_holds_lease():  # its result is the other process's
                return Crashed(message=build_lease_lost_error().message)
            next_look = context.wait.until if context.wait is not None else find_settle_end(context)
            only_downloads = context.options.download_only
            return build_step_state(machine_state, step, download_only=only_downloads, next_look=next_look)

        task = ASSESS_ONCE if step is Step.ASSESS and context.is_retry_disabled else STEP_TASKS[step]
        before = self._last_steps.get(context.name)
        self._last_steps[context.name] = execution = Execution(f"{step} {context.name}", execute)
        self._run_task(task, execution, [before] if before is not None else [])
        if lost:
            raise lost[0]
        return context.state

    def _run_task(self, task: WorkTask, execution: Execution, before: Sequence[Execution]) -> None:
        """Run a task, and note what Prefect has of it. The work is done once, even if Prefect fails.

        The drawing of the run has an edge from each of the executions ``before`` it. They delay and prevent nothing.

        A task run without tags needs no call to the API. With tags it would wait for their concurrency limits, so it
        has none.

        Raises:
            BaseException: what the work raised.
        """
        try:
            with TagsContext(current_tags=set()):
                state = task(execution, return_state=True, wait_for=_build_edges(before))
        except Exception:  # an error of Prefect: an error of the work is inside the state
            logger.warning("Prefect can't show %s; the run continues", execution.name, exc_info=True)
            self._delivery.unshown.append(execution.name)
        else:
            task_run_id = state.state_details.task_run_id
            has_end = not state.is_completed() if execution.end is None else execution.end == (state.type, state.name)
            if task_run_id is not None and execution.has_begun and has_end:
                self._delivery.shown[task_run_id] = execution.name
            else:
                self._delivery.unshown.append(execution.name)
        if not execution.has_begun:
            execution.run()
        if execution.error is not None:
            raise execution.error

    def _begin_assessment(self) -> None:
        """Show that the assessment begins, once and before any wave: a late one belongs to its wave."""
        with self._lock:
            if not self._is_assessed and self._part is None:
                # a run that breaks off in its assessment says so in its stop token alone
                self._part = self._begin_part("assessment", self._ports.stop_token)

    def _end_assessment(self, report: RunReport) -> None:
        self._is_assessed = True
        if self._part is not None:
            self._part.end(*evaluate_assessment(report.assessments))
            self._part = None

    def _begin_part(self, name: str, stop_token: StopToken | None = None) -> "_RunPart":
        part = _RunPart(stop_token)
        execution, before = Execution(name, part.wait_for_end), self._parts[-1:]
        self._parts.append(execution)
        task_run = functools.partial(self._run_task, PART_TASK, execution, before)
        self._part_calls.append(BackgroundCall(f"the task run {name}", task_run))
        return part

    def _find_undelivered(self, report: RunReport, files: Mapping[str, Path]) -> list[str]:
        """Create what is missing in Prefect, wait until Prefect has everything, and return what it did not receive."""
        until = time.monotonic() + DELIVERY_TIMEOUT_SECONDS
        if self._api_monitor.is_unreachable:
            wait = f"waiting up to {RETURN_TIMEOUT_SECONDS:.0f} s for the Prefect server; the run itself is over"
            self._ports.listener.on_message(wait)
        if not self._api_monitor.wait_until_reachable(min(until, time.monotonic() + RETURN_TIMEOUT_SECONDS)):
            self._api_monitor.give_up()
            return [
                f"the ends of up to {format_count(len(self._delivery.shown), 'task run')}",
                "the artifacts",
                "how the flow run ended",
            ]
        artifacts = BackgroundCall("the artifacts", functools.partial(self._publish_to_prefect, report, files))
        undelivered = [] if artifacts.wait_until_delivered(until) else [artifacts.description]
        for call in self._part_calls:
            call.wait_until_delivered(until)
        is_doubtful = bool(undelivered or self._api_monitor.unreachable_seconds)
        if task_runs := self._delivery.describe_missing(until, is_doubtful=is_doubtful):
            undelivered.append(task_runs)
        if self._api_monitor.unreachable_seconds >= LOG_RETRY_SECONDS:
            undelivered.append(f"some log lines (it was unavailable for {self._api_monitor.unreachable_seconds:.0f} s)")
        return undelivered

    def _publish_to_prefect(self, report: RunReport, files: Mapping[str, Path]) -> None:
        """Show the end. If another process has taken the run meanwhile, take back what was shown.

        Raises:
            LeaseLost: it has.
        """
        if not self._ports.stop_token.may_tell():
            raise build_lease_lost_error()
        close_stale_steps(UUID(self._flow_run_id), self._began_at)
        link = render_link(report.run.id, self._web_url)
        before = _build_edges([*self._parts[-1:], *self._last_steps.values()])
        artifact_ids = publish_report(
            report.run.id, OpaqueReport(report), files.get("directory"), link, wait_for=before
        )
        self._artifacts.finish(report)
        if not self._ports.stop_token.may_tell():  # the process may have been stopped just before it wrote
            with open_fail_fast_client() as client:
                for artifact_id in artifact_ids:
                    client.delete_artifact(artifact_id)
            raise build_lease_lost_error()
        close_flow_runs_of(report, self._ports.find_flow_runs(report.run.id), self._flow_run_id)


class _RunPart:
    """A part of a run whose machines have no task runs: the assessment, a wave. Its task waits for its end.

    Args:
        stop_token: ends the part as well; None: only ``end`` does.
    """

    def __init__(self, stop_token: StopToken | None) -> None:
        self._over, self._stop_token = threading.Event(), stop_token
        self._end = OperationState.SUCCEEDED, ""

    def end(self, state: OperationState, message: str) -> None:
        """End the task run in this state."""
        self._end = state, message
        self._over.set()

    def wait_for_end(self) -> State[None]:
        """Return the state of the task run when the part has ended."""
        while not self._over.wait(POLL_SECONDS):
            if self._stop_token is not None and self._stop_token.is_stopping:
                return build_state(OperationState.CANCELLED, self._stop_token.reason)
        return build_state(*self._end)


def _build_edges(executions: Sequence[Execution]) -> list[State[bool]]:
    return [build_edge(one.task_run_id) for one in executions if one.task_run_id is not None]


def build_prefect_runner(request: PatchRequest | AssessRequest, ports: Ports) -> PrefectRunner:
    """Return the runner of a flow run. A patch run always writes its report, other runs only if requested.

    That of a shard writes none: its machines are in the report of the whole run.

    Raises:
        InventoryError: the scope is not usable.
    """
    directory = request.report_directory
    if isinstance(request, PatchRequest) and not request.shard:
        directory = find_report_directory(directory)
    shows_steps = count_machines(request, ports.inventory) <= MAX_MACHINES_WITH_STEPS  # all shards share one server
    return PrefectRunner(directory, request.report_formats, ports, shows_steps=shows_steps)


def _describe_undelivered(undelivered: Sequence[str], away_since: datetime | None) -> str:
    lacks, complete = ", ".join(undelivered), "The records and this report are complete."
    if away_since is None:
        return f"Prefect did not receive {lacks}. {complete}"
    return (
        f"Prefect can't be reached since {away_since:%Y-%m-%d %H:%M:%S} UTC: it did not receive {lacks}, and shows "
        f"this run as Running until `fleetpatch reconcile` corrects that. {complete}"
    )
