"""The Prefect runner: steps as tasks, waves as subflows, reports as artifacts.

Prefect shows what is done, and does none of it. Its server may go away at any moment: machines go on without it, at
once, and what it did not hear of is said in the report.
"""

import contextvars
import functools
import logging
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from contextvars import Context, ContextVar
from dataclasses import replace
from pathlib import Path
from typing import Any, cast
from uuid import UUID

from prefect import flow
from prefect.client.orchestration import get_client
from prefect.client.schemas.objects import FlowRun, State
from prefect.context import FlowRunContext, TagsContext
from prefect.flow_engine import run_flow_sync
from prefect.runtime import flow_run
from prefect.states import Completed, Failed
from prefect.tasks import Task

from flows.hearing import NO_ANSWER, Ear, Telling, tasks_unheard
from flows.ports import Ports
from flows.predecessor import bury, bury_waves, waves_of
from flows.request import AssessRequest, PatchRequest
from flows.wiring import report_directory
from tasks.assess import assess_machine
from tasks.errors import FleetpatchError, InternalError, RecordsError
from tasks.install import install_updates
from tasks.model import Outcome, RunReport, Wave
from tasks.precheck import precheck_machine
from tasks.reboot import reboot_machine
from tasks.report import Sealed, publish_report
from tasks.reporting.write import write_report
from tasks.rules.verdict import run_state
from tasks.states import OperationState, Step
from tasks.steps.context import MachineRun, Work
from tasks.steps.order import perform
from tasks.validate import validate_machine
from tasks.verdict import Handed

logger = logging.getLogger(__name__)

BEGIN_SECONDS = 10.0
"""How long a wave waits to be shown. Beyond that its steps are shown as the run's own, and the wave when it can be."""
PATIENCE_SECONDS = 90.0
"""How long Prefect is waited for when the machines are done and it is away."""
LOGS_HOLD_SECONDS = 60.0  # how long Prefect keeps trying to send log lines; then they are lost to it
NAMED_AT_MOST = 10

StepTask = Task[[Work], MachineRun | State[Handed]]


class _Turn:
    """One step of one machine, whatever becomes of the task run that shows it."""

    __slots__ = ("begun", "error", "well")

    def __init__(self) -> None:
        self.begun = False
        self.well = False
        self.error: BaseException | None = None

    def carry_out(self, body: Callable[[Work], MachineRun | State[Handed]], work: Work) -> MachineRun | State[Handed]:
        """Do it, and keep what it raises; its result is the work's own."""
        self.begun, self.well, self.error = True, False, None
        try:
            result = body(work)
        except BaseException as error:
            self.error = error
            raise
        self.well = not isinstance(result, State)
        return result

    def came_to(self, work: Work) -> MachineRun:
        """Return what was done, or raise what went wrong."""
        if self.error is not None:
            raise self.error
        return work.run


_TURN: ContextVar[_Turn] = ContextVar("fleetpatch_turn")


def _witnessed(task: StepTask) -> StepTask:
    """Return the task with its turn told what the body did: Prefect may break before it, or behind it."""
    seen, body = task.with_options(), task.fn

    @functools.wraps(body)
    def fn(work: Work) -> MachineRun | State[Handed]:
        return _TURN.get().carry_out(body, work)

    seen.fn = fn
    return seen


TASKS: Mapping[Step, StepTask] = {
    Step.ASSESS: _witnessed(assess_machine),
    Step.PRECHECK: _witnessed(precheck_machine),
    Step.INSTALL: _witnessed(install_updates),
    Step.REBOOT: _witnessed(reboot_machine),
    Step.VALIDATE: _witnessed(validate_machine),
}


ASKED_ONCE: Mapping[Step, StepTask] = {Step.ASSESS: _witnessed(assess_machine.with_options(retries=0))}
"""For machines that are not waited for (see ``Work.is_asked_once``)."""


