"""A controller that is killed at any moment, again and again: the run that is taken up ends as if nothing had been."""

from collections import Counter
from datetime import timedelta

import pytest
from hypothesis import event, given
from hypothesis import strategies as st

from flows.request.patch_request import PatchRequest
from tasks.domain.errors import RequestError
from tasks.domain.model import RunReport
from tasks.domain.states import OperationState, UpdateState
from tests.support.fleet import SimFleet
from tests.support.mortal import Killed, Life
from tests.support.sim_machine import SimMachine
from tests.support.taking_up import RUN, begin, end_state, resume, two_machines, undisturbed

CALLS, WANTED = undisturbed()


@pytest.mark.parametrize("after_the_act", [False, True])
@pytest.mark.parametrize("dies_at", range(1, CALLS + 1))
def test_a_run_killed_at_any_call_and_resumed_ends_the_same(dies_at: int, after_the_act: bool) -> None:
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
def test_a_run_killed_repeatedly_does_nothing_twice(data: st.DataObject) -> None:
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
