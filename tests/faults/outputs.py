"""What a run shows to people, in virtual time: report files, artifacts and states of flow runs in Prefect, messages.

Each write is a call at which its process may be killed or held up. What guards the writes is the product's own code: it
asks for the lease, compares files by their generation, and publishes later what nobody has published.
"""

from collections.abc import Callable, Collection, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from functools import partial
from pathlib import Path
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any, cast
from unittest.mock import patch
from uuid import UUID

import prefect.runtime.flow_run

import flows.prefect_runtime.runner
import flows.recovery.unpublished_ends
import tasks.reports.writer
from flows.local_run import LocalRunner
from flows.ports.caller import Caller
from flows.ports.ports import Ports
from flows.prefect_runtime.end_states import build_final_state
from flows.prefect_runtime.runner import PrefectRunner
from tasks.domain.errors import LeaseLost, ReportError
from tasks.domain.model import RunInfo, RunReport, Wave
from tasks.domain.run_errors import EndUnknown
from tasks.domain.states import UNFINISHED_RUN_STATES, NotificationOccasion, OperationState
from tests.faults.controller import Controller, ControllerClock, Keeper, Steps, current_hub
from tests.support.fake_records import FakeHistory

if TYPE_CHECKING:
    from tests.faults.world import World

FIRST = datetime.min.replace(tzinfo=UTC)
HOLD = timedelta(seconds=30)
ENDS = (NotificationOccasion.FINISHED, NotificationOccasion.FAILED, NotificationOccasion.CANCELLED)
RUNNING, UNKNOWN = "RUNNING Running", "FAILED Unknown"


@dataclass(eq=False)
class Folder:
    """The folder of the report of a run: who holds it, when its writer took the run, the report, and its writer."""

    owner: Controller | None = None
    generation: datetime = FIRST
    report: RunReport | None = None
    writer: Controller | None = None

    def put(self, report: RunReport, writer: Controller) -> None:
        """Give files their names."""
        self.report, self.writer = report, writer


@dataclass(eq=False)
class FlowRun:
    """What Prefect shows of the flow run of a process."""

    run_id: str
    state: str = RUNNING


@dataclass
class Outputs:
    """Everything that was shown, in order.

    Attributes:
        folders: by run.
        artifacts: by id, who created them and the report that they show.
        flow_runs: by the number of their controller.
        messages: the ends that people were told, by when each was handed over: one of a process that is stopped while
            it sends arrives late, and nothing can call it back.
    """

    folders: dict[str, Folder] = field(default_factory=dict)
    artifacts: dict[int, tuple[Controller, RunReport]] = field(default_factory=dict)
    flow_runs: dict[int, FlowRun] = field(default_factory=dict)
    messages: list[tuple[datetime, NotificationOccasion, RunReport]] = field(default_factory=list)
    created: int = 0

    def wipe_prefect(self) -> None:
        """Lose Prefect's database."""
        self.artifacts.clear()
        self.flow_runs.clear()


class ReportFolder:
    """The directory of reports, as one process has it."""

    def __init__(self, outputs: Outputs, controller: Controller) -> None:
        self._outputs, self._of = outputs, controller

    def write(self, report: RunReport, generation: datetime | None, is_current: Callable[[], bool]) -> None:
        """Write files as ``write_report`` does: held, compared by generation, asked for, and renamed together.

        Raises:
            ReportError: a process that took the run later has written them, or they are out of date.
        """
        self._of.call("files", "write", lambda: None)
        folder = self._hold(report.run.id)
        try:
            if generation is not None and is_older(generation, folder.generation):
                raise ReportError("a process that took the run later has written the report")
            folder.generation = max(folder.generation, generation or FIRST)
            if not is_current():
                raise ReportError("the report is out of date")
            self._of.call("files", "rename", partial(folder.put, report, self._of))
        finally:
            if folder.owner is self._of:
                folder.owner = None

    def _hold(self, run_id: str) -> Folder:
        """Return the folder of a run that only this process holds. One that is held for long is moved aside."""
        until = self._of.hub.now + HOLD
        while True:
            folder = self._outputs.folders.setdefault(run_id, Folder())
            if folder.owner is None or folder.owner.dead:
                folder.owner = self._of
                return folder
            if self._of.hub.now > until:
                self._outputs.folders[run_id] = Folder()
            else:
                ControllerClock(self._of).sleep(1.0)


