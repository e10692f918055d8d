"""The failure budget while a wave runs: who is still begun, and what counts as a failure."""

import threading
from collections.abc import Callable
from dataclasses import dataclass, replace

import pytest

from flows.local_run import LocalRunner
from inventory.machine import Check, CheckKind, FailedCheckEffect
from tasks.domain.model import Assessment, JobOutput, Outcome, RunInfo, RunReport
from tasks.domain.states import OperationState, RebootState, Step, UpdateState
from tasks.steps.context.machine_context import MachineContext, MachineState
from tasks.steps.context.run_control import LoggingListener
from tests.support.fake_packages import FakePackage
from tests.support.fake_records import FakeRecords
from tests.support.fleet import SimFleet, outcome_of, result_of
from tests.support.mortal import Killed, Life
from tests.support.taking_up import begin, resume

FOR_GOOD = 1e9


class Holding(LoggingListener):
    """Holds up one machine after its pre-check, until a machine's outcome is in the records."""

    def __init__(self, held: str) -> None:
        self.held = held
        self.go_on = threading.Event()

    def on_step_finished(self, machine: str, step: Step, state: str, message: str) -> None:
        if machine == self.held and step is Step.PRECHECK:
            assert self.go_on.wait(30)


@dataclass(slots=True)
class Telling(FakeRecords):
    """Says when the outcome of a machine is stored."""

    awaited: str = ""
    stored: Callable[[], None] = lambda: None

    def save(self, item: RunInfo | Assessment | Outcome | JobOutput | RunReport) -> None:
        FakeRecords.save(self, item)
        if isinstance(item, Outcome) and item.machine == self.awaited:
            self.stored()


def fill(fleet: SimFleet, count: int, *, failing: int = 0, dead: int = 0) -> None:
    """Add machines: the failing first, then the dead, then those on which all goes well."""
    for number in range(count):
        name = f"m{number:02}"
        machine = fleet.add(name, [FakePackage("a", fails="no" if number < failing else "")])
        if failing <= number < failing + dead:
            machine.cut(FOR_GOOD)


def begun(fleet: SimFleet) -> list[str]:
    return [name for name, machine in fleet.machines.items() if machine.jobs()]


def states(report: RunReport) -> list[OperationState]:
    return [outcome.state for outcome in sorted(report.outcomes, key=lambda outcome: outcome.machine)]


def test_a_wave_that_has_spent_the_budget_begins_no_further_machine(fleet: SimFleet) -> None:
    fill(fleet, 10, failing=10)

    report = fleet.patch(waves={"failure_budget_count": 1})

    assert begun(fleet) == ["m00", "m01"]
    assert states(report) == [OperationState.FAILED] * 2 + [OperationState.NOT_STARTED] * 8
    left = outcome_of(report, "m02")
    assert left.reason == "the failure budget is spent: 2 of 10 machines failed, 1 may fail"
    assert result_of(left, "a").state is UpdateState.NOT_ATTEMPTED
    assert not fleet.machines["m02"].locked_by


def test_the_percentage_is_of_the_runs_machines(fleet: SimFleet) -> None:
    fill(fleet, 10, failing=2)

    report = fleet.patch(waves={"size": 1, "failure_budget_percent": 20})

    assert begun(fleet) == sorted(fleet.machines)
    assert states(report)[2:] == [OperationState.SUCCEEDED] * 8


def test_a_failure_more_than_the_percentage_is_the_last(fleet: SimFleet) -> None:
    fill(fleet, 10, failing=3)

    report = fleet.patch(waves={"size": 1, "failure_budget_percent": 20})

    assert begun(fleet) == ["m00", "m01", "m02"]
    assert "3 of 10 machines failed, 2 may fail (20 %)" in outcome_of(report, "m03").reason


def test_a_first_wave_of_a_large_fleet_does_not_use_the_whole_budget(fleet: SimFleet) -> None:
    fill(fleet, 50, failing=10)  # the default: waves of 20 %, and 20 % may fail

    report = fleet.patch(waves={"percent": 20})

    assert begun(fleet) == ["m00", "m01", "m02"]
    assert "3 of 10 machines of wave 1 failed, 2 may fail (20 %)" in outcome_of(report, "m49").reason


