"""A plan promises what a patch run keeps: what its pre-check would refuse stands in the plan."""

from collections.abc import Callable

import pytest

from tasks.domain.states import OperationState, UpdateState
from tests.support.fake_packages import FakePackage
from tests.support.fleet import SimFleet, outcome_of, result_of
from tests.support.sim_machine import SimMachine


def little_room(machine: SimMachine) -> None:
    machine.free_kib = 25 * 1024


def half_configured(machine: SimMachine) -> None:
    machine.world.packages[0].installed, machine.world.packages[0].broken = "2.0", True


def clock_far_off(machine: SimMachine) -> None:
    machine.world.skew_seconds = 3600


TROUBLES = [little_room, half_configured, clock_far_off]


def fleet_with(trouble: Callable[[SimMachine], None]) -> SimFleet:
    fleet = SimFleet()
    machine = fleet.add("web", [FakePackage("broken-one"), FakePackage("a")])
    trouble(machine)
    return fleet


@pytest.mark.parametrize("trouble", TROUBLES)
def test_what_the_pre_check_would_refuse_stands_in_the_plan(trouble: Callable[[SimMachine], None]) -> None:
    told = outcome_of(fleet_with(trouble).patch(dry_run=True), "web")
    kept = outcome_of(fleet_with(trouble).patch(), "web")

    assert kept.state is told.state is OperationState.FAILED
    assert told.reason == kept.reason
    assert result_of(told, "a").state is result_of(kept, "a").state is UpdateState.NOT_ATTEMPTED
    assert result_of(told, "a").reason == result_of(kept, "a").reason
    assert [finding.remedy for finding in told.findings if finding.remedy]


@pytest.mark.parametrize("trouble", TROUBLES)
def test_a_plan_that_is_approved_shows_what_would_be_refused(trouble: Callable[[SimMachine], None]) -> None:
    (plan,) = fleet_with(trouble).patch(dry_run=True).plans

    assert [note for note in plan.notes if note.startswith("pre-check would refuse: ")]


def test_a_machine_that_would_not_be_visited_is_refused_nothing() -> None:
    fleet = SimFleet()
    fleet.add("web", [], skew_seconds=3600)

    assert outcome_of(fleet.patch(dry_run=True), "web").state is OperationState.NOT_STARTED
    assert outcome_of(fleet.patch(), "web").state is OperationState.SUCCEEDED


def test_a_repair_that_is_allowed_is_no_refusal() -> None:
    told = outcome_of(fleet_with(half_configured).patch(dry_run=True, repair=True), "web")

    assert told.state is OperationState.NOT_STARTED


def test_a_refusal_that_is_over_by_then_refuses_nothing() -> None:
    fleet = fleet_with(little_room)
    machine = fleet.machines["web"]
    start = fleet.clock.now()

    machine.at(60, lambda: setattr(machine, "free_kib", 20_000_000))
    report = fleet.patch(start=start.replace(hour=2))

    assert outcome_of(report, "web").state is OperationState.SUCCEEDED
