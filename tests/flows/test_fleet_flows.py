"""The flows on a Prefect server, over a simulated fleet: what it shows, and that it changes nothing of what is done."""

import json
from collections.abc import Callable
from contextlib import nullcontext
from datetime import timedelta
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
from prefect.client.schemas.objects import State

from flows.assess import assess_fleet
from flows.patch import patch_fleet
from flows.ports.caller import Caller, use_caller
from flows.prefect_runtime import runner
from flows.request.read_requests import AssessRequest
from tasks import prefect_tasks
from tasks.domain.errors import ConnectionLost, FleetpatchError, ManagerBusy, ProtocolViolation, Unreachable
from tasks.domain.model import RunReport
from tasks.domain.protocols.transport import Script
from tasks.domain.run_errors import FleetPatchFailed
from tasks.domain.states import Classification, OperationState, RebootState, Step, UpdateState
from tasks.steps import pipeline
from tasks.steps.context.machine_context import MachineContext, MachineState
from tasks.steps.context.run_control import LoggingListener
from tasks.steps.unused_kernels import UNUSED_KERNELS_CHECK
from tests.flows.prefect_view import artifacts, look, waves
from tests.flows.test_readme import example
from tests.support.fake_packages import FakePackage
from tests.support.fleet import SimFleet, outcome_of, result_of
from tests.support.sim_machine import SimMachine
from tests.unit.engine.test_unused_kernels import kernels

pytestmark = pytest.mark.usefixtures("prefect_server")

every_kind = pytest.mark.parametrize("most", [200, 0], ids=["steps", "waves"])
"""Up to so many machines have a task run for each step."""
"""What is a task run changes nothing else."""
HOSTILE = "<img src=x onerror=alert(1)> [click](javascript:alert(1)) | `x`"


@pytest.fixture(autouse=True)
def _at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """Retries without their delays."""
    quick = {
        step: task.with_options(retry_delay_seconds=0, retry_jitter_factor=0)
        for step, task in prefect_tasks.STEP_TASKS.items()
    }
    monkeypatch.setattr(runner, "STEP_TASKS", quick)


def ran(flow: Any, request: object) -> State[RunReport]:
    state: State[RunReport] = flow(request, return_state=True)
    return state


def failure_of(state: State[RunReport]) -> FleetPatchFailed:
    error = state.result(raise_on_failure=False)
    assert isinstance(error, FleetPatchFailed), error
    return error


def test_a_fleet_that_is_patched_well_and_no_secret_is_among_the_parameters(fleet: SimFleet) -> None:
    package = FakePackage("a", asks_reboot=True)
    fleet.add("web", [package], credential="env:PASSWORD", privilege_password="env:SUDO_PASSWORD")
    fleet.add("db", [FakePackage("a")])

    state = ran(patch_fleet, fleet.request(waves={"size": 1, "canary_count": 1}))

    assert state.is_completed(), state.message
    run_id = state.state_details.flow_run_id
    assert run_id is not None
    seen = look(run_id, tasks=11)
    assert waves(run_id) == ["1 | 1 | 0 | 1 Succeeded", "2 | 1 | 0 | 1 Succeeded"]
    assert seen.subflows == {}
    steps = ("assess", "precheck", "install", "reboot", "validate")
    expected = {f"{step} {name}": "Completed" for step in steps for name in ("web", "db")}
    (report_task,) = set(seen.tasks) - set(expected)
    (run,) = fleet.records.runs.values()
    assert report_task == f"report {run.id}"
    assert seen.tasks == {**expected, "reboot db": "NotNeeded", report_task: "Completed"}
    following = {f"{after} {name}": {f"{step} {name}"} for step, after in pairwise(steps) for name in ("web", "db")}
    first = {"assess web": set[str](), "assess db": set[str]()}
    assert seen.edges == {**first, **following, report_task: {"validate web", "validate db"}}
    assert run.flow_run_id == str(run_id)
    assert run.started_by
    told = json.dumps(seen.run.parameters)
    assert "scope" in told
    assert "PASSWORD" not in told
    assert "credential" not in told


