"""Approval on a Prefect server: the form as the UI fills it in, the command beside it, and what is shown."""

import contextvars
import json
import secrets
import shutil
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any
from uuid import UUID

import httpx
import pytest
from prefect.client.orchestration import SyncPrefectClient, get_client
from prefect.client.schemas.filters import FlowRunFilter, FlowRunFilterName
from prefect.client.schemas.objects import FlowRun, State, StateType
from prefect.client.schemas.responses import SetStateStatus
from prefect.states import Cancelling, Running

import flows.approval.prefect_form
import flows.flow_execution
from flows.approval.answers import ApprovalAnswer, PendingApproval
from flows.approval.decisions import approve_run
from flows.approval.prefect_form import PrefectForm, approve_plan
from flows.patch import patch_fleet
from flows.ports.caller import Caller, use_caller
from flows.prefect_api.api_client import shows_state_of_this_process
from flows.request.patch_request import PatchRequest
from flows.request.request_parts import ApprovalRequest
from tasks.domain.model import RunReport
from tasks.domain.run_errors import FleetPatchFailed
from tasks.domain.states import Classification, OperationState, UpdateState
from tasks.records.approvals import Approval, ApprovalDecision, SqlApprovals
from tasks.records.setup import open_records
from tasks.records.sql_records import SqlRecords
from tasks.rules.runs.approval import compute_report_digest
from tasks.steps.context.run_control import StopToken
from tests.flows.prefect_view import artifacts
from tests.support import builders as make
from tests.support.approval_gate import add_approval_gate
from tests.support.fake_clock import FakeClock
from tests.support.fake_packages import FakePackage
from tests.support.fleet import SimFleet, outcome_of

pytestmark = pytest.mark.usefixtures("prefect_server")

PATIENCE = 300.0
HOSTILE = "<img src=x onerror=alert(1)> [click](javascript:alert(1)) | `x`"


class HastyClock(FakeClock):
    """Time goes by faster than it does, and yet people can get a word in."""

    def sleep(self, seconds: float) -> None:
        time.sleep(min(seconds, 0.1))
        super().sleep(seconds)


@dataclass
class Stage:
    fleet: SimFleet
    records: SqlRecords
    url: str
    run_id: str  # another one in every test: they share one server

    def request(self, minutes: float = 600, **approval: Any) -> PatchRequest:
        return self.fleet.request(minutes=minutes, approval=ApprovalRequest(**{"required": True, **approval}))

    def run(self, person: Callable[[], object], **asked: Any) -> tuple[State[RunReport], RunReport]:
        """Run the flow while a person does something."""
        faults: list[BaseException] = []

        def act() -> None:
            try:
                person()
            except BaseException as error:  # noqa: BLE001 - raised again in the test's own thread
                faults.append(error)
                self.fleet.control.request_stop("the test's person failed")

        thread = threading.Thread(target=contextvars.copy_context().run, args=(act,))
        thread.start()
        with use_caller(Caller(run_id=self.run_id, records_url=self.url, name="bob", stop_token=self.fleet.control)):
            state: State[RunReport] = patch_fleet(self.request(**asked), return_state=True)
        thread.join(PATIENCE)
        if faults:
            raise faults[0]
        result = state.result(raise_on_failure=False)
        report = result.report if isinstance(result, FleetPatchFailed) else result
        assert isinstance(report, RunReport), result
        return state, report

    def standing(self) -> Approval:
        found = SqlApprovals(self.records.database, self.fleet.clock).find_approval(self.run_id)
        assert found is not None
        return found

    def question(self, seen: Callable[[FlowRun], bool] | None = None) -> FlowRun:
        """Return the flow run that waits, as soon as it does."""
        seen = seen or (lambda run: run.state is not None and run.state.is_paused())
        until = time.monotonic() + PATIENCE
        named = FlowRunFilter(name=FlowRunFilterName(any_=[f"approval of {self.run_id}"]))
        with client() as asked:
            while time.monotonic() < until:
                for run in asked.read_flow_runs(flow_run_filter=named):
                    if seen(run):
                        return run
                time.sleep(0.3)
        raise AssertionError("no flow run waits")

    def ended(self) -> State[Any]:
        """Return the state in which the question ended."""
        return state_of(self.question(lambda run: run.state is not None and run.state.is_final()).id)

    def approve(self, who: str = "anna", remark: str = "") -> None:
        approve_run(self.run_id, who, remark, records_url=self.url, clock=self.fleet.clock)


