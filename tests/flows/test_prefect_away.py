"""Prefect's API refuses, hangs or breaks while a fleet is patched: that changes nothing but what Prefect shows."""

import threading
import time
from collections.abc import Callable, Iterator
from typing import Any
from uuid import uuid4

import httpx
import pytest
from prefect.client import base
from prefect.client.orchestration import get_client
from prefect.client.schemas.objects import State, StateType, TaskRun
from prefect.exceptions import ObjectNotFound
from prefect.settings import PREFECT_LOGGING_TO_API_ENABLED, temporary_settings
from prefect.states import Cancelled, Cancelling, Completed, Crashed, Running, Scheduled, Suspended
from prefect.utilities.engine import emit_task_run_state_change_event

from flows.patch import patch_fleet
from flows.prefect_runtime import delivery, flow_run_states, runner
from flows.prefect_runtime.flow_run_states import close_flow_runs_of
from tasks.domain.errors import CannotRun
from tasks.domain.model import RunReport
from tasks.domain.run_errors import FleetPatchFailed
from tasks.domain.states import OperationState, Step
from tasks.steps import pipeline
from tasks.steps.context.machine_context import MachineContext, MachineState
from tests.flows.prefect_view import artifacts, look
from tests.support.builders import make_run
from tests.support.fake_packages import FakePackage
from tests.support.fleet import SimFleet

pytestmark = pytest.mark.usefixtures("prefect_server")

STEPS = ("assess", "precheck", "install", "reboot", "validate")


class Api:
    """Prefect's API as its clients find it: there, refusing, or not answering until it is there again."""

    def __init__(self) -> None:
        self.refuses: Callable[[httpx.Request], bool] = lambda request: False
        self.hangs: Callable[[httpx.Request], bool] = lambda request: False
        self.there = threading.Event()

    def meet(self, request: httpx.Request) -> None:
        if self.hangs(request) and not self.there.wait(240):
            raise httpx.ReadTimeout("it hung", request=request)
        if self.refuses(request):
            raise httpx.ConnectError("away", request=request)


@pytest.fixture
def api(monkeypatch: pytest.MonkeyPatch) -> Iterator[Api]:
    """The API; whatever hangs there goes on at the end."""
    made = Api()
    send, send_async = base.PrefectHttpxSyncClient.send, base.PrefectHttpxAsyncClient.send

    def met(self: Any, request: httpx.Request, *args: Any, **kwargs: Any) -> Any:
        made.meet(request)
        return send(self, request, *args, **kwargs)

    async def met_async(self: Any, request: httpx.Request, *args: Any, **kwargs: Any) -> Any:
        if made.refuses(request):
            raise httpx.ConnectError("away", request=request)
        return await send_async(self, request, *args, **kwargs)

    monkeypatch.setattr(base.PrefectHttpxSyncClient, "send", met)
    monkeypatch.setattr(base.PrefectHttpxAsyncClient, "send", met_async)
    monkeypatch.setattr(runner, "DELIVERY_TIMEOUT_SECONDS", 240.0)
    monkeypatch.setattr(runner, "RETURN_TIMEOUT_SECONDS", 240.0)
    monkeypatch.setattr(delivery, "POLL_SECONDS", 0.05)
    monkeypatch.setattr(delivery, "RETRY_SECONDS", 0.1)
    with temporary_settings({PREFECT_LOGGING_TO_API_ENABLED: True}):  # lines of the log are among what is refused
        yield made
    made.there.set()
    made.refuses = lambda request: False


