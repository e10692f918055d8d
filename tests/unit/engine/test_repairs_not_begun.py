"""A stop, or somebody's lock, keeps a repair from beginning: the report says so, and does not call it failed."""

from collections.abc import Callable

import pytest

from tasks.domain.model import Outcome
from tasks.domain.states import OperationState, Step, UpdateState
from tasks.rules.machine_checks.packages import PACKAGES_CHECK
from tests.support.fake_packages import FakePackage
from tests.support.fleet import SimFleet, outcome_of, result_of
from tests.support.others import At, works
from tests.support.sim_machine import SimMachine

STOPPED = "the repair was not begun: the run was asked to stop before its turn came"
HALF = "half 2.0 is half-configured"


def repaired(then: Callable[[SimMachine], None], *, stopped: bool) -> tuple[SimMachine, Outcome]:
    """Repair a machine whose package manager somebody uses from just before that on."""
    fleet = SimFleet()
    web = fleet.add("web", [FakePackage("a"), FakePackage("half", installed="2.0", broken=True)])
    fleet.watch = At(Step.INSTALL, lambda: then(web))
    if stopped:
        web.on_start("repair", 10, lambda: fleet.control.request_stop("enough"))
    return web, outcome_of(fleet.patch(repair=True), "web")


@pytest.mark.parametrize("seconds", [15, 100, 50_000])
def test_a_repair_that_waits_begins_nothing_once_it_is_asked_to_stop(seconds: float) -> None:
    web, outcome = repaired(lambda web: works(web, "half", seconds, ends_broken=True), stopped=True)

    assert outcome.state is OperationState.FAILED
    assert STOPPED in outcome.reason
    assert HALF in outcome.reason
    assert "helped" not in outcome.reason
    assert not web.installs()
    assert web.world.shelf["half"].broken


def test_who_else_is_at_work_is_told_along_with_why_a_repair_was_not_begun() -> None:
    _, outcome = repaired(lambda web: works(web, "half", 50_000), stopped=False)

    assert outcome.state is OperationState.FAILED
    assert "the repair was not begun: another process locked the package manager" in outcome.reason
    assert "packages were being changed by dpkg (pid 7)" in outcome.reason
    assert "helped" not in outcome.reason


def test_what_somebody_else_made_whole_is_not_told_as_repaired_by_a_run_that_was_stopped() -> None:
    def ends(web: SimMachine) -> None:
        web.world.shelf["half"].broken = False
        web.world.locks = ()  # which the job, that goes by those it began with, has not seen yet

    def begins(web: SimMachine) -> None:
        works(web, "half", 50_000)
        web.on_start("repair", 10, lambda: ends(web))

    web, outcome = repaired(begins, stopped=True)

    assert [each.update.id for each in outcome.updates] == ["a"]
    assert result_of(outcome, "a").state is UpdateState.NOT_ATTEMPTED
    assert "asked to stop" in result_of(outcome, "a").reason
    (told,) = [each for each in outcome.findings if each.check == PACKAGES_CHECK]
    assert told.message.startswith("whole again, and not by this run")
    assert not web.installs()


def test_a_power_cut_in_a_repair_is_told_as_that() -> None:
    fleet = SimFleet()
    web = fleet.add("web", [FakePackage("half", installed="2.0", broken=True)])
    web.on_start("repair", 1, web.power_cut)

    cut = outcome_of(fleet.patch(repair=True), "web")

    assert cut.state is OperationState.FAILED
    assert "the repair did not come to its end: the job's process is gone and left no result: a power cut" in cut.reason
    assert cut.error is not None
    assert cut.error.hint.startswith("Run again with --repair")