@pytest.fixture
def stage(tmp_path: Path, empty_records: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Stage]:
    shutil.copy(empty_records, tmp_path / "records.db")
    url = f"sqlite:///{tmp_path / 'records.db'}"
    made = SimFleet(clock=HastyClock())
    made.add("web", [FakePackage("openssl", classification=Classification.SECURITY), FakePackage(HOSTILE)])
    with open_records(url) as records:

        def ports(request: PatchRequest, who: Caller) -> Any:
            way = replace(made.ports(), records=records, leases=records.leases, listener=who.listener)
            return nullcontext(add_approval_gate(way, SqlApprovals(records.database, made.clock)))

        monkeypatch.setattr("flows.execution.open_ports", ports)
        monkeypatch.setattr(
            "flows.prefect_runtime.runner.find_report_directory", lambda asked: asked or tmp_path / "reports"
        )
        monkeypatch.setattr(flows.approval.prefect_form, "POLL_SECONDS", 0.3)
        yield Stage(made, records, url, f"20260310-010000-{secrets.token_hex(3)}")


@contextmanager
def client() -> Iterator[SyncPrefectClient]:
    with get_client(sync_client=True) as made:
        yield made


def fill_in(flow_run_id: UUID, **fields: str) -> SetStateStatus:
    """Fill the form in, as the UI does."""
    with client() as asked:
        return asked.resume_flow_run(flow_run_id, run_input=fields).status


def inputs(flow_run_id: UUID, end: str) -> list[Any]:
    with client() as asked:
        found = asked.filter_flow_run_input(flow_run_id, key_prefix="paused-", limit=20, exclude_keys=set())
    return [json.loads(each.value) for each in found if each.key.endswith(end)]


def state_of(flow_run_id: UUID) -> State[Any]:
    with client() as asked:
        state = asked.read_flow_run(flow_run_id).state
    assert state is not None
    return state