GENEROUS: list[dict[str, object]] = [
    {},
    {"failure_budget_count": 1},
    {"failure_budget_count": 10_000},
    {"failure_budget_percent": 100},
    {"canary_count": 5, "at_once": 1, "failure_budget_percent": 20},
]


@pytest.mark.parametrize("budget", GENEROUS, ids=str)
def test_a_canary_that_fails_ends_a_run_whatever_may_fail(fleet: SimFleet, budget: dict[str, object]) -> None:
    fill(fleet, 20, failing=1)

    report = fleet.patch(waves={"canary_count": 1} | budget)

    assert begun(fleet) == ["m00"]
    assert {outcome.state for outcome in report.outcomes if outcome.machine != "m00"} == {OperationState.NOT_STARTED}
    assert "of canary wave 1 failed, 0 may fail" in outcome_of(report, "m19").reason


def test_an_owner_may_go_on_after_a_failed_canary(fleet: SimFleet) -> None:
    fill(fleet, 20, failing=1)

    report = fleet.patch(waves={"canary_count": 1, "failure_budget_count": 1, "go_on_after_failed_canary": True})

    assert states(report)[1:] == [OperationState.SUCCEEDED] * 19


def test_a_canary_that_its_owners_check_refuses_ends_the_run(fleet: SimFleet) -> None:
    check = Check("the owner's", CheckKind.COMMAND, "/usr/local/bin/ready", FailedCheckEffect.BLOCK)
    canary = fleet.add("canary", [FakePackage("a")], pre_checks=(check,))
    canary.answer("probe", {"kind": "probe", "exit_code": 1, "text": "not now"})
    fill(fleet, 3)

    report = fleet.patch(waves={"canary_count": 1, "failure_budget_count": 5})

    assert begun(fleet) == []
    assert "of canary wave 1 failed, 0 may fail" in outcome_of(report, "m02").reason


def test_a_canary_that_no_time_was_left_for_has_shown_nothing(fleet: SimFleet) -> None:
    fleet.add("canary", [FakePackage("a")])
    fill(fleet, 3)
    fleet.machines["canary"].on_start("stage", 1, lambda: fleet.clock.sleep(7200))

    report = fleet.patch(minutes=120, waves={"canary_count": 1})

    assert begun(fleet) == ["canary"]
    assert result_of(outcome_of(report, "canary"), "a").state is UpdateState.NOT_ATTEMPTED
    assert "canary wave 1 has shown nothing" in outcome_of(report, "m02").reason


def test_canaries_that_only_download_let_the_others_follow(fleet: SimFleet) -> None:
    fill(fleet, 3)

    report = fleet.patch(waves={"canary_count": 1}, download_only=True)

    assert begun(fleet) == sorted(fleet.machines), report.outcomes


def test_canaries_that_are_up_to_date_let_the_others_follow(fleet: SimFleet) -> None:
    fleet.add("canary", [FakePackage("a", available="1.0")])
    fill(fleet, 3)

    report = fleet.patch(waves={"canary_count": 1})

    assert states(report) == [OperationState.SUCCEEDED] * 4


@pytest.mark.parametrize("reboot", ["IfRequired", "Always"])
def test_a_canary_is_a_machine_that_installs_and_not_one_that_only_restarts(fleet: SimFleet, reboot: str) -> None:
    fleet.add("canary", [FakePackage("a", available="1.0")]).world.services.outdated.append("sim.service")
    fill(fleet, 3)

    report = fleet.patch(waves={"canary_count": 1}, reboot=reboot)

    assert report.waves[0].machines == ("m00",)
    assert states(report) == [OperationState.SUCCEEDED] * 4


def test_where_no_machine_installs_the_canaries_are_those_that_restart_services(fleet: SimFleet) -> None:
    for name in ("a", "b", "c"):
        fleet.add(name, [FakePackage("a", available="1.0")]).world.services.outdated.append("sim.service")

    report = fleet.patch(waves={"canary_count": 1})

    assert states(report) == [OperationState.SUCCEEDED] * 3, report.outcomes[-1].reason
    assert all(fleet.machines[name].world.services.restarted for name in fleet.machines)


