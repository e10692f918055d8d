"""A controller that is killed at any moment, again and again: the run that is taken up ends as if nothing had been."""

from collections import Counter
from dataclasses import replace
from datetime import timedelta

import pytest
from hypothesis import event, given
from hypothesis import strategies as st

from flows.campaign import Campaign
from flows.past import past_of, request_of
from flows.ports import PlainRunner
from flows.request import PatchRequest
from tasks.errors import RequestError
from tasks.model import RunReport
from tasks.states import OperationState, RebootState, UpdateState
from tasks.steps.context import Control
from tests.support.fake_packages import FakePackage
from tests.support.fake_records import FakeHistory
from tests.support.fleet import SimFleet, SimMachine, outcome_of, result_of
from tests.support.mortal import Killed, Life, mortal_machine, mortal_records

RUN = "20260310-010000-aaaaaa"


def begin(fleet: SimFleet, request: PatchRequest, life: Life) -> RunReport:
    """Carry a run out, for as long as the controller lives."""
    return _campaign(fleet, request, life).carry_out()


def resume(fleet: SimFleet, life: Life | None = None) -> RunReport:
    """Take the run up again, in a new process."""
    history = FakeHistory(fleet.records)
    past = past_of(history, RUN)  # type: ignore[arg-type]  # the fake tells what the real one does
    return _campaign(fleet, request_of(past.run), life or Life(), past=past).carry_out()


def _campaign(fleet: SimFleet, request: PatchRequest, life: Life, **more: object) -> Campaign:
    ports = fleet.ports()
    mortal = replace(
        ports,
        control=Control(),
        records=mortal_records(ports.records, life),
        connect=lambda machine: mortal_machine(ports.connect(machine), life),
    )
    return Campaign(request, mortal, PlainRunner(), run_id=RUN, **more)  # type: ignore[arg-type]


def two_machines() -> SimFleet:
    """One that is rebooted and one with a failing package, in two waves."""
    fleet = SimFleet()
    fleet.add("first", [FakePackage("a", seconds=20), FakePackage("b", seconds=20, asks_reboot=True)])
    fleet.add("second", [FakePackage("a", seconds=20), FakePackage("bad", fails="no"), FakePackage("c")])
    return fleet


def end_state(fleet: SimFleet, report: RunReport) -> object:
    """What matters of an end: versions and boots on the machines, and what the report says of them."""
    machines = {name: (m.world.whole(), m.boots.count, m.world.state().problems) for name, m in fleet.machines.items()}
    told = {
        outcome.machine: (outcome.state, outcome.reboot, {r.update.id: r.state for r in outcome.updates})
        for outcome in report.outcomes
    }
    return machines, told


def undisturbed() -> tuple[int, object]:
    """Return how many calls a run makes that nothing happens to, and how it ends."""
    life = Life()
    fleet = two_machines()
    report = begin(fleet, fleet.request(waves={"size": 1, "failure_budget_count": 5}), life)
    return life.calls, end_state(fleet, report)


CALLS, WANTED = undisturbed()


@pytest.mark.parametrize("after_the_act", [False, True])
@pytest.mark.parametrize("dies_at", range(1, CALLS + 1))
def test_killed_at_any_call_and_taken_up_it_ends_the_same(dies_at: int, after_the_act: bool) -> None:
    fleet = two_machines()
    request = fleet.request(waves={"size": 1, "failure_budget_count": 5})

    with pytest.raises(Killed):
        begin(fleet, request, Life(dies_at=dies_at, after_the_act=after_the_act))
    fleet.clock.advance(60)
    if RUN not in fleet.records.runs:  # it died before anything was known of it
        assert all(not machine.calls for machine in fleet.machines.values())
        return
    if fleet.records.runs[RUN].state not in (OperationState.IN_PROGRESS, OperationState.UNKNOWN):
        with pytest.raises(RequestError, match="is over"):
            resume(fleet)
        return
    report = resume(fleet)

    assert end_state(fleet, report) == WANTED
    nothing_was_done_twice(fleet)


@given(st.data())
def test_killed_again_and_again_nothing_is_done_twice(data: st.DataObject) -> None:
    fleet = two_machines()
    request = fleet.request(
        waves={"size": data.draw(st.integers(1, 2)), "failure_budget_count": 5},
        minutes=data.draw(st.sampled_from([25, 240])),
        reboot=data.draw(st.sampled_from(["IfRequired", "Always", "Never"])),
        stage=data.draw(st.booleans()),
    )
    report = None
    for attempt in range(6):
        life = Life(dies_at=data.draw(st.integers(1, 60)), after_the_act=data.draw(st.booleans()))
        try:
            report = resume(fleet, life) if RUN in fleet.records.runs else begin(fleet, request, life)
        except Killed:
            fleet.clock.advance(data.draw(st.sampled_from([0.0, 5.0, 60.0, 900.0])))
            continue
        except RequestError:
            break
        event(f"came to its end at attempt {attempt}")
        break
    else:
        report = to_its_end(fleet, request)
    nothing_was_done_twice(fleet)
    if report is None:
        return
    assert Counter(outcome.machine for outcome in report.outcomes) == Counter(["first", "second"])
    the_window_was_kept(fleet, report)
    for outcome in report.outcomes:
        there = fleet.machines[outcome.machine].world.whole()
        for result in outcome.updates:
            if result.state is UpdateState.INSTALLED:
                assert there[result.update.id] == result.update.available


def to_its_end(fleet: SimFleet, request: PatchRequest) -> RunReport | None:
    """Carry the run out with a controller that lives; None when it was over already."""
    try:
        return resume(fleet) if RUN in fleet.records.runs else begin(fleet, request, Life())
    except RequestError:
        return None


def nothing_was_done_twice(fleet: SimFleet) -> None:
    """No update in two transactions that were begun, unless the first failed around it; no boot id rebooted twice."""
    for machine in fleet.machines.values():
        jobs = machine.installs()
        assert len({job.id for job in jobs}) == len(jobs)
        assert machine.boots.count <= 1
        configured = Counter(successes(machine))
        assert max(configured.values(), default=0) <= 1, configured


def successes(machine: SimMachine) -> list[str]:
    """The updates of all installing transactions that ended well, one entry for each time."""
    found: list[str] = []
    for started in machine._jobs.values():
        params = started.job.script.params
        until = started.lost_at or machine.fake_clock.now()
        for after, record in started.plan.steps:
            ended = record["kind"] == "transaction_ended" and record["exit_code"] == 0
            if params["work"] == "install" and ended and started.at + timedelta(seconds=after) <= until:
                found += params[f"tx_{record['number']}_updates"]
    return found


def the_window_was_kept(fleet: SimFleet, report: RunReport) -> None:
    window = report.run.window
    assert window is not None
    for machine in fleet.machines.values():
        for begun in machine.begun():
            assert begun.at <= window.end - timedelta(minutes=0)


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
    claimed = [machine.claimed_by for machine in fleet.machines.values() if machine.claimed_by]
    assert claimed

    report = Campaign(fleet.request(), fleet.ports(), PlainRunner(), run_id="20260310-020000-bbbbbb").carry_out()

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
