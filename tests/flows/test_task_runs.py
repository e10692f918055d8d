"""How many task runs a run has in Prefect, and how many of them its server lost."""

import threading
from typing import Any
from uuid import UUID

import pytest
from prefect.client.orchestration import get_client
from prefect.client.schemas.filters import ArtifactFilter, ArtifactFilterFlowRunId, FlowRunFilter, FlowRunFilterId
from prefect.client.schemas.objects import State, StateType, TaskRun
from prefect.exceptions import Abort
from prefect.states import Completed
from prefect.utilities.engine import emit_task_run_state_change_event

from flows.engine.machine_work import assess_machines_once
from flows.patch import patch_fleet
from flows.prefect_runtime import delivery, run_log, runner
from flows.prefect_runtime.run_artifacts import PLAN_KEY, PROGRESS_KEY
from tasks.domain.errors import RecordsError
from tasks.domain.model import RunReport
from tasks.domain.protocols.leases import LeaseHolder
from tasks.domain.states import OperationState
from tests.flows.prefect_view import look
from tests.flows.test_fleet_flows import ran
from tests.support.fake_packages import FakePackage
from tests.support.fake_records import FakeRecords
from tests.support.fleet import SimFleet

pytestmark = pytest.mark.usefixtures("prefect_server")


def test_a_large_run_has_a_task_run_for_its_assessment_and_for_each_wave(
    fleet: SimFleet, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(runner, "MAX_MACHINES_WITH_STEPS", 2)
    monkeypatch.setattr(run_log, "MAX_MACHINES_WITH_STEPS", 1)
    fleet.add("bad", [FakePackage("a", fails="no"), FakePackage("b")])
    fleet.add("good", [FakePackage("a")])
    fleet.add("gone", [FakePackage("a")]).cut(1e6)

    with caplog.at_level("INFO"):
        by_wave = ran(patch_fleet, fleet.request(waves={"size": 2, "failure_budget_count": 3}))
    lines = [record.getMessage() for record in caplog.records if record.name.startswith("prefect.")]

    assert sum(thread.name == "EventsWorkerThread" for thread in threading.enumerate()) == 1  # it writes for all
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


def test_an_assessment_that_breaks_off_does_not_stay_open_in_prefect(
    fleet: SimFleet, monkeypatch: pytest.MonkeyPatch
) -> None:
    def break_off(*arguments: Any) -> None:
        assess_machines_once(*arguments)
        raise RuntimeError("it breaks off")

    monkeypatch.setattr(runner, "MAX_MACHINES_WITH_STEPS", 0)
    monkeypatch.setattr("flows.engine.machine_work.assess_machines_once", break_off)
    fleet.add("web", [FakePackage("a")])

    state = ran(patch_fleet, fleet.request())

    assert state.is_failed()
    assert state.state_details.flow_run_id is not None
    assert look(state.state_details.flow_run_id, tasks=1).tasks == {"assessment": "Cancelled"}


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


@pytest.mark.parametrize("is_told", [False, True])
def test_an_end_that_the_records_do_not_confirm_is_unknown(
    fleet: SimFleet, monkeypatch: pytest.MonkeyPatch, is_told: bool
) -> None:
    """Another process may have the run, and may have told Prefect its end: then this one leaves it so."""
    save = FakeRecords.save

    def save_if_unfinished(records: FakeRecords, item: Any) -> None:
        if isinstance(item, RunReport) and item.run.ended_at:
            raise RecordsError("no answer")
        save(records, item)

    def lose_records() -> None:
        fleet.control.confirm_lease = lambda: False
        monkeypatch.setattr(FakeRecords, "save", save_if_unfinished)
        (run,) = fleet.records.runs.values()
        with get_client(sync_client=True) as client:
            if is_told:
                client.set_flow_run_state(UUID(run.flow_run_id), Completed(), force=True)

    fleet.add("web", [FakePackage("a", seconds=60)])
    fleet.machines["web"].on_start("install", 5, lose_records)

    if is_told:
        with pytest.raises(Abort, match="not known here: this process ends and changes nothing"):
            patch_fleet(fleet.request())
    else:
        state = ran(patch_fleet, fleet.request())
        assert "not known here; When the records answer again: fleetpatch reconcile" in (state.message or "")

    (run,) = fleet.records.runs.values()
    assert look(UUID(run.flow_run_id), tasks=3).run.state_name == ("Completed" if is_told else "Unknown")


def test_a_process_whose_run_was_taken_over_shows_no_end(fleet: SimFleet) -> None:
    """It was stopped for so long that another process has the run. What it still sends must not look like an end."""

    def take_over() -> None:
        (run_id,) = fleet.records.runs
        fleet.leases.rob(run_id, LeaseHolder("other", "there", 2, "anne"), seconds=1e6)
        fleet.control.confirm_lease()

    fleet.add("web", [FakePackage("a", seconds=60)])
    fleet.machines["web"].on_start("install", 5, take_over)

    with pytest.raises(Abort, match="another process executes this run now"):
        patch_fleet(fleet.request())

    (run,) = fleet.records.runs.values()
    assert run.state is OperationState.IN_PROGRESS
    view = look(UUID(run.flow_run_id), tasks=3)
    assert view.run.state_name == "Running"
    assert view.tasks["install web"] == "Crashed"
    with get_client(sync_client=True) as client:
        of_run = ArtifactFilterFlowRunId(any_=[UUID(run.flow_run_id)])
        keys = {artifact.key for artifact in client.read_artifacts(artifact_filter=ArtifactFilter(flow_run_id=of_run))}
    assert keys == {PLAN_KEY, PROGRESS_KEY}