def test_a_canary_that_failed_before_the_crash_ends_the_run_that_is_taken_up(fleet: SimFleet) -> None:
    fill(fleet, 6, failing=1)
    life = Life()
    fleet.records = Telling(awaited="m00", stored=lambda: setattr(life, "dead", True))
    with pytest.raises(Killed):
        begin(fleet, fleet.request(waves={"canary_count": 2, "failure_budget_count": 5}), life)

    report = resume(fleet)

    assert begun(fleet) == ["m00"]
    assert states(report)[1:] == [OperationState.NOT_STARTED] * 5
    assert "of canary wave 1 failed, 0 may fail" in outcome_of(report, "m05").reason


def test_unreachable_machines_are_not_failures(fleet: SimFleet) -> None:
    fill(fleet, 10, dead=5)

    report = fleet.patch(waves={"failure_budget_count": 0})

    assert states(report) == [OperationState.FAILED] * 5 + [OperationState.SUCCEEDED] * 5
    assert "no answer" in outcome_of(report, "m00").reason


def test_more_unreachable_machines_than_their_limit_begin_nothing(fleet: SimFleet) -> None:
    fill(fleet, 10, dead=6)

    report = fleet.patch()

    assert begun(fleet) == []
    assert states(report) == [OperationState.FAILED] * 6 + [OperationState.NOT_STARTED] * 4
    spent = "too many machines are unreachable: 6 of 10 machines can't be reached, 5 may be missing (50 %)"
    assert outcome_of(report, "m09").reason == spent
    assert "no answer" in outcome_of(report, "m00").reason


def test_the_limit_of_unreachable_machines_is_the_owners(fleet: SimFleet) -> None:
    fill(fleet, 10, dead=9)

    report = fleet.patch(waves={"unreachable_percent": 100})

    assert outcome_of(report, "m09").state is OperationState.SUCCEEDED


def test_a_machine_that_is_lost_in_its_reboot_is_a_failure(fleet: SimFleet) -> None:
    fill(fleet, 4)
    fleet.machines["m00"].boots.up_after = None

    report = fleet.patch(reboot="Always", waves={"failure_budget_count": 0})

    assert outcome_of(report, "m00").reboot is RebootState.FAILED
    assert begun(fleet) == ["m00"]


def test_unreachable_canaries_prove_nothing(fleet: SimFleet) -> None:
    fill(fleet, 10, dead=2)
    for name in list(fleet.machines)[2:]:
        fleet.machines[name].world.packages[0].installed = "2.0"

    report = fleet.patch(waves={"canary_count": 2})

    assert begun(fleet) == []
    assert "canary wave 1 has shown nothing" in outcome_of(report, "m09").reason


def test_canaries_have_something_to_install(fleet: SimFleet) -> None:
    fill(fleet, 10, dead=2)
    fleet.machines["m02"].world.packages[0].installed = "2.0"

    report = fleet.patch(waves={"canary_count": 2})

    assert [wave.machines for wave in report.waves if wave.canary] == [("m03", "m04")]
    assert [wave.number for wave in report.waves if "m00" in wave.machines] == [2]
    assert set(begun(fleet)) == set(fleet.machines) - {"m00", "m01", "m02"}


def test_a_plan_without_any_canary_says_so(fleet: SimFleet) -> None:
    fill(fleet, 3)
    for machine in fleet.described[:2]:
        fleet.described[fleet.described.index(machine)] = replace(machine, location="lab")
    for name in ("m00", "m01"):
        fleet.machines[name].world.packages[0].installed = "2.0"

    report = fleet.patch(waves={"first_locations": ["lab"]})

    assert [wave.canary for wave in report.waves] == [False, False]
    assert "no canary wave: no machine at lab that may be a canary has anything to install in this run" in report.notes
    assert begun(fleet) == ["m02"]


def test_one_canary_that_was_patched_is_enough(fleet: SimFleet) -> None:
    fill(fleet, 10, dead=1)

    report = fleet.patch(waves={"canary_count": 2})

    assert states(report)[1:] == [OperationState.SUCCEEDED] * 9


