"""Suspend on a run of a deployment, at every stage, on a real server; and Resume, by the same or by somebody else.

The flow runs here, as a worker lets it run in a process of its own; what is sent is what Prefect's UI sends
(tests/flows/test_buttons.py presses the button itself, with runs in processes of their own).
"""

import logging
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from uuid import UUID

import pytest
from prefect.client.orchestration import get_client
from prefect.client.schemas.objects import FlowRun, State
from prefect.flow_engine import run_flow
from prefect.states import Suspended

from flows.context import Caller
from flows.patch import patch_fleet, resume_fleet
from flows.ports import Ports
from flows.reconcile import reconcile_fleet
from flows.recovery import LeftRun, left_runs
from flows.request import PatchRequest
from tasks.model import RunReport
from tasks.records.approvals import SqlApprovals
from tasks.records.history import History
from tasks.records.opening import open_records
from tasks.states import OperationState
from tests.flows.served import Served
from tests.support.fake_packages import FakePackage
from tests.support.fleet import SimFleet, outcome_of

SUCCEEDED, IN_PROGRESS = OperationState.SUCCEEDED, OperationState.IN_PROGRESS
NAMES = ("first", "second", "third")


class Stage:
    """A deployment, its machines, and somebody who presses Suspend."""

    def __init__(self, served: Served, fleet: SimFleet, url: str) -> None:
        self.served = served
        self.fleet = fleet
        self.url = url
        self.run: FlowRun | None = None
        self.presses = 0

    def request(self, **fields: Any) -> PatchRequest:
        return self.fleet.request(waves={"size": 1}, **fields)

    def press(self) -> None:
        """Press Suspend, and go on when the run has heard of it."""
        assert self.run is not None
        suspend(self.run.id, 300)
        self.presses += 1
        waited = self.fleet.control_heard(lambda control: control.suspended)  # type: ignore[attr-defined]
        assert waited, "the run did not hear that it was suspended"

    def start(self, **fields: Any) -> FlowRun:
        import asyncio

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
            (run,) = History(records).runs()
            return History(records).report(run.id)

    def left(self) -> LeftRun:
        (left,) = left_runs(self.url)
        return left

    def installed(self) -> set[str]:
        return {name for name, machine in self.fleet.machines.items() if machine.installs()}

    def unclaimed(self) -> bool:
        return all(machine.claimed_by is None for machine in self.fleet.machines.values())


def suspend(run_id: UUID, seconds: float) -> None:
    """Send what the button sends (FlowRunSuspendModal of Prefect's UI)."""
    state: State[Any] = Suspended(timeout_seconds=int(seconds))
    with get_client(sync_client=True) as client:
        told = client.set_flow_run_state(run_id, state)
    assert told.status.value == "ACCEPT", told


def carried_out(run_id: UUID) -> FlowRun:
    from prefect.exceptions import Pause

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
    import threading
    import time

    fleet = SimFleet()
    fleet.clock.advance((datetime.now(UTC) - fleet.clock.now()).total_seconds())
    for name in NAMES:
        fleet.add(name, [FakePackage("a", seconds=20), FakePackage("b", seconds=20, asks_reboot=True)])
    url = f"sqlite:///{tmp_path / 'records.db'}"
    controls: list[Any] = []

    @contextmanager
    def ports(request: Any, who: Caller) -> Iterator[Ports]:
        from flows.approval_gate import with_approval

        controls.append(who.control)
        with open_records(who.records_url) as records:
            made = replace(fleet.ports(), records=records, leases=records.leases, watch=who.watch, control=who.control)
            yield with_approval(made, request, SqlApprovals(records.database))

    def heard(seen: Callable[[Any], bool]) -> bool:
        until = time.monotonic() + 30
        while not seen(controls[-1]):
            if time.monotonic() > until:
                return False
            threading.Event().wait(0.05)
        return True

    fleet.control_heard = heard  # type: ignore[attr-defined]
    monkeypatch.setattr("flows.carrying.real_ports", ports)
    monkeypatch.setattr("flows.spread.report_directory", lambda asked: asked or tmp_path / "reports")
    return Stage(served, fleet, url)


def hook(stage: Stage, name: str, script: str) -> None:
    """Press Suspend at a script's first call on a machine."""
    machine = stage.fleet.machines[name]
    handler, seconds = machine._handlers[script]
    pressed: list[bool] = []

    def pressing(asked: Any) -> Any:
        if not pressed:
            pressed.append(True)
            stage.press()
        return handler(asked)

    machine.answer(script, pressing, seconds=seconds)


STAGES: dict[str, tuple[Callable[[Stage], None], set[str]]] = {
    "assessing": (lambda stage: hook(stage, "second", "facts"), set()),
    "pre-check of the first": (lambda stage: hook(stage, "first", "claim"), set()),
    "installing": (lambda stage: stage.fleet.machines["first"].on_start("install", 5, stage.press), {"first"}),
    "rebooting": (lambda stage: hook(stage, "first", "reboot"), {"first"}),
    "between waves": (lambda stage: hook(stage, "second", "claim"), {"first"}),
    "last machine": (lambda stage: stage.fleet.machines["third"].on_start("install", 5, stage.press), set(NAMES)),
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
        assert shown.state_name == "Completed"
        return
    assert (report.run.state, shown.state_name) == (IN_PROGRESS, "Suspended")
    assert stage.left().waits
    assert reconcile_fleet(dry_run=True) == [report.run.id]
    assert reconcile_fleet() == [report.run.id]  # it sees the run, and leaves it alone
    assert stage.records().run.state is IN_PROGRESS

    ended = stage.resume()

    after = stage.records()
    assert ended.state_name == "Completed", ended.state
    assert (after.run.id, after.run.window) == (report.run.id, report.run.window)
    assert {outcome.machine for outcome in after.outcomes} == set(NAMES)
    assert all(outcome_of(after, name).state is SUCCEEDED for name in set(NAMES) - touched)
    assert all(machine.boots.count <= 1 for machine in stage.fleet.machines.values())
    assert stage.unclaimed()
    assert left_runs(stage.url) == ()
    assert not [each for each in caplog.records if each.exc_info and each.levelno >= logging.ERROR]