class _Shown:
    """A wave's subflow: it stands beside the wave's work for as long as that takes, in a thread of its own."""

    def __init__(self, wave: Wave, ear: Ear) -> None:
        self._wave = wave
        self._ear = ear
        self._begun = threading.Event()  # or given up
        self._over = threading.Event()
        self._inside: Context | None = None
        self.id: UUID | None = None
        self._state: State[None] = Completed()

    def show(self) -> None:
        """Run the subflow, as soon as Prefect listens and until ``end``; tell its end later if need be."""
        _SHOWN.set(self)
        try:
            state = self._subflow()
            if self.id is not None and (state is None or state.type is not self._state.type):
                # Prefect was away for longer than its client tries, which may have told it then that the subflow failed
                self._must_listen()
                with get_client(sync_client=True) as client:
                    client.set_flow_run_state(self.id, self._state, force=True)
        finally:
            self._begun.set()

    def _subflow(self) -> State[Any] | None:
        """Return the state that it ended in; None when Prefect was away by then."""
        wave, again = self._wave, False
        for last in (False, False, True):
            self._must_listen()
            try:
                parameters = {"number": wave.number, "machines": list(wave.machines), "canary": wave.canary}
                made = self._made() if again else None
                if made is not None:
                    return _run_made(made, parameters)
                _ask_for_a_new_one()
                return patch_wave(**parameters, return_state=True)
            except NO_ANSWER:
                again = True
                if self.id is None and last:
                    raise
            if self.id is not None:
                break
        return None

    def _made(self) -> FlowRun | None:
        """Return the subflow that was made for this wave and whose body was not reached: Prefect went away before."""
        with get_client(sync_client=True) as client:
            found = waves_of(client, UUID(flow_run.get_id()))
        for each in found:
            if each.parameters.get("number") == self._wave.number and not (each.state and each.state.is_final()):
                return each
        return None

    def _must_listen(self) -> None:
        if not self._ear.listens():
            raise TimeoutError("Prefect was given up")

    def stand(self) -> State[None]:
        """Be the subflow's body."""
        self.id = UUID(flow_run.get_id())
        self._inside = contextvars.copy_context()
        self._begun.set()
        self._over.wait()
        return self._state

    def inside(self, seconds: float) -> Context:
        """Return the context of the subflow, once it has begun; of the caller, when it does not begin in that time."""
        self._begun.wait(seconds)
        return self._inside or contextvars.copy_context()

    def end(self, state: State[None]) -> None:
        """Let the subflow end."""
        self._state = state
        self._over.set()


def _run_made(made: FlowRun, parameters: dict[str, Any]) -> State[Any] | None:
    """Run a wave's subflow that is there already."""
    return cast("State[Any] | None", run_flow_sync(patch_wave, made, parameters, return_type="state"))


_SHOWN: ContextVar[_Shown] = ContextVar("fleetpatch_wave")


@flow(name="patch-wave", flow_run_name="wave-{number}", persist_result=False, validate_parameters=False)
def patch_wave(number: int, machines: list[str], canary: bool = False) -> State[None]:  # noqa: ARG001
    """Patch one wave of machines. Only ever run as a part of patch_fleet.

    Args:
        number: of the wave, from 1.
        machines: names of the machines in it.
        canary: whether it goes before all others.
    """
    return _SHOWN.get().stand()


_WAVE_KEY = Task(patch_wave.fn, name=patch_wave.name).task_key


def _ask_for_a_new_one() -> None:
    """Have Prefect make a flow run for the next wave.

    By itself it counts the waves of this process: after Resume or Retry the first one to come would be shown as the
    first one that ever was (Prefect 3.8, ``load_subflow_run``).
    """
    context = FlowRunContext.get()
    if context is not None:
        context.task_run_dynamic_keys[_WAVE_KEY] = time.time_ns()