def test_the_form_lets_the_run_go_on_and_the_plan_stands_beside_it(
    stage: Stage, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FLEETPATCH_WEB_URL", "https://p.example.org")
    seen: dict[str, Any] = {}

    def build_flow_result(report: RunReport, flow_run_id: str) -> RunReport:
        seen["shows own state"] = shows_state_of_this_process()
        return end_flow(report, flow_run_id)

    end_flow = flows.flow_execution._build_flow_result
    monkeypatch.setattr(flows.flow_execution, "_build_flow_result", build_flow_result)

    def person() -> None:
        waiting = stage.question()
        seen["state"] = waiting.state
        seen["parent"] = state_of(_parent_of(waiting))
        seen["bad"] = [
            fill_in(waiting.id, decision="perhaps", name="anna"),
            fill_in(waiting.id, decision="approve", name=""),
            fill_in(waiting.id, decision="approve"),
            fill_in(waiting.id, decision="approve", name="anna", cheat="yes"),
            fill_in(waiting.id),
        ]
        seen["touched"] = [name for name, machine in stage.fleet.machines.items() if machine.installs()]
        seen["form"] = inputs(waiting.id, "-schema")[0]
        seen["description"] = inputs(waiting.id, "-description")[0]
        seen["artifacts"] = artifacts(waiting.id)
        seen["good"] = fill_in(waiting.id, decision="approve", name="anna", remark="fine")

    state, report = stage.run(person)

    assert state.is_completed(), state.message
    assert seen["shows own state"]
    assert seen["parent"].type is StateType.RUNNING  # it keeps its slot of the deployment
    assert seen["parent"].name == "AwaitingApproval"
    assert seen["parent"].message == f"approve or reject: https://p.example.org/approvals/{stage.run_id}"
    assert state.state_details.flow_run_id is not None
    with client() as asked:
        states = sorted(asked.read_flow_run_states(state.state_details.flow_run_id), key=lambda each: each.timestamp)
    assert [each.name for each in states][-4:] == ["Running", "AwaitingApproval", "Running", "Completed"]
    assert seen["state"].state_details.pause_timeout is None
    assert seen["bad"] == [SetStateStatus.REJECT] * 5
    assert seen["good"] is SetStateStatus.ACCEPT
    assert seen["touched"] == []
    assert set(seen["form"]["properties"]) == {"decision", "name", "remark"}
    assert seen["form"]["properties"]["decision"]["enum"] == ["approve", "reject"]
    assert "2 updates on 1 machine" in seen["description"]
    shown_as = {key: artifact.type for key, artifact in seen["artifacts"].items()}
    assert shown_as == {"fleetpatch-approval-plan": "markdown", "fleetpatch-approval-machines": "table"}
    plan = str(seen["artifacts"]["fleetpatch-approval-plan"].data)
    assert "openssl" in plan
    assert "<img" not in plan
    assert "](javascript" not in plan
    assert outcome_of(report, "web").count_updates(UpdateState.INSTALLED) == 2
    standing = stage.standing()
    assert (standing.decision, standing.who, standing.remark) == (ApprovalDecision.APPROVED, "anna", "fine")
    assert report.notes[0].startswith("approved by anna on ")
    told = stage.ended()
    assert (told.name, told.type.value) == ("Approved", "COMPLETED")
    assert "approved by anna" in (told.message or "")


def _parent_of(child: FlowRun) -> UUID:
    assert child.parent_task_run_id is not None
    with client() as asked:
        (task,) = [asked.read_task_run(child.parent_task_run_id)]
    assert task.flow_run_id is not None
    return task.flow_run_id


def test_the_form_can_end_the_run_too(stage: Stage) -> None:
    state, report = stage.run(lambda: fill_in(stage.question().id, decision="reject", name="anna", remark="not now"))
    assert (state.type.value, state.name) == ("FAILED", "NotStarted")
    assert "rejected by anna" in (state.message or "")
    outcome = outcome_of(report, "web")
    assert outcome.state is OperationState.NOT_STARTED
    assert "rejected by anna" in outcome.reason
    assert "not now" in outcome.reason
    assert stage.ended().name == "Rejected"


def test_the_command_works_on_the_same_waiting_run_and_the_ui_tells_the_truth(stage: Stage) -> None:
    def person() -> None:
        stage.question()
        stage.approve("anna", "by command")

    _, report = stage.run(person)
    assert outcome_of(report, "web").count_updates(UpdateState.INSTALLED) == 2
    told = stage.ended()
    assert (told.name, told.type.value) == ("Approved", "COMPLETED")
    assert "by command" in (told.message or "")


def test_whoever_started_it_is_asked_again_for_somebody_else(stage: Stage) -> None:
    def person() -> None:
        first = stage.question()
        key = first.state.state_details.pause_key if first.state else ""
        fill_in(first.id, decision="approve", name="Bob")
        again = stage.question(
            lambda run: bool(run.state and run.state.is_paused() and run.state.state_details.pause_key != key)
        )
        assert any("bob started it" in text for text in inputs(again.id, "-description"))
        fill_in(again.id, decision="approve", name="anna")

    stage.run(person, not_by_starter=True)
    assert stage.standing().who == "anna"


def test_cancelled_in_prefect_it_waits_no_more(stage: Stage) -> None:
    def person() -> None:
        with client() as asked:
            asked.set_flow_run_state(stage.question().id, Cancelling())

    _, report = stage.run(person)
    assert "cancelled in Prefect" in outcome_of(report, "web").reason
    assert stage.standing().decision is ApprovalDecision.EXPIRED
    assert stage.ended().type.value == "CANCELLED"


def test_when_nobody_answers_it_expires_by_our_clock_and_says_so(stage: Stage) -> None:
    state, report = stage.run(stage.question, expires_minutes=0.5)
    assert (state.type.value, state.name) == ("FAILED", "NotStarted")
    assert "no approval until" in (state.message or "")
    assert "no approval until" in outcome_of(report, "web").reason
    assert stage.ended().name == "Expired"


def test_prefect_that_goes_away_while_it_waits_is_not_needed(stage: Stage, monkeypatch: pytest.MonkeyPatch) -> None:
    def person() -> None:
        stage.question()
        monkeypatch.setattr(PrefectForm, "_poll_flow_runs", _gone)
        time.sleep(1)
        stage.approve()

    _, report = stage.run(person)
    assert outcome_of(report, "web").count_updates(UpdateState.INSTALLED) == 2


def _gone(*_: object) -> None:
    raise httpx.ConnectError("told to be away")


def test_prefect_that_is_away_from_the_start_is_not_needed(stage: Stage, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(flows.approval.prefect_form, "approve_plan", lambda *_, **__: _gone())

    def person() -> None:
        until = time.monotonic() + PATIENCE
        while (
            SqlApprovals(stage.records.database, stage.fleet.clock).find_approval(stage.run_id) is None
            and time.monotonic() < until
        ):
            time.sleep(0.1)
        stage.approve()

    _, report = stage.run(person)
    assert outcome_of(report, "web").count_updates(UpdateState.INSTALLED) == 2


def test_what_was_answered_while_nobody_was_there_is_heard_by_whoever_takes_the_run_up(stage: Stage) -> None:
    report = make.make_report(run=make.make_run(id="20260310-020000-bbbbbb"))
    asked = PendingApproval(report, compute_report_digest(report), stage.fleet.clock.now())
    with client() as prefect:
        runs = [
            prefect.create_flow_run(approve_plan, name=f"approval of {report.run.id}", state=Running()).id
            for _ in range(3)
        ]
        left, other, mine = runs
        PrefectForm(asked, left, left, StopToken())._pause_on_form(prefect)
        PrefectForm(replace(asked, digest="0" * 64), other, other, StopToken())._pause_on_form(prefect)
    assert fill_in(left, decision="approve", name="anna", remark="late") is SetStateStatus.ACCEPT
    assert fill_in(other, decision="reject", name="carla") is SetStateStatus.ACCEPT  # of another plan

    word: ApprovalAnswer | None = None
    until = time.monotonic() + PATIENCE
    with PrefectForm(asked, mine, mine, StopToken()) as desk:
        while word is None and time.monotonic() < until:
            word = desk.read_answer()
            time.sleep(0.05)
        while not state_of(other).is_final() and time.monotonic() < until:
            time.sleep(0.05)

    assert word == ApprovalAnswer(is_approval=True, who="anna", remark="late")
    assert [state_of(each).is_cancelled() for each in (left, other, mine)] == [True, True, False]


def test_the_run_shows_that_it_waits_or_no_longer_does_also_after_prefect_was_away(
    stage: Stage, monkeypatch: pytest.MonkeyPatch
) -> None:
    report = make.make_report(run=make.make_run(id=stage.run_id))
    asked = PendingApproval(report, compute_report_digest(report), stage.fleet.clock.now())
    with client() as prefect:
        parent, mine = (prefect.create_flow_run(approve_plan, state=Running()).id for _ in range(2))
    present, is_away = SyncPrefectClient.read_flow_run, threading.Event()

    def read(self: SyncPrefectClient, flow_run_id: UUID) -> FlowRun:
        if is_away.is_set() and threading.current_thread().name == "approval":
            raise httpx.ConnectError("told to be away")
        return present(self, flow_run_id)

    monkeypatch.setattr(SyncPrefectClient, "read_flow_run", read)

    def shows(name: str) -> bool:
        until = time.monotonic() + PATIENCE
        while state_of(parent).name != name and time.monotonic() < until:
            time.sleep(0.1)
        return state_of(parent).name == name

    is_away.set()
    form = PrefectForm(asked, parent, mine, StopToken())
    with form:
        assert wait_until(lambda: form._is_prefect_unreachable)
        is_away.clear()
        assert shows("AwaitingApproval")
        is_away.set()
        monkeypatch.setattr("flows.approval.prefect_form.STOP_TIMEOUT_SECONDS", PATIENCE)
        began = time.monotonic()
    assert time.monotonic() - began < PATIENCE / 2  # the run does not wait for it
    assert state_of(parent).name == "AwaitingApproval"
    is_away.clear()
    assert shows("Running")


def wait_until(is_so: Callable[[], bool]) -> bool:
    until = time.monotonic() + PATIENCE
    while not is_so() and time.monotonic() < until:
        time.sleep(0.1)
    return is_so()
