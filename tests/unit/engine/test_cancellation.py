"""A run that a person cancelled says so, with who, when, why, and what was left undone."""

import pytest

from fleetpatch.cli.runtime.exit_codes import ExitCode, to_run_exit_code
from tasks.domain.model import RunReport
from tasks.domain.protocols.leases import StopRequest
from tasks.domain.states import OperationState
from tests.support.fake_packages import FakePackage
from tests.support.fleet import SimFleet


def cancel(fleet: SimFleet, reason: str = "the wrong fleet", who: str = "anne") -> None:
    """Cancel the run as `fleetpatch cancel` does: its process reads the request with the next renewal of its lease."""
    (run_id,) = fleet.records.runs
    fleet.leases.stops[run_id] = StopRequest(who, reason, fleet.clock.now())
    fleet.control.request_stop(f"{reason} (anne)")


@pytest.fixture
def two(fleet: SimFleet) -> SimFleet:
    for name in ("web-1", "web-2"):
        fleet.add(name, [FakePackage("a", seconds=60), FakePackage("b", seconds=60)])
    return fleet


def patch(fleet: SimFleet) -> RunReport:
    return fleet.patch(waves={"size": 1, "failure_budget_count": 2})


def test_what_did_not_begin_is_named(two: SimFleet) -> None:
    two.machines["web-1"].on_start("install", 5, lambda: cancel(two))
    report = patch(two)
    assert report.run.state is OperationState.CANCELLED
    assert report.run.message.startswith("cancelled by anne at 20")
    assert " UTC: the wrong fleet. Left undone: 1 of 2 machines not begun (web-2)" in report.run.message
    assert to_run_exit_code(report) is ExitCode.INTERRUPTED
    (kept,) = two.records.runs.values()
    assert (kept.state, kept.message) == (OperationState.CANCELLED, report.run.message)


@pytest.mark.parametrize("who", ["", " "])
def test_a_request_of_nobody_known_says_so(two: SimFleet, who: str) -> None:
    two.machines["web-1"].on_start("install", 5, lambda: cancel(two, who=who))
    assert patch(two).run.message.startswith("cancelled by somebody unknown at 20")


def test_a_failed_machine_comes_first(two: SimFleet) -> None:
    two.machines["web-1"].world.shelf["a"].fails = "maintainer-script: no"
    two.machines["web-1"].on_start("install", 5, lambda: cancel(two, "cancelled"))
    report = patch(two)
    assert report.run.state is OperationState.FAILED
    assert " UTC. Left undone: 1 of 2 machines not begun (web-2)" in report.run.message
    assert to_run_exit_code(report) is ExitCode.MACHINE_FAILED


def test_a_request_that_comes_too_late_changes_no_state(fleet: SimFleet) -> None:
    web = fleet.add("web-1", [FakePackage("a", seconds=60)])
    web.on_start("install", 5, lambda: cancel(fleet))
    report = fleet.patch()
    assert report.run.state is OperationState.SUCCEEDED
    assert report.run.message.endswith("the wrong fleet. Left undone: nothing")


def test_a_stop_without_a_person_is_no_cancellation(two: SimFleet) -> None:
    two.machines["web-1"].on_start("install", 5, lambda: two.control.request_stop("the records failed"))
    report = patch(two)
    assert report.run.state is OperationState.COMPLETED_WITH_WARNINGS
    assert report.run.message == ""
