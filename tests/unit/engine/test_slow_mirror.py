"""Downloads take time that the window must hold: they are counted beforehand, and ended when their time is over."""

import pytest

from tasks.domain.states import OperationState, UpdateState
from tests.support.fake_packages import FakePackage
from tests.support.fleet import SimFleet, outcome_of, result_of
from tests.support.sim_machine import SimMachine

MB = 10**6


def large(fleet: SimFleet, *megabytes: int) -> SimMachine:
    """Return a machine whose updates are that large, and which downloads a megabyte a second, as predicted."""
    web = fleet.add("web", [FakePackage(f"p{number}", size_bytes=size * MB) for number, size in enumerate(megabytes)])
    web.world.bytes_per_second = float(MB)
    fleet.teach(transaction_seconds=10, install_seconds_per_update=10)
    return web


@pytest.mark.parametrize("stage", [True, False])
def test_what_the_window_can_not_download_is_not_attempted_and_the_rest_is_installed(
    fleet: SimFleet, *, stage: bool
) -> None:
    web = large(fleet, 600, 600, 600)

    report = fleet.patch(minutes=25, reboot="Never", stage=stage)

    outcome = outcome_of(report, "web")
    states = [result_of(outcome, f"p{number}").state for number in range(3)]
    assert states == [UpdateState.INSTALLED, UpdateState.INSTALLED, UpdateState.NOT_ATTEMPTED]
    assert "download and install of p2 needs about 10 min" in result_of(outcome, "p2").reason
    assert report.run.window is not None
    assert all(begun.ended_at <= report.run.window.end for begun in web.begun() if begun.ended_at is not None)


@pytest.mark.parametrize("stage", [True, False])
def test_a_download_that_never_ends_is_ended_and_nothing_is_unpacked(fleet: SimFleet, *, stage: bool) -> None:
    web = large(fleet, 10, 10)
    web.world.bytes_per_second = 0.0

    report = fleet.patch(minutes=30, reboot="Never", stage=stage)

    outcome = outcome_of(report, "web")
    assert outcome.state is OperationState.COMPLETED_WITH_WARNINGS
    assert {result.state for result in outcome.updates} == {UpdateState.NOT_ATTEMPTED}
    assert all("download" in result.reason for result in outcome.updates)
    assert not [begun for begun in web.begun() if begun.work == "install"]
    assert report.run.window is not None
    assert report.run.ended_at is not None
    assert report.run.ended_at <= report.run.window.end
    assert outcome.window_exceeded_seconds == 0


def test_one_slow_download_leaves_time_for_what_is_there(fleet: SimFleet) -> None:
    """Downloading ahead ends before the window does, and each installation has its own download."""
    web = fleet.add("web", [FakePackage("small", size_bytes=MB), FakePackage("huge", size_bytes=100 * MB)])
    web.world.bytes_per_second = 50_000.0

    outcome = outcome_of(fleet.patch(minutes=30, reboot="Never"), "web")

    assert result_of(outcome, "small").state is UpdateState.INSTALLED
    assert result_of(outcome, "huge").state is UpdateState.NOT_ATTEMPTED


def test_a_run_that_only_downloads_says_why_it_did_not(fleet: SimFleet) -> None:
    large(fleet, 10).world.bytes_per_second = 0.0

    outcome = outcome_of(fleet.patch(minutes=30, download_only=True), "web")

    assert "had time until" in result_of(outcome, "p0").reason
    assert "its download and last check were not over by then" in result_of(outcome, "p0").reason


def test_a_run_that_is_asked_to_stop_ends_its_download(fleet: SimFleet) -> None:
    web = large(fleet, 10)
    web.world.bytes_per_second = 0.0
    web.on_start("install", 5, lambda: fleet.control.request_stop("enough"))

    outcome = outcome_of(fleet.patch(minutes=240, reboot="Never", stage=False), "web")

    assert "asked to stop" in result_of(outcome, "p0").reason
    ended = outcome.ended_at
    assert ended is not None
    assert outcome.started_at is not None
    assert (ended - outcome.started_at).total_seconds() < 60