def is_older(generation: datetime, written: datetime) -> bool:
    """Return whether a process took its run before the one that has written the files."""
    return generation < written


def _write_report(
    report: RunReport,
    directory: Path,
    logs: Mapping[str, str],
    formats: Collection[str],
    *,
    rollout: object,
    generation: datetime | None,
    is_current: Callable[[], bool],
) -> dict[str, Path]:
    cast("ReportFolder", directory).write(report, generation, is_current)
    return {}


class WatchedRunner(LocalRunner):
    """The runner of one controller: it shows the end in Prefect as PrefectRunner does, or nowhere.

    Args:
        begins: gets each wave as it begins.
        writes_files: the run of a shard writes none.
    """

    def __init__(
        self,
        world: "World",
        controller: Controller,
        ports: Ports,
        begins: Callable[[Wave], None],
        *,
        writes_files: bool,
    ) -> None:
        super().__init__(cast("Path", ReportFolder(world.outputs, controller)) if writes_files else None)
        self._world, self._of, self._ports, self._begins = world, controller, ports, begins
        if world.has_prefect:
            world.outputs.flow_runs.setdefault(controller.number, FlowRun(controller.run_id))

    def show_plan(self, planned: RunReport) -> None:
        """Tell that this moment has come."""
        self._world.reach("the plan is shown", self._of)

    def show_wave_begin(self, wave: Wave) -> None:
        """Look at a wave as it begins."""
        self._world.reach("a wave begins", self._of)
        self._begins(wave)

    def show_end(self, report: RunReport, files: Mapping[str, Path]) -> str:
        """Show the end by the code of PrefectRunner; its calls to Prefect are those of the controller."""
        if not self._world.has_prefect:
            return ""
        with patch.object(prefect.runtime.flow_run, "get_id", lambda: str(UUID(int=self._of.number))):
            runner: Any = PrefectRunner(None, (), self._ports, shows_steps=False)
        runner._artifacts = SimpleNamespace(finish=lambda _report: None)
        try:
            runner._publish_to_prefect(report, files)
        except LeaseLost:
            return "Prefect did not receive the artifacts."
        return ""


class PrefectLine:
    """A controller's way to Prefect."""

    def delete_artifact(self, artifact_id: int) -> None:
        """Take back what was shown."""
        owner = _owner()
        owner.call("prefect", "take back", lambda: owner.outputs.artifacts.pop(artifact_id, None))


def _owner() -> Controller:
    task = current_hub().current
    assert task is not None
    assert isinstance(task.owner, Controller)
    return task.owner


def _publish_report(_run_id: str, report: Any, *_: object, **__: object) -> list[int]:
    owner = _owner()
    outputs: Outputs = owner.outputs

    def create() -> int:
        outputs.created += 1
        outputs.artifacts[outputs.created] = owner, report.report
        return outputs.created

    return [owner.call("prefect", "show", create)]


def _close_flow_runs_of(report: RunReport, _flow_run_ids: object, own: str) -> None:
    """Let each other flow run of a run show how it ended."""
    owner, end = _owner(), describe_state(report.run)
    outputs: Outputs = owner.outputs
    for number, flow_run in list(outputs.flow_runs.items()):
        is_other = not own or number != UUID(own).int
        if is_other and flow_run.run_id == report.run.id and flow_run.state != end:
            owner.call("prefect", "close", partial(setattr, flow_run, "state", end))


def describe_state(run: RunInfo) -> str:
    """Return what Prefect must show of a run that is over."""
    state = build_final_state(run)
    return f"{state.type.value} {state.name}"


@contextmanager
def _line_to_prefect() -> Iterator[PrefectLine]:
    yield PrefectLine()


@contextmanager
def outputs_in_virtual_time() -> Iterator[None]:
    """Have the files and Prefect be those of the world of the process that writes."""
    with ExitStack() as stack:
        for where, name, what in (
            (tasks.reports.writer, "write_report", _write_report),
            (flows.prefect_runtime.runner, "close_stale_steps", lambda *_: None),
            (flows.prefect_runtime.runner, "publish_report", _publish_report),
            (flows.prefect_runtime.runner, "close_flow_runs_of", _close_flow_runs_of),
            (flows.prefect_runtime.runner, "open_fail_fast_client", _line_to_prefect),
        ):
            stack.enter_context(patch.object(where, name, what))
        yield


