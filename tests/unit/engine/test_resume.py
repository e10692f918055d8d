"""Runs that are taken up again: what they begin anew, refuse, and tell."""

from datetime import UTC, datetime

import pytest

from flows.engine.fleet_run import FleetRun
from flows.local_run import LocalRunner
from tasks.domain.errors import RequestError
from tasks.domain.model import StepRecord, TransactionResult
from tasks.domain.states import OperationState, RebootState, Step, UpdateState
from tasks.rules.runs.figures import EARLIER_PROCESS, compute_work_seconds, find_earlier_work
from tests.support.fake_packages import FakePackage
from tests.support.fleet import SimFleet, outcome_of, result_of
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


@pytest.mark.parametrize("dies_at", [30, 45, 70, 80])
def test_the_time_without_a_process_is_no_work_and_that_of_the_job_is(dies_at: int) -> None:
    whole, fleet = SimFleet(), SimFleet()
    for each in (whole, fleet):
        each.add("web", [FakePackage("a", seconds=300, asks_reboot=True)])
    undisturbed = compute_work_seconds(outcome_of(begin(whole, whole.request(minutes=600), Life()), "web"))
    with pytest.raises(Killed):
        begin(fleet, fleet.request(minutes=600), Life(dies_at=dies_at))
    fleet.clock.advance(3600)

    outcome = outcome_of(resume(fleet), "web")

    assert undisturbed is not None
    assert compute_work_seconds(outcome) == pytest.approx(undisturbed, abs=15)
    assert Step.PRECHECK in {record.step for record in outcome.steps}
    installed = [record.message for record in outcome.steps if record.step is Step.INSTALL]
    assert installed == ([""] if dies_at == 80 else [EARLIER_PROCESS, ""])


def test_only_transactions_before_this_process_are_earlier_work() -> None:
    def at(minute: int) -> datetime:
        return datetime(2026, 11, 30, 22, minute, tzinfo=UTC)

    def ran(start: int, end: int | None) -> TransactionResult:
        return TransactionResult(1, ("a",), at(start), None if end is None else at(end), 0)

    transactions = (ran(1, 3), ran(10, 12), ran(12, 31), ran(40, 41))
    round_before = StepRecord(Step.INSTALL, at(0), at(5), OperationState.SUCCEEDED)
    assert find_earlier_work(transactions, (), at(30)) == (at(1), at(30))
    assert find_earlier_work(transactions, (round_before,), at(30)) == (at(10), at(30))
    assert find_earlier_work((ran(10, None),), (), at(30)) == (at(10), at(10))
    assert find_earlier_work(transactions, (round_before,), at(9)) is None
    assert find_earlier_work((TransactionResult(1, ("a",), None, None, 0),), (), at(30)) is None
