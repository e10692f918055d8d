"""Runs with limits of what machines share: how many are at work at once, who waits, and what people are told."""

import threading
import time
from dataclasses import dataclass, field
from typing import Any

import pytest

from flows.engine.machine_queue import MachineQueue, QueuedMachine
from flows.engine.progress_recorder import ProgressRecorder
from flows.local_run import LocalRunner
from flows.request.read_requests import AssessRequest
from inventory.resource_limits import Resource, ResourceKind, ResourceLimits
from tasks.domain.protocols.records import ProgressRow
from tasks.domain.states import OperationState, Step
from tasks.steps.context.machine_context import MachineContext, MachineState
from tasks.steps.context.run_control import LoggingListener
from tests.support.fake_packages import FakePackage
from tests.support.fleet import SimFleet, outcome_of


@dataclass
class Messages(LoggingListener):
    heard: list[str] = field(default_factory=list)

    def on_message(self, message: str) -> None:
        self.heard.append(message)


@dataclass
class CountingRunner(LocalRunner):
    """Counts how many machines are at work at once. Each stays until so many have been, and for a moment longer."""

    expected: int
    most: int = 0
    begun: list[str] = field(default_factory=list)
    _at_work: int = 0
    _changed: threading.Condition = field(default_factory=threading.Condition)

    def __post_init__(self) -> None:
        super().__init__()

    def execute_steps(self, context: MachineContext, *, last: Step = Step.REPORT) -> MachineState:
        with self._changed:
            self.begun.append(context.name)
            self._at_work += 1
            self.most = max(self.most, self._at_work)
            self._changed.notify_all()
            self._changed.wait_for(lambda: self.most >= self.expected, timeout=60)
        time.sleep(0.01)
        try:
            return super().execute_steps(context, last=last)
        finally:
            with self._changed:
                self._at_work -= 1


def build(count: int, limits: ResourceLimits, **machine: Any) -> SimFleet:
    fleet = SimFleet(watch=Messages(), limits=limits)
    for number in range(count):
        fleet.add(f"m{number}", [FakePackage("a", seconds=30)], **machine)
    return fleet


def heard(fleet: SimFleet) -> list[str]:
    assert isinstance(fleet.watch, Messages)
    return [message for message in fleet.watch.heard if " wait" in message]


def test_no_more_machines_of_a_hypervisor_are_worked_on_at_once_than_its_limit() -> None:
    limits = ResourceLimits({Resource(ResourceKind.HYPERVISOR, "esx-1"): 1})
    fleet, runner = build(4, limits, hypervisor="esx-1"), CountingRunner(1)
    report = fleet.patch(runner=runner, waves={"at_once": 4})
    assert {outcome.state for outcome in report.outcomes} == {OperationState.SUCCEEDED}
    assert [outcome.machine for outcome in report.outcomes] == ["m0", "m1", "m2", "m3"]
    assert runner.begun == ["m0", "m1", "m2", "m3"] * 2  # the assessments, then the turns
    assert runner.most == 1
    assert heard(fleet) == ["m1, m2, m3 wait: 1 machine uses hypervisor esx-1"]


def test_a_limit_concerns_who_shares_that_resource_alone() -> None:
    limits = ResourceLimits({Resource(ResourceKind.HYPERVISOR, "esx-2"): 1})
    fleet, runner = build(4, limits, hypervisor="esx-1"), CountingRunner(4)
    fleet.patch(runner=runner, waves={"at_once": 4}, assess_at_once=4)
    assert runner.most == 4
    assert heard(fleet) == []


@pytest.mark.parametrize(
    ("kind", "waits"),
    [
        (ResourceKind.SITE, ["m2 waits: 2 machines use site default"]),
        (ResourceKind.JUMP_HOST, ["m2 waits: 2 machines use jump host bastion"]),
        (ResourceKind.MIRROR, []),
        (ResourceKind.HYPERVISOR, []),
    ],
)
def test_an_assessment_keeps_the_limits_of_its_way(kind: ResourceKind, waits: list[str]) -> None:
    limits = ResourceLimits(others={kind: 2})
    fleet = build(3, limits, jump=("bastion",), hypervisor="esx-1", mirror="hh")
    runner = CountingRunner(2 if waits else 3)
    fleet.campaign(AssessRequest(scope="*", at_once=3), runner).execute()
    assert runner.most == runner.expected
    assert heard(fleet) == waits


def test_a_machine_whose_place_never_gets_free_in_the_window_is_not_started() -> None:
    fleet = build(2, ResourceLimits(others={ResourceKind.HYPERVISOR: 1}), hypervisor="esx-1")
    fleet.machines["m0"].world.packages[0].seconds = 3600
    report = fleet.patch(minutes=45, waves={"at_once": 2})
    assert outcome_of(report, "m1").state is OperationState.NOT_STARTED


def test_a_body_that_raises_stops_the_run_and_frees_its_place() -> None:
    fleet = build(3, ResourceLimits(others={ResourceKind.SITE: 1}))
    ports = fleet.ports()
    seen: list[str] = []

    def body(machine: QueuedMachine) -> str:
        seen.append(machine.context.name)
        assert ports.stop_token.is_stopping or len(seen) == 1
        if len(seen) == 1:
            raise ValueError("broken")
        return machine.context.name

    @dataclass
    class Context:
        name: str

    contexts = [Context(f"m{number}") for number in range(3)]
    with pytest.raises(ValueError, match="broken"):
        MachineQueue(contexts, ports, body).run(3)  # type: ignore[arg-type]
    assert seen == ["m0", "m1", "m2"]


def test_the_page_says_of_each_machine_why_it_waits() -> None:
    recorder = ProgressRecorder(LoggingListener(), None, SimFleet().clock)  # type: ignore[arg-type]  # nothing is written
    recorder._is_recording = True
    recorder.expect_machines({"m0": 1, "m1": 1})
    recorder.note_waiting(["m1", "unknown"], "20 machines use jump host bastion-1")
    rows: dict[str, ProgressRow] = recorder._rows
    assert (rows["m1"].state, rows["m1"].message) == (
        OperationState.NOT_STARTED,
        "waits: 20 machines use jump host bastion-1",
    )
    assert rows["m0"].message == ""
    assert "unknown" not in rows
