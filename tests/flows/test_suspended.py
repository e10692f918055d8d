"""Suspend on a run of a deployment, at every stage, on a real server; and Resume, by the same or by somebody else.

The flow runs here, as a worker lets it run in a process of its own; what is sent is what Prefect's UI sends
(tests/flows/test_buttons.py presses the button itself, with runs in processes of their own).
"""

import asyncio
import logging
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from uuid import UUID

import pytest
from prefect._flow_run_suspension import mark_flow_run_suspension_requested
from prefect.client.orchestration import get_client
from prefect.client.schemas.filters import FlowRunFilter, FlowRunFilterId
from prefect.client.schemas.objects import FlowRun, State, StateType, TaskRun
from prefect.exceptions import Pause
from prefect.flow_engine import run_flow
from prefect.states import Cancelled, Running, Suspended

from flows.patch import patch_fleet, resume_fleet
from flows.ports.caller import Caller
from flows.ports.ports import Ports
from flows.prefect_runtime import signals
from flows.reconcile import reconcile_fleet
from flows.recovery.unfinished_runs import AbandonedRun, find_abandoned_runs
from flows.request.patch_request import PatchRequest
from flows.request.request_parts import ApprovalRequest
from tasks.domain.model import RunReport
from tasks.domain.states import NotificationOccasion, OperationState
from tasks.records.approvals import ApprovalDecision, SqlApprovals
from tasks.records.queries.history import History
from tasks.records.setup import open_records
from tasks.reports.writer import write_report
from tasks.steps.context.run_control import StopToken
from tests.flows.served import Served
from tests.support.approval_gate import add_approval_gate
from tests.support.fake_packages import FakePackage
from tests.support.fleet import SimFleet, outcome_of

HEARD_SECONDS = 240.0
SUCCEEDED, IN_PROGRESS = OperationState.SUCCEEDED, OperationState.IN_PROGRESS
NAMES = ("first", "second")


class Stage:
    """A deployment, its machines, and somebody who presses Suspend."""

    def __init__(self, served: Served, fleet: SimFleet, url: str) -> None:
        self.served = served
        self.fleet = fleet
        self.url = url
        self.run: FlowRun | None = None
        self.presses = 0
        self.control = StopToken()
        self.waiting: Callable[[], None] = lambda: None
        self.reporting: Callable[[], None] = lambda: None

    def request(self, **fields: Any) -> PatchRequest:
        return self.fleet.request(waves={"size": 1}, **fields)

    def press(self) -> None:
        """Press Suspend, and go on when the run has heard of it."""
        self.press_and_go_on()
        until = time.monotonic() + HEARD_SECONDS
        while not self.control.is_suspended:
            assert time.monotonic() < until, "the run did not hear that it was suspended"
            time.sleep(0.05)

    def press_and_go_on(self) -> None:
        assert self.run is not None
        suspend(self.run.id, 300)
        self.presses += 1

    def start(self, **fields: Any) -> FlowRun:
        self.run = asyncio.run(self.served._started(self.request(**fields)))
        return self.carry_out()

    def carry_out(self) -> FlowRun:
        """Let a worker's process take the flow run, which may just have been resumed, and return it as it ended."""
        assert self.run is not None
        return carried_out(self.run.id)

    def resume(self) -> FlowRun:
        """Press Resume, and let a worker take it."""
        assert self.run is not None
        with get_client(sync_client=True) as client:
            client.resume_flow_run(self.run.id)
        return self.carry_out()

    def records(self) -> RunReport:
        """The one run in the records."""
        with open_records(self.url) as records:
            (run,) = History(records).read_runs()
            return History(records).read_report(run.id)

    def steps(self, wanted: str = "") -> dict[UUID, TaskRun]:
        """The steps that Prefect shows; once the wanted one has ended there: they reach it a little later."""
        assert self.run is not None
        own, until = FlowRunFilter(id=FlowRunFilterId(any_=[self.run.id])), time.monotonic() + HEARD_SECONDS
        with get_client(sync_client=True) as client:
            while True:
                shown = client.read_task_runs(flow_run_filter=own)
                if not wanted or any(step.name == wanted and step.state and step.state.is_final() for step in shown):
                    return {step.id: step for step in shown}
                assert time.monotonic() < until, f"Prefect did not receive the end of {wanted}"
                time.sleep(0.1)

    def left(self) -> AbandonedRun:
        (left,) = find_abandoned_runs(self.url)
        return left

    def installed(self) -> set[str]:
        return {name for name, machine in self.fleet.machines.items() if machine.installs()}

    def unclaimed(self) -> bool:
        return all(machine.locked_by is None for machine in self.fleet.machines.values())


def suspend(run_id: UUID, seconds: float) -> None:
    """Send what the button sends (FlowRunSuspendModal of Prefect's UI)."""
    state: State[Any] = Suspended(timeout_seconds=int(seconds))
    with get_client(sync_client=True) as client:
        told = client.set_flow_run_state(run_id, state)
    assert told.status.value == "ACCEPT", told