def test_a_machine_that_fails_is_red_where_it_failed_and_the_flow_raises_once(fleet: SimFleet) -> None:
    fleet.add("bad", [FakePackage("a", fails="no"), FakePackage("b")])
    fleet.add("gone", [FakePackage("a")]).cut(1e6)
    fleet.add("good", [FakePackage("a")])

    state = ran(patch_fleet, fleet.request(waves={"failure_budget_count": 3}))

    assert state.is_failed()
    error = failure_of(state)
    assert "2 of 3 machines failed: bad, gone" in str(error)
    assert {o.machine: o.state for o in error.report.outcomes} == {
        "bad": OperationState.FAILED,
        "gone": OperationState.FAILED,
        "good": OperationState.SUCCEEDED,
    }
    assert state.state_details.flow_run_id is not None
    seen = look(state.state_details.flow_run_id, tasks=13)  # "gone" is assessed twice: with the others, and in its wave
    assert waves(state.state_details.flow_run_id) == ["1 | 3 | 2: bad, gone | 2 Failed, 1 Succeeded"]
    assert seen.tasks["assess gone"] == "Failed"
    assert seen.tasks["install bad"] == "Failed"
    assert seen.tasks["install good"] == seen.tasks["assess bad"] == "Completed"
    assert "precheck gone" not in seen.tasks


class WaveWatcher(LoggingListener):
    """Notes how often a machine had been asked when the first wave began."""

    def __init__(self, machine: SimMachine) -> None:
        self._machine = machine
        self.asked_before: int | None = None

    def on_message(self, message: str) -> None:
        if message.startswith("wave 1"):
            self.asked_before = len(self._machine.calls)


