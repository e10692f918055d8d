"""How many task runs a run has in Prefect, and how many of them its server lost."""

import threading
from typing import Any

import pytest
from prefect.client.orchestration import get_client
from prefect.client.schemas.filters import FlowRunFilter, FlowRunFilterId
from prefect.client.schemas.objects import State, StateType, TaskRun
from prefect.utilities.engine import emit_task_run_state_change_event

from flows.engine.machine_work import assess_machines_once
from flows.patch import patch_fleet
from flows.ports.caller import Caller, use_caller
from flows.prefect_runtime import delivery, run_log, runner, task_runs
from flows.prefect_runtime.task_runs import TASK_RUNS_VARIABLE, TaskRuns
from tasks.domain.errors import CannotRun
from tasks.steps.context.run_control import LoggingListener, StopToken
from tests.flows.prefect_view import look
from tests.flows.test_fleet_flows import ran
from tests.support.fake_packages import FakePackage
from tests.support.fleet import SimFleet

pytestmark = pytest.mark.usefixtures("prefect_server")


def test_many_machines_have_a_task_run_each_and_still_more_one_for_their_wave(
    fleet: SimFleet, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(task_runs, "MAX_MACHINES_WITH_STEPS", 1)
    monkeypatch.setattr(run_log, "MAX_MACHINES_WITH_STEPS", 1)
    fleet.add("bad", [FakePackage("a", fails="no"), FakePackage("b")])
    fleet.add("good", [FakePackage("a")])
    fleet.add("gone", [FakePackage("a")]).cut(1e6)
    fields: dict[str, Any] = {"waves": {"size": 2, "failure_budget_count": 3}}

    with caplog.at_level("INFO"):
        by_machine = ran(patch_fleet, fleet.request(**fields))
    lines = [record.getMessage() for record in caplog.records if record.name.startswith("prefect.")]
    monkeypatch.setattr(task_runs, "MAX_MACHINES_ALONE", 2)
    by_wave = ran(patch_fleet, fleet.request(**fields))

    assert sum(thread.name == "EventsWorkerThread" for thread in threading.enumerate()) == 1  # it writes for all
    assert by_machine.state_details.flow_run_id is not None
    seen = look(by_machine.state_details.flow_run_id, tasks=5)
    assert {name: state for name, state in seen.tasks.items() if not name.startswith("report")} == {
        "assessment": "Failed",
        "bad": "Failed",
        "good": "Completed",
        "gone": "Failed",
    }
    assert [line for line in lines if line.startswith("good")] == []
    assert any(line.startswith("bad: install Failed") for line in lines)
    assert sum(line.startswith("these were the first") for line in lines) == 1
    assert by_wave.state_details.flow_run_id is not None
    look(by_wave.state_details.flow_run_id, tasks=4)
    with get_client(sync_client=True) as client:
        own = FlowRunFilter(id=FlowRunFilterId(any_=[by_wave.state_details.flow_run_id]))
        states = {task_run.name: task_run.state for task_run in client.read_task_runs(flow_run_filter=own)}
    assert {name: state and state.message for name, state in states.items() if not name.startswith("report")} == {
        "assessment": "1 of 3 machines failed: gone",
        "wave 1": "1 of 2 machines failed: bad",
        "wave 2": "1 of 1 machine failed: gone",
    }


def test_an_unknown_kind_of_task_runs_is_said_before_a_machine_is_contacted(
    fleet: SimFleet, monkeypatch: pytest.MonkeyPatch
) -> None:
    machine = fleet.add("web", [FakePackage("a")])
    monkeypatch.setenv(TASK_RUNS_VARIABLE, "machine")

    state = ran(patch_fleet, fleet.request())

    error = state.result(raise_on_failure=False)
    assert isinstance(error, CannotRun)
    assert error.message == "FLEETPATCH_TASK_RUNS='machine' is not known"
    assert error.hint == "Use steps, machines, waves, or leave it out: then the number of machines decides."
    assert machine.calls == []


def test_an_assessment_that_breaks_off_does_not_stay_open_in_prefect(
    fleet: SimFleet, monkeypatch: pytest.MonkeyPatch
) -> None:
    def break_off(*arguments: Any) -> None:
        assess_machines_once(*arguments)
        raise RuntimeError("it breaks off")

    monkeypatch.setenv(TASK_RUNS_VARIABLE, TaskRuns.WAVES)
    monkeypatch.setattr("flows.engine.machine_work.assess_machines_once", break_off)
    fleet.add("web", [FakePackage("a")])

    state = ran(patch_fleet, fleet.request())

    assert state.is_failed()
    assert state.state_details.flow_run_id is not None
    assert look(state.state_details.flow_run_id, tasks=1).tasks == {"assessment": "Cancelled"}


class WaveStopper(LoggingListener):
    """Asks a run to stop when its first wave begins."""

    def __init__(self, stop_token: StopToken) -> None:
        self._stop_token = stop_token

    def on_message(self, message: str) -> None:
        if message.startswith("wave 1"):
            self._stop_token.request_stop("Ctrl-C")


def test_a_machine_on_which_nothing_began_is_not_completed(fleet: SimFleet, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(TASK_RUNS_VARIABLE, TaskRuns.MACHINES)
    fleet.add("web", [FakePackage("a")])

    with use_caller(Caller(listener=WaveStopper(fleet.control))):
        state = ran(patch_fleet, fleet.request())

    assert state.state_details.flow_run_id is not None
    seen = look(state.state_details.flow_run_id, tasks=3).tasks
    assert {name: shown for name, shown in seen.items() if not name.startswith("report")} == {
        "assessment": "Completed",
        "web": "Cancelled",
    }


LOST = "lost"


@pytest.mark.parametrize(
    ("lost", "told"),
    [
        ({StateType.PENDING, StateType.RUNNING}, ""),  # of its starts the server needs none
        (
            {StateType.COMPLETED},
            "Prefect did not receive 5 task runs (assess lost, precheck lost, install lost, reboot lost, validate lost)"
            ". The records and this report are complete.",
        ),
        (
            set(StateType),
            "Prefect did not receive 5 task runs (assess lost, precheck lost, install lost, reboot lost, validate lost)"
            ". The records and this report are complete.",
        ),
    ],
    ids=["starts", "ends", "all"],
)
def test_what_the_server_lost_without_a_word_is_counted_there(
    fleet: SimFleet, monkeypatch: pytest.MonkeyPatch, lost: set[StateType], told: str
) -> None:
    def lose(task_run: TaskRun, initial_state: Any, validated_state: State[Any], **more: Any) -> Any:
        if task_run.name.endswith(LOST) and validated_state.type in lost:
            return None
        return emit_task_run_state_change_event(task_run, initial_state, validated_state, **more)

    monkeypatch.setattr("prefect.task_engine.emit_task_run_state_change_event", lose)
    monkeypatch.setattr(delivery, "MANY_TASK_RUNS", 1)
    monkeypatch.setattr(runner, "DELIVERY_TIMEOUT_SECONDS", 15.0 if told else 120.0)
    for name in ("kept", LOST):
        fleet.add(name, [FakePackage("a")])

    state = ran(patch_fleet, fleet.request())

    assert state.is_completed()
    (report,) = fleet.records.reports.values()
    assert report.run.message == told


@pytest.mark.parametrize(
    ("count", "kind"),
    [(200, TaskRuns.STEPS), (201, TaskRuns.MACHINES), (2_000, TaskRuns.MACHINES), (2_001, TaskRuns.WAVES)],
)
def test_the_number_of_machines_decides(count: int, kind: TaskRuns) -> None:
    assert task_runs.choose_task_runs(count) is kind