def test_a_machine_that_answers_later_is_patched_in_its_own_wave(fleet: SimFleet) -> None:
    fill(fleet, 4)
    fleet.machines["m00"].cut(5)

    report = fleet.patch(waves={"size": 2})

    assert states(report) == [OperationState.SUCCEEDED] * 4
    assert [wave.machines for wave in report.waves] == [("m00", "m01"), ("m02", "m03")]
    first = {name: machine.begun()[0].at for name, machine in fleet.machines.items()}
    assert first["m01"] < first["m00"] < first["m02"], "it was not tried beside its own wave"
    assert len([plan for plan in report.plans if plan.machine == "m00"]) == 1


def test_a_machine_that_has_only_been_looked_at_is_not_changed_once_the_budget_is_spent(fleet: SimFleet) -> None:
    for name in ("looked-at", "bad", "next"):
        fleet.add(name, [FakePackage("a", fails="no" if name == "bad" else "")])
    watch = Holding("looked-at")
    fleet.watch, fleet.records = watch, Telling(awaited="next", stored=watch.go_on.set)

    report = fleet.patch(waves={"failure_budget_count": 0, "at_once": 2})

    assert begun(fleet) == ["bad"]
    left = outcome_of(report, "looked-at")
    assert (left.state, left.reason) == (
        OperationState.NOT_STARTED,
        "the failure budget is spent: 1 of 3 machines failed, 0 may fail",
    )
    assert not fleet.machines["looked-at"].locked_by


class Asking(LocalRunner):
    """Notes which machines were asked only once, whenever they were assessed."""

    def __init__(self) -> None:
        super().__init__()
        self.asked: list[tuple[str, bool]] = []

    def execute_steps(self, context: MachineContext, *, last: Step = Step.REPORT) -> MachineState:
        if last is Step.ASSESS:
            self.asked.append((context.name, context.is_retry_disabled))
        return super().execute_steps(context, last=last)


def test_only_the_first_wave_waits_for_retries(fleet: SimFleet) -> None:
    fill(fleet, 3)
    for name in ("m00", "m02"):
        fleet.machines[name].cut(FOR_GOOD)
    runner = Asking()

    fleet.patch(runner=runner, waves={"size": 1, "unreachable_percent": 100})

    assert runner.asked == [("m00", True), ("m01", True), ("m02", True), ("m00", False), ("m02", True)]


def test_a_machine_without_an_approved_plan_is_not_patched(fleet: SimFleet) -> None:
    fill(fleet, 2)
    fleet.machines["m00"].cut(5)

    report = fleet.patch(approval={"required": True})

    assert begun(fleet) == ["m01"]
    assert outcome_of(report, "m00").state is OperationState.FAILED


@pytest.mark.parametrize("needs_approval", [True, False])
def test_a_run_that_is_taken_up_plans_for_whom_it_could_not_reach_if_it_may(
    fleet: SimFleet, needs_approval: bool
) -> None:
    fill(fleet, 2)
    fleet.machines["m01"].cut(5)
    life = Life()
    fleet.machines["m00"].on_start("stage", 1, lambda: setattr(life, "dead", True))
    request = fleet.request(waves={"size": 1}, approval={"required": needs_approval})
    with pytest.raises(Killed):
        begin(fleet, request, life)

    report = resume(fleet)

    assert outcome_of(report, "m00").state is OperationState.SUCCEEDED
    late = outcome_of(report, "m01")
    if needs_approval:
        assert (late.state, fleet.machines["m01"].jobs()) == (OperationState.NOT_STARTED, [])
        assert "was not approved" in late.reason
    else:
        assert late.state is OperationState.SUCCEEDED
        assert {plan.machine for plan in fleet.records.reports[report.run.id].plans} == {"m00", "m01"}


def test_a_run_that_is_stopped_in_its_canary_wave_says_that_and_not_that_the_canaries_showed_nothing(
    fleet: SimFleet,
) -> None:
    fill(fleet, 4)
    fleet.control.request_stop("anne wants it")

    report = fleet.patch(waves={"canary_count": 1, "size": 2})

    assert {outcome.reason for outcome in report.outcomes} == {"the run was asked to stop: anne wants it"}