@every_kind
def test_a_machine_that_does_not_answer_is_tried_again_beside_the_first_wave(
    fleet: SimFleet, most: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(runner, "MAX_MACHINES_WITH_STEPS", most)
    gone = fleet.add("gone", [FakePackage("a")])
    gone.cut(1e6)
    fleet.add("good", [FakePackage("a")])
    watch = WaveWatcher(gone)

    with use_caller(Caller(listener=watch)):
        state = ran(patch_fleet, fleet.request())

    assert state.is_failed()
    assert watch.asked_before == 1
    assert len(gone.calls) == 1 + 3, "Prefect's retries are for its second turn"


def lose_machine(web: SimMachine) -> None:
    """Take it off the network until its job can't be watched any more."""
    web.on_start("remove", 0, lambda: web.cut(60 * 60 + 1000))


def lose_kernels(web: SimMachine) -> None:
    """Let it not answer which kernels it has, for longer than one step asks again."""
    lost_until = web.fake_clock.now()

    def lose() -> None:
        nonlocal lost_until
        lost_until = web.fake_clock.now() + timedelta(seconds=1000)

    def read_kernels(_: Script) -> Any:
        if web.fake_clock.now() < lost_until:
            raise ConnectionLost("the cable is out")
        return {"kind": "answer", "answer": web.world.kernels()}

    web.answer("fake_kernels", read_kernels)
    web.on_start("remove", 0, lose)


@pytest.mark.parametrize("lose", [lose_machine, lose_kernels])
def test_kernels_removed_before_the_validation_was_repeated_are_reported(
    fleet: SimFleet, lose: Callable[[SimMachine], None]
) -> None:
    web = fleet.add("web", [FakePackage("tzdata")])
    web.world.shelf.kernels = kernels(1, 2, 3, 4)
    lose(web)

    state = ran(patch_fleet, fleet.request(remove_unused_kernels=True, minutes=60))

    assert len([job for job in web.jobs() if job.script.params["work"] == "remove"]) == 1
    outcome = outcome_of(state.result(), "web")
    assert [finding.message for finding in outcome.findings if finding.check == UNUSED_KERNELS_CHECK] == [
        "removed: linux-1, linux-2"
    ]
    assert outcome.state is OperationState.SUCCEEDED


def test_a_plan_waits_for_machines_that_do_not_answer(fleet: SimFleet) -> None:
    gone = fleet.add("gone", [FakePackage("a")])
    gone.cut(1e6)
    fleet.add("good", [FakePackage("a")])

    ran(patch_fleet, fleet.request(dry_run=True))

    assert len(gone.calls) == 3


def test_artifacts_show_the_run_and_no_hostile_text_acts(
    fleet: SimFleet, caplog: pytest.LogCaptureFixture, tmp_path: Path
) -> None:
    fleet.add("web", [FakePackage(HOSTILE, fails=HOSTILE), FakePackage("b")])

    state = ran(patch_fleet, fleet.request())

    run_id = state.state_details.flow_run_id
    assert run_id is not None
    found = artifacts(run_id)
    kinds = {key.rsplit("-", 1)[-1]: artifact.type for key, artifact in found.items()}
    live = {"plan": "markdown", "progress": "markdown"}
    assert kinds == live | {"summary": "markdown", "machines": "table", "updates": "table", "report": "markdown"}
    for artifact in found.values():
        text = str(artifact.data)
        assert "<img" not in text
        assert "](" not in text
        assert "file:" not in text
    assert f"{tmp_path}/reports/" in str(found["fleetpatch-patch-report"].data).replace("\\", "")
    assert "MachineRun(" not in caplog.text  # what Prefect logs of a failed task is read by people
    rows = next(json.loads(str(found[key].data)) for key in found if key.endswith("-machines"))
    assert [row["Machine"] for row in rows] == ["web"]


Failures = dict[str, tuple[FleetpatchError, int]]
"""The error that a step raises for a machine, and how often."""


@pytest.mark.parametrize(
    ("step", "most"),
    [(Step.INSTALL, 200), (Step.REBOOT, 200), (Step.INSTALL, 0)],
)
def test_what_changes_a_machine_is_asked_once_even_after_a_transient_error(
    fleet: SimFleet, step: Step, most: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(runner, "MAX_MACHINES_WITH_STEPS", most)
    errors: Failures = {"cut": (ConnectionLost("cut"), 10), "busy": (ManagerBusy("locked"), 10)}
    for name in errors:
        fleet.add(name, [FakePackage("a", asks_reboot=True)])
    calls = failing(monkeypatch, step, errors)

    state = ran(patch_fleet, fleet.request(waves={"failure_budget_count": 2}))

    assert sorted(calls) == ["busy", "cut"]
    assert prefect_tasks.STEP_TASKS[step].retries == 0
    report = failure_of(state).report
    for name, (error, _) in errors.items():
        outcome = outcome_of(report, name)
        assert outcome.error is not None
        assert outcome.error.kind == type(error).__name__


@every_kind
def test_an_assessment_is_tried_again_after_transient_errors_only(
    fleet: SimFleet, most: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(runner, "MAX_MACHINES_WITH_STEPS", most)
    errors: Failures = {
        "back": (Unreachable("gone"), 2),
        "gone": (Unreachable("gone"), 9),
        "wrong": (ProtocolViolation("nonsense"), 1),
    }
    for name in errors:
        fleet.add(name, [FakePackage("a")])
    calls = failing(monkeypatch, Step.ASSESS, errors)

    ended = ran(assess_fleet, AssessRequest(scope="*", at_once=1))

    assert {name: calls.count(name) for name in errors} == {"back": 3, "gone": 3, "wrong": 1}
    states = {outcome.machine: outcome.state for outcome in fleet.records.outcomes.values()}
    failed = OperationState.FAILED
    assert states == {"back": OperationState.SUCCEEDED, "gone": failed, "wrong": failed}
    assert ended.is_failed()
    assert ended.state_details.flow_run_id is not None
    steps = {"assess back": "Completed", "assess gone": "Failed", "assess wrong": "Failed"}
    shown = steps if most else {"assessment": "Failed"}
    seen = look(ended.state_details.flow_run_id, tasks=len(shown) + 1).tasks
    assert {name: state for name, state in seen.items() if not name.startswith("report")} == shown


def failing(monkeypatch: pytest.MonkeyPatch, step: Step, errors: Failures) -> list[str]:
    """Let a step raise for machines; the names of the machines that it was called for are returned."""
    whole: Callable[[MachineContext], MachineState] = pipeline.STEP_FUNCTIONS[step]
    calls: list[str] = []

    def broken(work: MachineContext) -> MachineState:
        calls.append(work.name)
        error, times = errors[work.name]
        if calls.count(work.name) <= times:
            raise error
        return whole(work)

    monkeypatch.setattr(pipeline, "STEP_FUNCTIONS", {**pipeline.STEP_FUNCTIONS, step: broken})
    return calls


def varied() -> SimFleet:
    """A fleet with something of everything."""
    fleet = SimFleet()
    fleet.add("good", [FakePackage("a", asks_reboot=True), FakePackage("held", held=True)])
    fleet.add("bad", [FakePackage("a", fails="no"), FakePackage("b")])
    fleet.add("stuck", [FakePackage("a", asks_reboot=True)]).boots.up_after = None
    cut = fleet.add("cut", [FakePackage("a", seconds=200)])
    cut.on_start("install", 10, lambda: cut.cut(300))
    full = fleet.add("full", [FakePackage("a")])
    full.free_kib = 10
    gone = fleet.add("gone", [FakePackage("a", asks_reboot=True)])
    gone.gone_after_reboot = ("tcp/443",)
    return fleet


@every_kind
def test_prefect_changes_nothing_of_what_becomes_of_machines(
    most: int, monkeypatch: pytest.MonkeyPatch, tmp_path: Any
) -> None:
    plain, seen = varied(), varied()
    monkeypatch.setattr(runner, "MAX_MACHINES_WITH_STEPS", most)
    fields = {"waves": {"size": 2, "failure_budget_count": 6}, "report_directory": tmp_path}
    monkeypatch.setattr("flows.execution.open_ports", lambda request, who: nullcontext(seen.ports()))

    expected = plain.patch(**fields)
    report = failure_of(ran(patch_fleet, seen.request(**fields))).report

    for theirs, ours in zip(report.outcomes, expected.outcomes, strict=True):
        for name in set(ours.__slots__) - {"run_id", "install"}:  # which carry ids of the run and its jobs
            assert getattr(theirs, name) == getattr(ours, name), (ours.machine, name)
        assert (theirs.install is None) is (ours.install is None)
        if theirs.install is not None and ours.install is not None:
            assert theirs.install.transactions == ours.install.transactions
    assert result_of(outcome_of(report, "stuck"), "a").state is UpdateState.INSTALLED
    assert outcome_of(report, "stuck").reboot is RebootState.FAILED
    assert report.run.state is expected.run.state is OperationState.FAILED


def test_a_dry_run_is_a_flow_run_without_waves(fleet: SimFleet) -> None:
    fleet.add("web", [FakePackage("a")])

    state = ran(patch_fleet, fleet.request(dry_run=True))

    assert state.is_completed(), state.message
    assert state.state_details.flow_run_id is not None
    seen = look(state.state_details.flow_run_id, tasks=2)
    assert "fleetpatch-patch-progress" not in artifacts(state.state_details.flow_run_id) or not waves(
        state.state_details.flow_run_id
    )
    assert [name for name in seen.tasks if not name.startswith("report")] == ["assess web"]


@pytest.mark.usefixtures("url")
def test_the_example_of_the_readme_says_what_became_of_each_machine(
    fleet: SimFleet, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    fleet.add("good", [FakePackage("a", classification=Classification.SECURITY)])
    fleet.add("bad", [FakePackage("a", fails="no", classification=Classification.SECURITY)])
    monkeypatch.chdir(tmp_path)
    exec(compile(example(), "example.py", "exec"), {})

    said = capsys.readouterr().out.splitlines()
    assert sorted(line.split(maxsplit=2)[:2] for line in said) == [["bad", "Failed"], ["good", "Succeeded"]], said


def test_an_assessment_that_can_not_reach_another_site_has_failed(fleet: SimFleet) -> None:
    fleet.add("here", [FakePackage("a")])
    fleet.add("there", [FakePackage("a")], site="hamburg")

    ended = ran(assess_fleet, AssessRequest(scope="*", at_once=1))

    assert "1 of 2 machines could not be assessed" in str(ended.message)
    assert len(failure_of(ended).report.outcomes) == 2