def tell_end(controller: Controller, report: object, error: BaseException | None) -> None:
    """Let Prefect show the end of a flow run, as its process tells it. One that has lost its run tells nothing."""
    flow_run = controller.outputs.flow_runs.get(controller.number)
    if flow_run is None or controller.control.is_lease_lost:
        return
    state = UNKNOWN if isinstance(error, EndUnknown) else "FAILED Failed" if error is not None else RUNNING
    if isinstance(report, RunReport) and report.run.state not in UNFINISHED_RUN_STATES:
        state = describe_state(report.run)
    controller.call("prefect", "end", partial(setattr, flow_run, "state", state))


def publish_left_ends(world: "World") -> None:
    """Do what reconcile-fleet does about ends: correct flow runs without an end, and publish what nobody has."""
    history: Any = FakeHistory(world.records)
    for flow_run in world.outputs.flow_runs.values():
        run = world.records.runs.get(flow_run.run_id)
        if flow_run.state in {RUNNING, UNKNOWN} and run is not None and run.state not in UNFINISHED_RUN_STATES:
            flow_run.state = describe_state(run)
    controller = world._controller("")

    @contextmanager
    def open_ports(_request: object, caller: Caller) -> Iterator[Ports]:
        controller.control, controller.since = caller.stop_token, world.hub.now
        yield world._ports(controller)

    def read_report(run_id: str) -> RunReport:
        controller.run_id = run_id
        report: RunReport = history.read_report(run_id)
        return report

    def find_history(*_: object, **__: object) -> Any:
        return SimpleNamespace(
            read_runs=lambda count, kind: [run for run in world.records.runs.values() if run.kind == kind][:count],
            read_journal=history.read_journal,
            read_report=read_report,
        )

    @contextmanager
    def open_records(_url: object) -> Iterator[Any]:
        yield SimpleNamespace(leases=world.leases, database=None)

    def build_runner(request: Any, _ports: Ports) -> LocalRunner:
        return LocalRunner(None if request.shard else cast("Path", ReportFolder(world.outputs, controller)))

    ends = flows.recovery.unpublished_ends
    with ExitStack() as stack:
        for name, what in (
            ("open_records", open_records),
            ("open_ports", open_ports),
            ("History", find_history),
            ("LeaseRenewer", Keeper),
            ("SystemClock", lambda: ControllerClock(controller)),
            ("build_reporting_runner", build_runner),
        ):
            stack.enter_context(patch.object(ends, name, what))
        world._process(
            controller, lambda: ends.publish_missing_ends(Caller(Steps(controller), controller.control, "sim"), print)
        )
        world.all_end()


def judge_ends(world: "World") -> None:
    """Complain of each end that people see, and that is not the one in the records."""
    for run in world.records.runs.values():
        if run.kind == "patch" and run.state not in UNFINISHED_RUN_STATES and not run.request.get("shard"):
            for fault in _judge_end(world, run):
                world.complain(f"run {run.id}: {fault}")


def summarize(report: RunReport) -> str:
    """Return what a report says: how and when the run ended, and how each machine did."""
    machines = sorted(f"{outcome.machine} {outcome.state}" for outcome in report.outcomes)
    return f"{report.run.state} at {report.run.ended_at}: {', '.join(machines)}"


def _judge_end(world: "World", run: RunInfo) -> Iterator[str]:
    outputs, truth = world.outputs, summarize(world.report(run.id))
    folder = outputs.folders.get(run.id)
    if folder is None or folder.report is None:
        yield "it is over, and its report has no files"
    elif summarize(folder.report) != truth:
        yield f"its files say {summarize(folder.report)}, and the records {truth}"
    shown = [report for _, report in outputs.artifacts.values() if report.run.id == run.id]
    if shown and summarize(shown[-1]) != truth:
        yield f"Prefect's artifacts say {summarize(shown[-1])}, and the records {truth}"
    for number, flow_run in outputs.flow_runs.items():
        if flow_run.run_id == run.id and flow_run.state != describe_state(run):
            yield f"flow run {number} is {flow_run.state}, and the run is {run.state}"
    told = sorted((told for told in outputs.messages if told[2].run.id == run.id), key=lambda told: told[0])
    if not told:
        yield "it is over, and nobody was told"
        return
    _, occasion, report = told[-1]
    if summarize(report) != truth or (occasion is NotificationOccasion.FAILED) != (run.state is OperationState.FAILED):
        yield f"the last message is {occasion} with {summarize(report)}, and the records have {truth}"