@pytest.fixture
def calls(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The steps that were carried out, in their order."""
    made: list[str] = []

    def counted(
        step: Step, whole: Callable[[MachineContext], MachineState]
    ) -> Callable[[MachineContext], MachineState]:
        def call(work: MachineContext) -> MachineState:
            made.append(f"{step} {work.name}")
            return whole(work)

        return call

    monkeypatch.setattr(
        pipeline, "STEP_FUNCTIONS", {step: counted(step, whole) for step, whole in pipeline.STEP_FUNCTIONS.items()}
    )
    return made


def two(fleet: SimFleet) -> SimFleet:
    """Two machines, of which the second fails."""
    fleet.add("web", [FakePackage("a", asks_reboot=True)])
    fleet.add("bad", [FakePackage("a", fails="no")])
    return fleet


def ran(fleet: SimFleet) -> State[RunReport]:
    """Patch the fleet, one machine after the other."""
    state: State[RunReport] = patch_fleet(
        fleet.request(waves={"size": 1, "failure_budget_count": 2}), return_state=True
    )
    return state


def kept(fleet: SimFleet) -> RunReport:
    """The one report in the records, of a fleet where all became of the machines that was to become of them."""
    (report,) = fleet.records.reports.values()
    assert {outcome.machine: outcome.state for outcome in report.outcomes} == {
        "web": OperationState.SUCCEEDED,
        "bad": OperationState.FAILED,
    }
    return report


def begun_working(request: httpx.Request, calls: list[str]) -> bool:
    return bool(request.url) and any(call.startswith("install") for call in calls)


def test_an_api_that_goes_away_for_good_changes_nothing_for_machines_and_is_told_of(
    fleet: SimFleet, api: Api, calls: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    two(fleet)
    monkeypatch.setattr(runner, "DELIVERY_TIMEOUT_SECONDS", 2.0)
    api.refuses = lambda request: begun_working(request, calls)

    began = time.monotonic()
    state = ran(fleet)  # the flow's own end, in spite of Prefect's error

    assert time.monotonic() - began < 120
    assert state.is_failed()
    with pytest.raises(FleetPatchFailed) as failed:
        state.result(_sync=True)  # type: ignore[call-overload]
    note = kept(fleet).run.message
    assert failed.value.report.outcomes == kept(fleet).outcomes
    assert note.startswith("Prefect can't be reached since 20")
    assert " UTC: it did not receive the ends of up to " in note
    assert "how the flow run ended, and shows this run as Running until `fleetpatch reconcile` corrects that." in note
    assert note.endswith("The records and this report are complete.")
    assert sorted(calls) == sorted({f"{step} {name}" for step in STEPS for name in ("web", "bad")} & set(calls))
    assert len([call for call in calls if call.startswith("install")]) == 2


def test_an_api_that_goes_away_before_the_flow_begins_is_said_and_nothing_begins(fleet: SimFleet, api: Api) -> None:
    two(fleet)
    api.refuses = lambda request: "/flow_runs" in request.url.path
    with pytest.raises(CannotRun, match="the Prefect server went away before the run began"):
        ran(fleet)
    assert fleet.records.reports == {}


PATIENCE = 120.0
"""Seconds for a run to notice, on cores that others use, that the API is away."""


def test_an_api_that_is_away_at_the_end_of_a_wave_hears_of_it_later(
    fleet: SimFleet, api: Api, calls: list[str], caplog: pytest.LogCaptureFixture
) -> None:
    two(fleet)
    away_since: list[float] = []

    def is_noticed() -> bool:
        return any("does not answer" in record.getMessage() for record in caplog.records)

    def refuses(request: httpx.Request) -> bool:
        if not away_since and "validate web" in calls and "/artifacts/" in request.url.path:
            away_since.append(time.monotonic())
        seconds = time.monotonic() - away_since[0] if away_since else 0.0
        return bool(away_since) and (seconds < 3 or (seconds < PATIENCE and not is_noticed()))

    api.refuses = refuses
    state = ran(fleet)

    assert away_since
    assert kept(fleet).run.message == ""
    run_id = state.state_details.flow_run_id
    assert run_id is not None
    seen = look(run_id, tasks=len(calls) + 1)
    assert {name for name in seen.tasks if not name.startswith("report")} == set(calls)
    # The plan and the progress are for the time of the run: they may be missing.
    shown = set(artifacts(run_id)) - {"fleetpatch-patch-plan", "fleetpatch-patch-progress"}
    assert len(shown) == 4
    told = [
        each.getMessage()
        for each in caplog.records
        if each.name == "flows.prefect_runtime.delivery" and each.levelname == "WARNING"
    ]
    assert ["does not answer" in each for each in told if "answer" in each] == [True, False]  # and that it is back
    assert "answers again" in told[-1]


def test_an_answer_from_before_the_api_went_away_does_not_say_that_it_is_back(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monitor = delivery.ApiMonitor(uuid4())

    def answers(client: object, flow_run_id: object) -> bool:
        monkeypatch.setattr(delivery, "_is_api_reachable", lambda *_: False)
        assert not monitor.wait_until_reachable(until=time.monotonic())  # another thread finds that it is away
        return True

    monkeypatch.setattr(delivery, "_is_api_reachable", answers)
    assert not monitor.wait_until_reachable(until=time.monotonic())
    assert monitor.is_unreachable
    assert [record.getMessage() for record in caplog.records if "answer" in record.getMessage()] == [
        "the Prefect server does not answer; the run continues without it"
    ]

    monkeypatch.setattr(delivery, "_is_api_reachable", lambda *_: True)
    assert monitor.wait_until_reachable(until=time.monotonic())
    assert not monitor.is_unreachable


def test_an_api_that_hangs_holds_no_wave_up(fleet: SimFleet, api: Api, calls: list[str]) -> None:
    two(fleet)
    done_without = threading.Event()

    def hangs(request: httpx.Request) -> bool:
        if any(call.startswith("validate") for call in calls):
            done_without.set()
            api.there.set()
        return request.method in {"POST", "PATCH"} and "/artifacts/" in request.url.path and len(calls) > 1

    api.hangs = hangs
    state = ran(fleet)

    assert done_without.is_set()  # a machine was done while the artifact of the first wave was still being written
    assert kept(fleet).run.message == ""
    run_id = state.state_details.flow_run_id
    assert run_id is not None
    assert {name for name in look(run_id, tasks=len(calls) + 1).tasks if not name.startswith("report")} == set(calls)


@pytest.mark.parametrize("when", [None, StateType.RUNNING, StateType.COMPLETED, StateType.FAILED])
def test_a_step_is_done_once_wherever_prefect_breaks_around_it(
    fleet: SimFleet, api: Api, calls: list[str], when: StateType | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    two(fleet)

    def breaks(task_run: TaskRun, initial_state: Any, validated_state: State[Any], **more: Any) -> Any:
        if when is None or validated_state.type is when:
            raise RuntimeError("Prefect is broken")
        return emit_task_run_state_change_event(task_run, initial_state, validated_state, **more)

    monkeypatch.setattr("prefect.task_engine.emit_task_run_state_change_event", breaks)
    state = ran(fleet)

    assert api.there.is_set() is False
    assert state.is_failed()  # a machine has failed
    report = kept(fleet)
    assert len(calls) == len(set(calls))
    assert {call.split()[0] for call in calls} == set(STEPS)
    note = report.run.message
    assert "Prefect did not receive" in note
    assert " task runs (" in note


def test_artifacts_that_cannot_be_shown_are_told_of_and_files_are_there(
    fleet: SimFleet, api: Api, calls: list[str], tmp_path: Any
) -> None:
    two(fleet)
    api.refuses = lambda request: request.url.path.endswith("/artifacts/")

    ran(fleet)

    assert calls
    report = kept(fleet)
    assert report.run.message == "Prefect did not receive the artifacts. The records and this report are complete."
    written = {path.name for path in (tmp_path / "reports" / report.run.id).iterdir()}
    assert {"report.html", "report.json"} <= written


SUCCEEDED, FAILED, WARNED = OperationState.SUCCEEDED, OperationState.FAILED, OperationState.COMPLETED_WITH_WARNINGS
SHOWN: list[tuple[State[Any], OperationState, str]] = [
    (Running(), SUCCEEDED, "Completed"),
    (Running(), FAILED, "Failed"),
    (Running(), OperationState.NOT_STARTED, "NotStarted"),
    (Running(), OperationState.IN_PROGRESS, "Running"),  # it is suspended: whoever goes on sets it right
    (Cancelling(), SUCCEEDED, "Completed"),  # too late to change anything
    (Cancelling(), WARNED, "CompletedWithWarnings"),  # else the run would be Cancelled
    (Cancelled(), SUCCEEDED, "Completed"),
    (Cancelled(), WARNED, "CompletedWithWarnings"),
    (Suspended(), SUCCEEDED, "Completed"),
    (Crashed(), SUCCEEDED, "Completed"),
    (Crashed(), FAILED, "Failed"),
    (Completed(), SUCCEEDED, "Completed"),
    (Scheduled(), SUCCEEDED, "Scheduled"),  # somebody has asked for it once more
]


@pytest.mark.parametrize(("state", "ours", "shown"), SHOWN, ids=[f"{a.name} {b} {c}" for a, b, c in SHOWN])
def test_prefect_shows_how_the_run_ended_that_was_taken_up(
    state: State[Any], ours: OperationState, shown: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = make_run(state=ours)
    monkeypatch.setattr(flow_run_states, "_CANCELLING_SECONDS", 0.0)
    with get_client(sync_client=True) as client:
        made = client.create_flow_run(patch_fleet, parameters={"request": {}})
        client.set_flow_run_state(made.id, state, force=True)
        close_flow_runs_of(RunReport(run, ()), [str(made.id)], "")
        found = client.read_flow_run(made.id).state
    assert found is not None
    assert found.name == shown
    assert (run.id in str(found.message)) is (found.type is not state.type)


def test_a_flow_run_of_another_server_is_let_be() -> None:
    gone = uuid4()
    close_flow_runs_of(RunReport(make_run(state=OperationState.SUCCEEDED), ()), [str(gone)], "")
    with get_client(sync_client=True) as client, pytest.raises(ObjectNotFound):
        client.read_flow_run(gone)