class PrefectRunner:
    """Shows a run's parts in Prefect. Only within a flow run.

    Args:
        directory: where report files go; None: only artifacts.
        formats: of the report files.
        ports: of the run.
    """

    def __init__(self, directory: Path | None, formats: Sequence[str], ports: Ports) -> None:
        self._directory = directory
        self._formats = tuple(formats)
        self._ports = ports
        self._own_id = str(flow_run.get_id() or "")
        self._ear = Ear(UUID(self._own_id))
        self._told: list[Telling] = []
        self._waves: list[_Shown] = []
        self._shown: dict[UUID, str] = {}  # task runs
        self._unshown: list[str] = []  # steps that went on without one, or end otherwise in it
        self.written: dict[str, Path] = {}

    def step(self, work: Work, step: Step) -> MachineRun:
        """Run the step's task, and return or raise what the step itself did: once, even when Prefect breaks.

        A task run asks nothing of the API, unless it has tags, whose limits it would wait for: it has none.
        """
        name, turn = f"{step} {work.name}", _Turn()
        token = _TURN.set(turn)
        try:
            with TagsContext(current_tags=set()):
                task = ASKED_ONCE.get(step, TASKS[step]) if work.is_asked_once else TASKS[step]
                state = task(work, return_state=True)
            if state.state_details.task_run_id is not None and state.is_completed() is turn.well:
                self._shown[state.state_details.task_run_id] = name
            else:
                self._unshown.append(name)
        except Exception:  # Prefect's own: what a step raises is within the state
            logger.warning("Prefect can't show %s; it is done all the same", name, exc_info=True)
            self._unshown.append(name)
        finally:
            _TURN.reset(token)
        return turn.came_to(work) if turn.begun else perform(work, step)

    def wave(self, wave: Wave, body: Callable[[], Sequence[Outcome]]) -> Sequence[Outcome]:
        """Do the wave's work here, as part of its subflow if that can be had."""
        shown = _Shown(wave, self._ear)
        self._waves.append(shown)
        self._told.append(Telling(f"wave-{wave.number}", shown.show))
        try:
            inside = shown.inside(0.0 if self._ear.deaf else BEGIN_SECONDS)
            with self._ear:
                outcomes = inside.run(body)
        except BaseException as error:
            shown.end(Failed(message=f"it broke off: {type(error).__name__}: {error}"))
            raise
        shown.end(_state_of(outcomes))
        return outcomes

    def publish(self, report: RunReport) -> None:
        """Write files, then show artifacts. What can't be written or shown does not make a run fail: it is said."""
        try:
            logs = self._ports.logs(report)
        except RecordsError as error:
            logger.error("the report of run %s is without raw output: %s", report.run.id, error)  # noqa: TRY400 - no fault of ours
            logs = {}
        self._write(report, logs)
        missed = self._missed(report)
        if not missed:
            return
        note = f"Prefect did not hear of {', '.join(missed)}. The records and this report are whole."
        self._ports.watch.said(note)
        message = f"{report.run.message}; {note}" if report.run.message else note
        report = replace(report, run=replace(report.run, message=message))
        self._write(report, logs)
        try:
            self._ports.records.save(report)
        except RecordsError as error:
            logger.error("what Prefect did not hear of run %s is not in the records: %s", report.run.id, error)  # noqa: TRY400

    def _write(self, report: RunReport, logs: Mapping[str, str]) -> None:
        if self._directory is None:
            return
        try:
            self.written = write_report(report, self._directory, logs, self._formats)
        except FleetpatchError as error:
            self._ports.unwritten(report.run.id, error)
        except Exception as error:
            logger.exception("the report of run %s could not be made", report.run.id)
            self._ports.unwritten(report.run.id, InternalError(f"{type(error).__name__}: {error}"))

    def _missed(self, report: RunReport) -> list[str]:
        """Show what is left to be shown, wait for Prefect to hear it all, and return what it did not hear."""
        until = time.monotonic() + PATIENCE_SECONDS
        if not self._ear.listens(until):
            self._ear.give_up()
            missed = [each.what for each in self._told if not each.heard(0.0)]
            return [*missed, f"the ends of up to {len(self._shown)} steps", "the artifacts", "how the flow run ended"]
        artifacts = Telling("the artifacts", functools.partial(self._show, report))
        missed = [each.what for each in (*self._told, artifacts) if not each.heard(until)]
        steps = list(self._unshown)
        if missed or self._ear.deaf_seconds:
            steps += tasks_unheard(self._shown, until)
        if steps:
            more = ", …" if len(steps) > NAMED_AT_MOST else ""
            missed.append(f"{len(steps)} steps ({', '.join(steps[:NAMED_AT_MOST])}{more})")
        if self._ear.deaf_seconds >= LOGS_HOLD_SECONDS:
            missed.append(f"some log lines (it was away for {self._ear.deaf_seconds:.0f} s)")
        return missed

    def _show(self, report: RunReport) -> None:
        first = report.run.flow_run_id
        if first and first != self._own_id:
            bury(first, report.run)
        ours = [each.id for each in self._waves if each.id is not None]
        if len(ours) == len(self._waves):  # one that Prefect makes just now can't be told from an earlier process' own
            bury_waves(UUID(self._own_id), ours)
        publish_report(report.run.id, Sealed(report), self.written.get("directory"))


def prefect_runner(request: PatchRequest | AssessRequest, ports: Ports) -> PrefectRunner:
    """Return the runner of a flow run. A patch run's report always goes somewhere; another's where it was asked."""
    directory = request.report_directory
    if isinstance(request, PatchRequest):
        directory = report_directory(directory)
    return PrefectRunner(directory, request.report_formats, ports)


def _state_of(outcomes: Sequence[Outcome]) -> State[None]:
    failed = [outcome.machine for outcome in outcomes if outcome.state is OperationState.FAILED]
    if failed:
        return Failed(message=f"{len(failed)} of {len(outcomes)} machines failed: {', '.join(failed[:20])}")
    return Completed(message=f"{len(outcomes)} machines: {run_state(outcomes)}")
