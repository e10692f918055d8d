"""Runs that are taken up again: what they begin anew, refuse, and tell."""

import pytest

from flows.engine.fleet_run import FleetRun
from flows.local_run import LocalRunner
from tasks.domain.errors import RequestError
from tasks.domain.states import OperationState, RebootState, UpdateState
from tests.support.fleet import outcome_of, result_of
from tests.support.mortal import Killed, Life
from tests.support.taking_up import RUN, begin, resume, two_machines


def test_a_run_that_was_only_assessing_begins_anew_in_the_same_window() -> None:
    fleet = two_machines()
    request = fleet.request()
    with pytest.raises(Killed):
        begin(fleet, request, Life(dies_at=4))
    window = fleet.records.runs[RUN].window
    fleet.clock.advance(600)

    report = resume(fleet)

    assert report.run.window == window
    assert result_of(outcome_of(report, "first"), "a").state is UpdateState.INSTALLED


def test_a_run_whose_window_is_over_begins_nothing_when_it_is_taken_up() -> None:
    fleet = two_machines()
    with pytest.raises(Killed):
        begin(fleet, fleet.request(minutes=60), Life(dies_at=12))
    begun = {name: len(machine.begun()) for name, machine in fleet.machines.items()}
    fleet.clock.advance(2 * 3600)

    report = resume(fleet)

    assert {name: len(machine.begun()) for name, machine in fleet.machines.items()} == begun
    assert len(report.outcomes) == 2


def test_another_run_is_refused_by_the_machine_itself() -> None:
    fleet = two_machines()
    with pytest.raises(Killed):
        begin(fleet, fleet.request(), Life(dies_at=30))
    locked = [machine.locked_by for machine in fleet.machines.values() if machine.locked_by]
    assert locked

    report = FleetRun(fleet.request(), fleet.ports(), LocalRunner(), run_id="20260310-020000-bbbbbb").execute()

    refused = [o for o in report.outcomes if "another" in o.reason or RUN in o.reason]
    assert refused
    assert refused[0].state is OperationState.NOT_STARTED


def test_a_run_that_is_over_is_not_taken_up() -> None:
    fleet = two_machines()
    begin(fleet, fleet.request(), Life())
    with pytest.raises(RequestError, match="is over"):
        resume(fleet)


def test_a_machine_that_left_the_inventory_is_told_of() -> None:
    fleet = two_machines()
    with pytest.raises(Killed):
        begin(fleet, fleet.request(waves={"size": 1}), Life(dies_at=30))
    fleet.described = [machine for machine in fleet.described if machine.name != "second"]

    outcome = outcome_of(resume(fleet), "second")

    assert outcome.state is OperationState.UNKNOWN
    assert "inventory" in outcome.reason
    assert outcome.reboot is RebootState.UNKNOWN
