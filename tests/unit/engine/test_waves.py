"""Waves, failure budgets and being asked to stop: who is begun, and who is not."""

from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import timedelta

import pytest

from tasks.domain.states import OperationState, RebootState, Step, UpdateState
from tasks.steps.context.machine_context import MachineContext, MachineState
from tasks.steps.context.run_control import LoggingListener
from tests.support.fake_packages import FakePackage
from tests.support.fleet import SimFleet, outcome_of, result_of


@dataclass
class Nosy(LoggingListener):
    """Calls back once, at the first progress of a step."""

    step: Step
    call: Callable[[], None] | None
    heard: list[str] = field(default_factory=list)

    def on_progress(self, machine: str, step: Step, fraction: float | None, message: str) -> None:
        if step is self.step and self.call is not None and (step is not Step.INSTALL or message.startswith("inst")):
            call, self.call = self.call, None
            call()

    def on_message(self, message: str) -> None:
        self.heard.append(message)


def fill(fleet: SimFleet, count: int) -> None:
    for number in range(count):
        fleet.add(f"m{number}", [FakePackage("a", seconds=30), FakePackage("b", seconds=30)])


def test_a_spent_budget_begins_no_further_wave(fleet: SimFleet) -> None:
    fleet.add("bad", [FakePackage("a", fails="no")])
    fill(fleet, 3)

    report = fleet.patch(waves={"size": 1, "failure_budget_count": 0})

    assert outcome_of(report, "bad").state is OperationState.FAILED
    for name in ("m0", "m1", "m2"):
        outcome = outcome_of(report, name)
        assert outcome.state is OperationState.NOT_STARTED
        assert "budget" in outcome.reason
        assert result_of(outcome, "a").state is UpdateState.NOT_ATTEMPTED
        assert not [call for call in fleet.machines[name].calls if call.verb == "start"]
    assert report.run.state is OperationState.FAILED


def test_failures_within_the_budget_go_on(fleet: SimFleet) -> None:
    fleet.add("bad", [FakePackage("a", fails="no")])
    fill(fleet, 2)

    report = fleet.patch(waves={"size": 1, "failure_budget_count": 1})

    assert [outcome_of(report, name).state for name in ("m0", "m1")] == [OperationState.SUCCEEDED] * 2


def test_waves_go_one_after_the_other_with_a_rest(fleet: SimFleet) -> None:
    fill(fleet, 3)

    report = fleet.patch(waves={"size": 1, "canary_count": 1, "pause_minutes": 5})

    assert [wave.machines for wave in report.waves] == [("m0",), ("m1",), ("m2",)]
    assert [wave.canary for wave in report.waves] == [True, False, False]
    spans = [next(begun for begun in fleet.machines[f"m{n}"].begun() if begun.work == "stage").at for n in range(3)]
    ends = [outcome_of(report, f"m{n}").ended_at for n in range(3)]
    for earlier, later in ((0, 1), (1, 2)):
        ended = ends[earlier]
        assert ended is not None
        assert spans[later] - ended >= timedelta(minutes=5)


def test_a_jump_host_comes_after_the_machines_behind_it(fleet: SimFleet) -> None:
    fleet.add("jump", [FakePackage("a")])
    fleet.add("behind", [FakePackage("a")], jump=("jump",))

    report = fleet.patch()

    assert [wave.machines for wave in report.waves] == [("behind",), ("jump",)]


def test_stopped_while_installing_lets_the_transaction_end_and_starts_nothing_new(fleet: SimFleet) -> None:
    fill(fleet, 2)
    fleet.watch = Nosy(Step.INSTALL, lambda: fleet.control.request_stop("tested"))

    report = fleet.patch(reboot="Always")

    first, second = outcome_of(report, "m0"), outcome_of(report, "m1")
    assert result_of(first, "a").state is UpdateState.INSTALLED
    assert fleet.machines["m0"].boots.orders == []
    assert first.reboot is RebootState.NOT_NEEDED
    assert first.reboot_result is not None
    assert "asked to stop: tested" in first.reboot_result.reason
    assert second.state is OperationState.NOT_STARTED
    assert not [call for call in fleet.machines["m1"].calls if call.verb == "start"]


