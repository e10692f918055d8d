"""The window is kept: nothing begins that it can't hold, and what did not begin says why, with the sum."""

from datetime import timedelta
from typing import Any

import pytest

from fleetpatch.cli.runtime.exit_codes import ExitCode, to_run_exit_code
from inventory.machine import Limits
from tasks.domain.states import OperationState, RebootState, UpdateState
from tests.support.fake_packages import FakePackage
from tests.support.fleet import SimFleet, outcome_of, result_of


def test_a_window_in_the_future_is_waited_for(fleet: SimFleet) -> None:
    web = fleet.add("web", [FakePackage("a")])
    opens = fleet.clock.now() + timedelta(hours=3)

    report = fleet.patch(start=opens)

    assert report.run.window is not None
    assert report.run.window.start == opens
    assert [begun.at >= opens for begun in web.begun()] == [True, True]
    assert outcome_of(report, "web").state is OperationState.SUCCEEDED


def test_a_window_that_is_over_begins_nothing_and_shows_the_sum(fleet: SimFleet) -> None:
    web = fleet.add("web", [FakePackage("a")])

    report = fleet.patch(start=fleet.clock.now() - timedelta(hours=5), minutes=60)

    outcome = outcome_of(report, "web")
    assert outcome.state is OperationState.NOT_STARTED
    assert "no time is left" in outcome.reason
    assert "4 h 15 min ago" in outcome.reason
    assert result_of(outcome, "a").state is UpdateState.NOT_ATTEMPTED
    assert result_of(outcome, "a").reason == outcome.reason
    assert not [call for call in web.calls if call.verb == "start"]


@pytest.mark.parametrize(
    ("window", "why"),
    [
        (
            {"minutes": 20},
            "the window has 20 min left, until 01:20 UTC; install of a needs about 10 min 10 s, and 15 min are kept "
            "for a reboot; together 25 min 10 s (web, which needs the least time of 2 machines)",
        ),
        ({"minutes": 5, "reboot": "Never"}, "the window has 5 min left, until 01:05 UTC; install of a needs about"),
        ({"minutes": 10}, "the window has 10 min left"),
        ({"minutes": 60, "ago": 5}, "the window has ended"),
    ],
)
def test_a_plan_of_which_nothing_would_begin_says_so_and_so_does_the_run(
    fleet: SimFleet, window: dict[str, Any], why: str
) -> None:
    fleet.add("web", [FakePackage("a")])
    fleet.add("db", [FakePackage("a"), FakePackage("b")], limits=Limits(reboot_reserve_minutes=30))
    fleet.teach(transaction_seconds=10, install_seconds_per_update=600)
    fields = {key: value for key, value in window.items() if key != "ago"}
    fields |= {"start": fleet.clock.now() - timedelta(hours=window["ago"])} if "ago" in window else {}

    plan, run = fleet.patch(dry_run=True, stage=False, **fields), fleet.patch(stage=False, **fields)

    assert plan.run.state is OperationState.NOT_STARTED
    assert {result.state for outcome in run.outcomes for result in outcome.updates} == {UpdateState.NOT_ATTEMPTED}
    assert plan.run.message.startswith(f"nothing would begin: {why}")
    assert {outcome.reason.split(":")[1] for outcome in plan.outcomes} == {" nothing would begin"}
    assert to_run_exit_code(plan) is ExitCode.NOTHING_ATTEMPTED


def test_a_plan_of_which_one_machine_would_begin_is_a_plan(fleet: SimFleet) -> None:
    fleet.add("web", [FakePackage("a")])
    fleet.add("db", [FakePackage("a")], limits=Limits(reboot_reserve_minutes=120))

    plan = fleet.patch(dry_run=True, minutes=60)

    assert (plan.run.state, plan.run.message) == (OperationState.SUCCEEDED, "")
    assert outcome_of(plan, "web").reason == "plan: 1 update would be installed"
    assert "2 h are kept for a reboot" in outcome_of(plan, "db").reason
    assert to_run_exit_code(plan) is ExitCode.SUCCESS


def test_what_the_window_can_not_hold_is_not_attempted_and_says_why(fleet: SimFleet) -> None:
    web = fleet.add("web", [FakePackage(f"p{number}", seconds=300) for number in range(8)])
    fleet.teach(transaction_seconds=10, install_seconds_per_update=300)

    report = fleet.patch(minutes=30, reboot="Never", stage=False)

    outcome = outcome_of(report, "web")
    assert report.run.window is not None
    done = [result for result in outcome.updates if result.state is UpdateState.INSTALLED]
    left = [result for result in outcome.updates if result.state is UpdateState.NOT_ATTEMPTED]
    assert (len(done) + len(left), len(done) > 0, len(left) > 0) == (8, True, True)
    assert all("needs about 5 min 10 s" in result.reason and "left" in result.reason for result in left)
    assert all(begun.ended_at <= report.run.window.end for begun in web.begun() if begun.ended_at is not None)
    assert outcome.window_exceeded_seconds == 0
    assert outcome.state is OperationState.COMPLETED_WITH_WARNINGS


