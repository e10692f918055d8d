"""A machine gets a new plan in its turn, and then the run dies: the process that resumes it uses the new plan."""

import pytest

from tasks.domain.states import OperationState, Step, UpdateState
from tasks.steps.context.run_control import LoggingListener
from tests.support.fake_packages import FakePackage
from tests.support.fleet import SimFleet, outcome_of
from tests.support.mortal import Killed, Life, choose_calls
from tests.support.others import At, works
from tests.support.sim_machine import SimMachine
from tests.support.taking_up import begin, resume


def fleet_of(*packages: FakePackage) -> tuple[SimFleet, SimMachine]:
    fleet = SimFleet()
    return fleet, fleet.add("web", packages)


DEATHS = choose_calls(59, 5)
"""At which of its calls the controller dies: from the first look to after the last one."""


@pytest.mark.parametrize("repair", [False, True])
@pytest.mark.parametrize("dies_at", DEATHS)
def test_what_was_half_done_at_the_assessment_and_whole_at_the_precheck(dies_at: int, repair: bool) -> None:
    fleet, web = fleet_of(FakePackage("a", seconds=60), FakePackage("other", installed="2.0", broken=True))
    fleet.watch = At(Step.PRECHECK, lambda: setattr(web.world.shelf["other"], "broken", False))
    try:
        outcome = outcome_of(begin(fleet, fleet.request(repair=repair), Life(dies_at=dies_at)), "web")
    except Killed:
        was_mended = not web.world.shelf["other"].broken
        fleet.watch = LoggingListener() if was_mended else fleet.watch
        fleet.clock.advance(30)
        outcome = outcome_of(resume(fleet), "web")

    assert outcome.state is OperationState.SUCCEEDED, outcome.reason
    assert [(each.update.id, each.state) for each in outcome.updates] == [("a", UpdateState.INSTALLED)]
    assert not [job for job in web.jobs() if "-repair-" in job.id]


@pytest.mark.parametrize("dies_at", DEATHS)
def test_what_somebody_installed_before_the_precheck_is_not_asked_for(dies_at: int) -> None:
    fleet, web = fleet_of(FakePackage("a", seconds=60), FakePackage("b"))
    works(web, "b", 200, becomes="2.0")
    try:
        outcome = outcome_of(begin(fleet, fleet.request(), Life(dies_at=dies_at)), "web")
    except Killed:
        fleet.clock.advance(30)
        outcome = outcome_of(resume(fleet), "web")

    assert outcome.state is OperationState.SUCCEEDED, outcome.reason
    assert ("a", UpdateState.INSTALLED) in [(each.update.id, each.state) for each in outcome.updates]


@pytest.mark.parametrize("dies_at", choose_calls(70, 10))
def test_what_was_installed_after_a_repair_is_reported_by_the_process_that_resumes(dies_at: int) -> None:
    fleet, web = fleet_of(FakePackage("a", seconds=60), FakePackage("half", installed="2.0", broken=True))
    try:
        outcome = outcome_of(begin(fleet, fleet.request(repair=True), Life(dies_at=dies_at)), "web")
    except Killed:
        fleet.clock.advance(30)
        outcome = outcome_of(resume(fleet), "web")

    states = {each.update.id: each.state for each in outcome.updates}
    assert states == {"a": UpdateState.INSTALLED, "half": UpdateState.REPAIRED}, outcome.reason
    assert outcome.state is OperationState.SUCCEEDED, outcome.reason
    assert len(web.installs()) == 1