def test_stopped_between_transactions_leaves_the_rest(fleet: SimFleet) -> None:
    web = fleet.add("web", [FakePackage(f"p{number}", seconds=100) for number in range(6)])
    fleet.teach(transaction_seconds=10, install_seconds_per_update=200)
    fleet.watch = Nosy(Step.INSTALL, lambda: fleet.control.request_stop("tested"))

    outcome = outcome_of(fleet.patch(minutes=40, reboot="Never"), "web")

    states = [result.state for result in outcome.updates]
    assert UpdateState.INSTALLED in states
    left = [result for result in outcome.updates if result.state is UpdateState.NOT_ATTEMPTED]
    assert left
    assert all("asked to stop" in result.reason for result in left)
    assert len(web.installs()) == 1


def test_stopped_while_downloading_installs_nothing(fleet: SimFleet) -> None:
    fill(fleet, 1)
    fleet.machines["m0"].on_start("stage", 1, lambda: fleet.control.request_stop("tested"))

    outcome = outcome_of(fleet.patch(), "m0")

    assert fleet.machines["m0"].installs() == []
    assert {result.state for result in outcome.updates} == {UpdateState.NOT_ATTEMPTED}
    assert all("asked to stop: tested" in result.reason for result in outcome.updates)


def test_stopped_while_assessing_asks_no_further_machine(fleet: SimFleet) -> None:
    fill(fleet, 3)
    fleet.watch = Nosy(Step.ASSESS, lambda: fleet.control.request_stop("tested"))

    report = fleet.patch()

    assert [outcome_of(report, f"m{n}").state for n in range(3)] == [OperationState.NOT_STARTED] * 3
    assert [fleet.machines[f"m{n}"].calls for n in (1, 2)] == [[], []]


def test_stopped_while_waiting_for_the_window_begins_nothing(fleet: SimFleet) -> None:
    fill(fleet, 1)
    fleet.watch = Nosy(Step.PRECHECK, None)
    stop_at = fleet.clock.now() + timedelta(minutes=10)
    sleep = fleet.clock.sleep

    def slept(seconds: float) -> None:
        sleep(seconds)
        if fleet.clock.now() >= stop_at:
            fleet.control.request_stop("tested")

    fleet.clock.sleep = slept  # type: ignore[method-assign]
    report = fleet.patch(start=fleet.clock.now() + timedelta(hours=1))

    assert outcome_of(report, "m0").state is OperationState.NOT_STARTED
    assert fleet.clock.now() < stop_at + timedelta(seconds=5)


@pytest.mark.parametrize("broken", [Step.ASSESS, Step.PRECHECK, Step.INSTALL, Step.REBOOT, Step.VALIDATE])
def test_a_fault_of_ours_costs_only_its_machine(fleet: SimFleet, broken: Step, monkeypatch: pytest.MonkeyPatch) -> None:
    from tasks.steps import pipeline

    fill(fleet, 2)
    works = dict(pipeline.STEP_FUNCTIONS)

    def buggy(work: MachineContext) -> MachineState:
        if work.name == "m0":
            raise ZeroDivisionError("a bug")
        return works[broken](work)

    monkeypatch.setattr(pipeline, "STEP_FUNCTIONS", {**works, broken: buggy})
    report = fleet.patch(waves={"failure_budget_count": 1})

    outcome = outcome_of(report, "m0")
    assert outcome.state is OperationState.FAILED
    assert outcome.error is not None
    assert outcome.error.kind == "InternalError"
    assert "a bug" in outcome.reason
    assert outcome_of(report, "m1").state is OperationState.SUCCEEDED


def test_many_machines_side_by_side_give_one_outcome_each(fleet: SimFleet, monkeypatch: pytest.MonkeyPatch) -> None:
    # Six threads push one clock: in small steps, or one machine's sleep makes another one's answer seem late.
    monkeypatch.setattr(fleet.clock, "sleep", lambda seconds: fleet.clock.advance(min(seconds, 0.05)))
    for number in range(12):
        fleet.add(f"m{number}", [FakePackage("a", seconds=1), FakePackage("b", seconds=1)])

    report = fleet.patch(waves={"size": 6, "at_once": 6}, assess_at_once=6)

    assert sorted(outcome.machine for outcome in report.outcomes) == sorted(fleet.machines)
    assert {outcome.state for outcome in report.outcomes} == {OperationState.SUCCEEDED}
    assert all(machine.world.whole() == {"a": "2.0", "b": "2.0"} for machine in fleet.machines.values())