def test_a_transaction_that_takes_too_long_is_left_to_end_and_told(fleet: SimFleet) -> None:
    web = fleet.add("web", [FakePackage("a", seconds=2000)])
    fleet.teach(transaction_seconds=10, install_seconds_per_update=10)

    outcome = outcome_of(fleet.patch(minutes=30, reboot="Never"), "web")

    (install,) = [begun for begun in web.begun() if begun.work == "install"]
    assert install.ended_at is not None
    assert result_of(outcome, "a").state is UpdateState.INSTALLED
    assert 200 < outcome.window_exceeded_seconds < 210
    assert web.stopped == set()


def test_a_reboot_that_no_longer_fits_is_left_and_told(fleet: SimFleet) -> None:
    web = fleet.add("web", [FakePackage("a", seconds=1200, asks_reboot=True)])
    fleet.teach(transaction_seconds=10, install_seconds_per_update=10)

    outcome = outcome_of(fleet.patch(minutes=30), "web")

    assert web.boots.orders == []
    assert outcome.reboot is RebootState.REQUIRED
    assert outcome.reboot_result is not None
    assert "the reboot needs about 15 min" in outcome.reboot_result.reason
    assert outcome.state is OperationState.COMPLETED_WITH_WARNINGS


def test_a_reboot_that_ends_late_is_told(fleet: SimFleet) -> None:
    web = fleet.add("web", [FakePackage("a", asks_reboot=True)])
    web.boots.up_after = 1700

    outcome = outcome_of(fleet.patch(minutes=20), "web")

    assert outcome.reboot is RebootState.COMPLETED
    assert 400 < outcome.window_exceeded_seconds < 700
    assert outcome.state is OperationState.COMPLETED_WITH_WARNINGS


@pytest.mark.parametrize("minutes", [16, 17, 18])
def test_time_is_kept_for_a_reboot(fleet: SimFleet, minutes: int) -> None:
    web = fleet.add("web", [FakePackage("a")])
    fleet.teach(transaction_seconds=50, install_seconds_per_update=50)

    report = fleet.patch(minutes=minutes, stage=False)

    assert bool(web.installs()) is (minutes > 16)
    if minutes == 16:
        assert "15 min kept for a reboot" in outcome_of(report, "web").updates[0].reason


def test_a_download_that_would_eat_the_window_is_not_begun(fleet: SimFleet) -> None:
    web = fleet.add("web", [FakePackage("huge", size_bytes=10**10)])
    web.free_kib = 30_000_000

    outcome = outcome_of(fleet.patch(minutes=60), "web")

    assert not [call for call in web.calls if call.verb == "start"]
    assert result_of(outcome, "huge").state is UpdateState.NOT_ATTEMPTED
    assert "download" in result_of(outcome, "huge").reason


def test_a_repair_that_the_window_can_not_hold_is_not_begun(fleet: SimFleet) -> None:
    web = fleet.add("web", [FakePackage("half", installed="2.0", broken=True)])
    fleet.teach(transaction_seconds=1)

    outcome = outcome_of(fleet.patch(minutes=0.9, repair=True, reboot="Never"), "web")

    assert web.begun() == []
    assert outcome.state is OperationState.FAILED
    assert "not begun" in outcome.reason
    assert "no time left" in outcome.reason


@pytest.mark.parametrize("skew", [-200.0, 0.0, 200.0])
def test_what_begins_late_does_not_depend_on_the_machines_clock(fleet: SimFleet, skew: float) -> None:
    """Updates take longer than was predicted, so the job itself has to see that its last ones come too late."""
    packages = [FakePackage(f"p{number}", seconds=150) for number in range(8)]
    web = fleet.add("web", packages, skew_seconds=skew)
    fleet.teach(transaction_seconds=10, install_seconds_per_update=100)

    report = fleet.patch(minutes=15, reboot="Never", stage=False)

    window = report.run.window
    assert window is not None
    begun = web.begun()
    assert len(begun) == 4
    assert all(one.at + timedelta(seconds=110) <= window.end for one in begun)
    late = [r for r in outcome_of(report, "web").updates if "its turn came" in r.reason]
    assert late
    assert {result.state for result in late} == {UpdateState.NOT_ATTEMPTED}
