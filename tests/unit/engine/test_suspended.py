"""Runs that are suspended at any of their calls, and gone on with: what is begun is ended, what is not stays open."""

from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import Any

import pytest

from flows.engine.interruption import RESUME_ACT, SUSPEND_ACT, find_suspension
from tasks.domain.model import RunReport
from tasks.domain.protocols.records import JournalEntry, JournalMark
from tasks.domain.states import OperationState, Step, UpdateState
from tasks.steps.context.run_control import StopToken
from tests.support.fake_packages import FakePackage
from tests.support.fleet import SimFleet, outcome_of
from tests.support.mortal import Killed, Life, choose_calls
from tests.support.taking_up import RUN, begin, resume

NAMES = ("first", "second", "third")


@dataclass
class Button(Life):
    """Somebody presses Suspend at one of the controller's calls, which lives on or dies later."""

    control: StopToken | None = None
    pressed_at: int = 0

    def spend(self, call: Any, *args: Any, **kwargs: Any) -> Any:
        if self.control is not None and self.calls + 1 == self.pressed_at:
            self.control.request_suspension("suspended in Prefect")
        return super().spend(call, *args, **kwargs)


def three() -> SimFleet:
    """Three machines in three waves; two are rebooted."""
    fleet = SimFleet()
    for name in NAMES:
        fleet.add(name, [FakePackage("a", seconds=20), FakePackage("b", seconds=20, asks_reboot=name != "second")])
    return fleet


def pressed(fleet: SimFleet, at: int, dies_at: int | None = None) -> RunReport:
    control = StopToken()
    life = Button(control=control, pressed_at=at, dies_at=dies_at)
    return begin(fleet, fleet.request(waves={"size": 1}), life, control)


def stored(fleet: SimFleet) -> set[str]:
    return {outcome.machine for (run, _), outcome in fleet.records.outcomes.items() if run == RUN}


def undisturbed() -> int:
    life, fleet = Life(), three()
    begin(fleet, fleet.request(waves={"size": 1}), life)
    return life.calls


CALLS = undisturbed()


@pytest.mark.parametrize("at", choose_calls(CALLS))
def test_what_is_begun_is_ended_and_what_is_not_is_done_by_whoever_goes_on(at: int) -> None:
    fleet = three()
    pressed(fleet, at)

    done = stored(fleet)
    begun = {name: len(machine.begun()) for name, machine in fleet.machines.items()}
    assert all(machine.locked_by is None for machine in fleet.machines.values())
    assert all(not machine.world.state().problems for machine in fleet.machines.values())
    for name in set(NAMES) - done:  # open: nothing was done there
        assert begun[name] == 0
        assert fleet.machines[name].boots.count == 0
    run = fleet.records.runs[RUN]
    suspension = find_suspension(fleet.records.read_entries(RUN))
    if done == set(NAMES):
        assert run.state is not OperationState.IN_PROGRESS
        return
    assert run.state is OperationState.IN_PROGRESS
    assert run.message.startswith("suspended (suspended in Prefect): ")
    assert suspension is not None
    assert suspension.is_complete

    fleet.clock.advance(600)
    report = resume(fleet)

    assert report.run.window == run.window
    assert find_suspension(fleet.records.read_entries(RUN)) is None
    assert sorted(outcome.machine for outcome in report.outcomes) == sorted(NAMES)
    assert stored(fleet) == set(NAMES)
    for name in set(NAMES) - done:
        outcome = outcome_of(report, name)
        assert outcome.state is OperationState.SUCCEEDED, outcome.reason
        assert {result.state for result in outcome.updates} == {UpdateState.INSTALLED}
        assert fleet.machines[name].boots.count == (name != "second")
    for name in done:  # nothing more is done there, whatever was left
        assert len(fleet.machines[name].begun()) == begun[name]
    assert all(machine.locked_by is None for machine in fleet.machines.values())


@pytest.mark.parametrize("at", range(1, CALLS, 3))
def test_one_that_is_suspended_again_and_again_comes_to_its_end(at: int) -> None:
    fleet = three()
    pressed(fleet, at)
    for again in (at // 2 + 1, 1, 20):
        if fleet.records.runs[RUN].state is not OperationState.IN_PROGRESS:
            break
        control = StopToken()
        resume(fleet, Button(control=control, pressed_at=again), control)
    if fleet.records.runs[RUN].state is OperationState.IN_PROGRESS:
        resume(fleet)
    assert stored(fleet) == set(NAMES)
    assert all(machine.locked_by is None for machine in fleet.machines.values())
    assert all(machine.boots.count <= 1 for machine in fleet.machines.values())


@pytest.mark.parametrize("at", range(1, CALLS, 3))
def test_a_process_that_dies_while_it_stops_is_followed_by_one_that_ends_what_it_began(at: int) -> None:
    fleet = three()
    try:
        pressed(fleet, at, dies_at=at + 2)
    except Killed:
        control = StopToken()
        control.request_suspension("suspended in Prefect")
        if RUN in fleet.records.runs and fleet.records.runs[RUN].state is OperationState.IN_PROGRESS:
            resume(fleet, control=control)
    for name in set(NAMES) - stored(fleet):
        assert fleet.machines[name].begun() == []
    assert all(machine.locked_by is None for machine in fleet.machines.values())


def test_after_its_window_nothing_is_begun() -> None:
    fleet = three()
    pressed(fleet, CALLS // 2)
    left = set(NAMES) - stored(fleet)
    assert left
    fleet.clock.advance(5 * 3600)

    report = resume(fleet)

    assert all(fleet.machines[name].begun() == [] for name in left)
    assert {outcome_of(report, name).state for name in left} == {OperationState.NOT_STARTED}


def test_a_stop_that_came_first_stands() -> None:
    control = StopToken()
    control.request_stop("cancelled")
    control.request_suspension("suspended in Prefect")
    assert (control.is_suspended, control.reason) == (False, "cancelled")


MOMENT = datetime(2026, 3, 10, 1, tzinfo=UTC)
ASKED = JournalEntry(RUN, "", Step.ASSESS, JournalMark.BEFORE, SUSPEND_ACT, SUSPEND_ACT, MOMENT, {"reason": "tested"})
STOPPED = replace(ASKED, mark=JournalMark.AFTER)
RESUMED = replace(ASKED, act=RESUME_ACT, key=RESUME_ACT, mark=JournalMark.AFTER)


@pytest.mark.parametrize(
    ("journal", "complete"),
    [
        ((), None),
        ((ASKED,), False),
        ((ASKED, STOPPED), True),
        ((STOPPED, ASKED), True),  # they are written by two threads
        ((ASKED, STOPPED, RESUMED), None),
        ((ASKED, STOPPED, RESUMED, ASKED), False),
        ((ASKED, replace(STOPPED, machine="web")), False),
    ],
)
def test_whether_a_run_is_suspended_is_read_from_its_journal(
    journal: tuple[JournalEntry, ...], complete: bool | None
) -> None:
    suspension = find_suspension(journal)
    assert (suspension.is_complete if suspension else None) is complete