def carried_out(run_id: UUID) -> FlowRun:
    with get_client(sync_client=True) as client:
        run = client.read_flow_run(run_id)
        flow = patch_fleet if "request" in run.parameters else resume_fleet
        parameters = dict(run.parameters)
        if "request" in parameters:
            parameters["request"] = PatchRequest.model_validate(parameters["request"])
        with suppress(Pause):
            run_flow(flow, flow_run=run, parameters=parameters, return_type="state")
        return client.read_flow_run(run_id)


@pytest.fixture
def stage(served: Served, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Stage:
    fleet = SimFleet()
    fleet.clock.advance((datetime.now(UTC) - fleet.clock.now()).total_seconds())
    for name in NAMES:
        fleet.add(name, [FakePackage("a", seconds=20), FakePackage("b", seconds=20, asks_reboot=True)])
    made = Stage(served, fleet, f"sqlite:///{tmp_path / 'records.db'}")

    def tell(occasion: NotificationOccasion, _report: RunReport) -> None:
        if occasion is NotificationOccasion.WAITING:
            made.waiting()

    @contextmanager
    def ports(request: Any, who: Caller) -> Iterator[Ports]:
        made.control = who.stop_token
        with open_records(who.records_url) as records:
            mine = replace(fleet.ports(), records=records, leases=records.leases, listener=who.listener)
            yield add_approval_gate(
                replace(mine, stop_token=who.stop_token, notify=tell), SqlApprovals(records.database)
            )

    def write(*args: Any, **more: Any) -> Any:
        made.reporting()
        return write_report(*args, **more)

    monkeypatch.setattr("flows.execution.open_ports", ports)
    monkeypatch.setattr("tasks.reports.writer.write_report", write)
    monkeypatch.setattr(
        "flows.prefect_runtime.runner.find_report_directory", lambda asked: asked or tmp_path / "reports"
    )
    return made


def hook(stage: Stage, name: str, script: str, boots: int = 0) -> None:
    """Press Suspend at a script's first call on a machine that was booted so often."""
    machine = stage.fleet.machines[name]
    handler, seconds = machine._handlers[script]
    pressed: list[bool] = []

    def pressing(asked: Any) -> Any:
        if not pressed and machine.boots.count >= boots:
            pressed.append(True)
            stage.press()
        return handler(asked)

    machine.answer(script, pressing, seconds=seconds)


STAGES: dict[str, tuple[Callable[[Stage], None], set[str]]] = {
    "assessing": (lambda stage: hook(stage, "second", "facts"), set()),
    "pre-check of the first": (lambda stage: hook(stage, "first", "machine_lock"), set()),
    "installing": (lambda stage: stage.fleet.machines["first"].on_start("install", 5, stage.press), {"first"}),
    "rebooting": (lambda stage: hook(stage, "first", "reboot"), {"first"}),
    "between waves": (lambda stage: hook(stage, "second", "machine_lock"), {"first"}),
    "validating the last": (lambda stage: hook(stage, "second", "fake_assess", boots=1), set(NAMES)),
    "reporting": (lambda stage: setattr(stage, "reporting", stage.press_and_go_on), set(NAMES)),
    "last machine": (lambda stage: stage.fleet.machines["second"].on_start("install", 5, stage.press), set(NAMES)),
}


@pytest.mark.parametrize("when", STAGES)
def test_a_suspended_run_ends_what_it_has_begun_and_is_gone_on_with_in_its_window(
    stage: Stage, when: str, caplog: pytest.LogCaptureFixture
) -> None:
    prepare, touched = STAGES[when]
    prepare(stage)

    shown = stage.start()

    assert stage.presses == 1
    report = stage.records()
    assert stage.unclaimed()
    assert stage.installed() == touched
    assert {outcome.machine for outcome in report.outcomes} == touched
    for name in touched:
        assert outcome_of(report, name).reboot.value in {"Completed", "Required"}
    if touched == set(NAMES):  # nothing was left: it is over, and Prefect shows that
        assert report.run.state is not IN_PROGRESS
        assert shown.state_name in {"Completed", "CompletedWithWarnings"}  # as the run
        return
    assert (report.run.state, shown.state_name) == (IN_PROGRESS, "Suspended")
    assert stage.left().wait_reason

    before = stage.steps()
    ended = stage.resume()

    after = stage.records()
    assert ended.state_name in {"Completed", "CompletedWithWarnings"}, ended.state
    shown_steps = stage.steps("validate second")
    assert before.keys() <= shown_steps.keys()
    names = {step: shown.name for step, shown in before.items() if shown.state and shown.state.is_final()}
    assert {step: shown_steps[step].name for step in names} == names  # one that has not ended may get its name later
    assert {f"install {name}" for name in NAMES} <= {step.name for step in shown_steps.values()}
    assert (after.run.id, after.run.window) == (report.run.id, report.run.window)
    assert {outcome.machine for outcome in after.outcomes} == set(NAMES)
    assert all(outcome_of(after, name).state is SUCCEEDED for name in set(NAMES) - touched)
    assert all(machine.boots.count <= 1 for machine in stage.fleet.machines.values())
    assert stage.unclaimed()
    assert find_abandoned_runs(stage.url) == ()
    assert not [each for each in caplog.records if each.exc_info and each.levelno >= logging.ERROR]


def test_a_run_that_hears_of_suspend_only_after_its_end_is_shown_as_it_ended(
    stage: Stage, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(signals, "SUSPEND_POLL_SECONDS", HEARD_SECONDS)  # the run looks too late

    def press_and_deliver() -> None:
        stage.press_and_go_on()
        assert stage.run is not None
        assert mark_flow_run_suspension_requested(stage.run.id, Suspended()), "Prefect's observer can't reach the run"

    stage.reporting = press_and_deliver

    shown = stage.start()

    assert stage.presses == 1
    assert stage.records().run.state is not IN_PROGRESS
    assert shown.state_name == "Completed"


def test_a_step_whose_process_died_is_not_shown_as_running_for_ever(stage: Stage) -> None:
    hook(stage, "second", "machine_lock")
    stage.start()
    (left,) = [step for step in stage.steps("validate first").values() if step.name == "validate first"]
    with get_client(sync_client=True) as client:
        client.set_task_run_state(left.id, Running(), force=True)

    stage.resume()

    shown = stage.steps("validate second")
    assert shown[left.id].state_name == "Crashed"
    assert {step.state_type for step in shown.values() if step.name.endswith(" second")} == {StateType.COMPLETED}


def test_one_that_waits_for_approval_may_be_approved_while_it_is_suspended(stage: Stage) -> None:
    stage.waiting = stage.press
    shown = stage.start(approval=ApprovalRequest(required=True))
    report = stage.records()
    assert (report.run.state, shown.state_name, stage.presses) == (IN_PROGRESS, "Suspended", 1)
    assert stage.installed() == set()

    with open_records(stage.url) as records:
        approvals = SqlApprovals(records.database)
        asked = approvals.find_approval(report.run.id)
        assert asked is not None
        assert asked.decision is ApprovalDecision.WAITING
        approvals.decide(report.run.id, asked.digest, ApprovalDecision.APPROVED, "anne")
    stage.waiting = lambda: None
    ended = stage.resume()

    after = stage.records()
    assert ended.state_name == "Completed", ended.state
    assert after.run.id == report.run.id
    assert {outcome.state for outcome in after.outcomes} == {SUCCEEDED}
    assert any("anne" in note for note in after.notes)


def test_reconcile_leaves_one_that_is_suspended_alone_and_settles_it_when_it_is_cancelled(stage: Stage) -> None:
    hook(stage, "second", "machine_lock")
    stage.start()
    assert stage.run is not None
    suspended = stage.records().run
    assert reconcile_fleet(dry_run=True) == [suspended.id]
    assert reconcile_fleet() == [suspended.id]  # it sees the run
    assert stage.records().run.state is IN_PROGRESS
    with get_client(sync_client=True) as client:
        client.set_flow_run_state(stage.run.id, Cancelled(), force=True)

    reconcile_fleet()

    report = stage.records()
    assert report.run.state is OperationState.CANCELLED
    assert {outcome.machine for outcome in report.outcomes} == set(NAMES)
    assert stage.installed() == {"first"}
    assert find_abandoned_runs(stage.url) == ()
    with get_client(sync_client=True) as client:
        assert client.read_flow_run(stage.run.id).state_name == "Cancelled"


def test_somebody_else_resumes_it_with_the_command(stage: Stage) -> None:
    hook(stage, "second", "machine_lock")
    stage.start()
    assert stage.run is not None
    run = stage.records().run

    resume_fleet(run.id)

    report = stage.records()
    assert (report.run.id, report.run.state) == (run.id, SUCCEEDED)
    with get_client(sync_client=True) as client:  # it waits for nobody any more
        assert client.read_flow_run(stage.run.id).state_name == "Completed"


def test_what_is_no_fault_of_ours_is_told_without_a_traceback(stage: Stage, caplog: pytest.LogCaptureFixture) -> None:
    stage.fleet.machines["first"].world["a"].fails = "no"
    failed = stage.start()
    again = stage.carry_out()  # Retry of a run that is over
    assert (failed.state_name, again.state_name) == ("Failed", "Failed")
    assert failed.state is not None
    assert str(failed.state.message).startswith("1 of 2 machines failed: first; fleetpatch show ")
    assert "is over: Failed" in str(again.state.message if again.state else "")
    assert not [each for each in caplog.records if each.exc_info]
