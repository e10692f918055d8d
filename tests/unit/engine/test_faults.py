"""Machines that get into trouble while they are patched: nothing that was begun may be hidden or begun again."""

from datetime import timedelta

import pytest

from tasks.domain.errors import (
    AuthenticationFailed,
    ConnectionLost,
    DeadlineExceeded,
    FleetpatchError,
    HostKeyMismatch,
    ManagerBusy,
    PrivilegeError,
    ProtocolViolation,
    ScriptFailed,
    Unreachable,
)
from tasks.domain.states import OperationState, Step, UpdateState
from tests.support.fake_packages import FakePackage
from tests.support.fleet import SimFleet, outcome_of, result_of
from tests.support.sim_machine import SimMachine


def slow(fleet: SimFleet, name: str = "web", seconds: float = 120.0) -> SimMachine:
    return fleet.add(name, [FakePackage("slow", seconds=seconds), FakePackage("a")])


def test_a_network_that_goes_away_in_the_middle_loses_nothing(fleet: SimFleet) -> None:
    web = slow(fleet)
    web.on_start("install", 10, lambda: web.cut(400))

    outcome = outcome_of(fleet.patch(), "web")

    assert outcome.state is OperationState.SUCCEEDED, outcome.reason
    assert len(web.installs()) == 1
    assert web.world.whole() == {"slow": "2.0", "a": "2.0"}


@pytest.mark.parametrize("answered", [True, False])
def test_a_line_that_is_cut_while_a_job_is_handed_over_attaches_to_it(fleet: SimFleet, answered: bool) -> None:
    web = slow(fleet)
    web.on_start("stage", 0, lambda: web.fail(ConnectionLost("cut"), on="start", after_the_act=answered))

    outcome = outcome_of(fleet.patch(), "web")

    assert outcome.state is OperationState.SUCCEEDED, outcome.reason
    assert len(web.installs()) == 1
    assert [begun.work for begun in web.begun()] == ["stage", "install"]


def test_a_machine_out_of_touch_beyond_patience_is_told_with_its_job(fleet: SimFleet) -> None:
    web = slow(fleet)
    web.on_start("install", 10, lambda: web.cut(1e6))

    outcome = outcome_of(fleet.patch(), "web")

    (job,) = web.installs()
    assert outcome.state is OperationState.FAILED
    assert job.id in outcome.reason
    assert outcome.install is not None
    assert job.id in outcome.install.job_ids
    assert {result.state for result in outcome.updates} == {UpdateState.PENDING}
    assert all("end was not seen" in result.reason and job.id in result.reason for result in outcome.updates)
    assert outcome.error is not None
    assert "may still run" in outcome.error.hint


def test_a_machine_that_is_back_before_patience_ends_is_told_by_its_database(fleet: SimFleet) -> None:
    web = slow(fleet)
    web.on_start("install", 10, lambda: web.cut(4 * 3600))  # past the window's end, within the patience after it

    outcome = outcome_of(fleet.patch(minutes=240), "web")

    assert {result.state for result in outcome.updates} == {UpdateState.INSTALLED}
    assert outcome.state is not OperationState.FAILED, outcome.reason


def test_a_power_cut_in_the_middle_is_told_and_nothing_more_is_begun(fleet: SimFleet) -> None:
    web = slow(fleet)
    web.on_start("install", 10, web.power_cut)

    outcome = outcome_of(fleet.patch(), "web")

    assert outcome.state is OperationState.FAILED
    assert "power cut" in outcome.reason
    assert len(web.installs()) == 1
    assert result_of(outcome, "slow").state is UpdateState.FAILED
    assert result_of(outcome, "a").state is UpdateState.FAILED
    assert web.boots.orders == []


def test_a_power_cut_while_downloading_begins_no_installation(fleet: SimFleet) -> None:
    web = slow(fleet)
    web.on_start("stage", 1, web.power_cut)

    outcome = outcome_of(fleet.patch(), "web")

    assert outcome.state is OperationState.FAILED
    assert web.installs() == []
    assert {result.state for result in outcome.updates} == {UpdateState.NOT_ATTEMPTED}
    assert all("download" in result.reason for result in outcome.updates)


def test_a_job_whose_directory_is_gone_is_told_by_the_database(fleet: SimFleet) -> None:
    web = fleet.add("web", [FakePackage("quick", seconds=1), FakePackage("slow", seconds=600)])
    # two transactions: a small window left makes them go one by one
    fleet.teach(transaction_seconds=1, install_seconds_per_update=700)
    web.on_start("install", 20, web._jobs.clear)

    outcome = outcome_of(fleet.patch(minutes=60, reboot="Never"), "web")

    assert outcome.error is not None
    assert outcome.error.kind == "JobLost"
    assert result_of(outcome, "quick").state is UpdateState.INSTALLED
    assert result_of(outcome, "slow").state is UpdateState.PENDING
    assert "end was not seen" in result_of(outcome, "slow").reason


def test_a_job_that_does_not_end_is_left_alone_and_told(fleet: SimFleet) -> None:
    web = fleet.add("web", [FakePackage("endless", seconds=1e6)])

    outcome = outcome_of(fleet.patch(), "web")

    (job,) = web.installs()
    assert outcome.state is OperationState.FAILED
    assert f"job {job.id} was still running" in outcome.reason
    assert result_of(outcome, "endless").state is UpdateState.PENDING
    assert web.stopped == set()


@pytest.mark.parametrize(
    "error",
    [
        DeadlineExceeded("too slow"),
        PrivilegeError("sudo is being replaced"),
        ProtocolViolation("nonsense"),
        AuthenticationFailed("PAM is being replaced"),
        ScriptFailed("no", exit_code=1),
    ],
)
def test_a_machine_that_is_odd_for_a_moment_is_watched_on(fleet: SimFleet, error: FleetpatchError) -> None:
    web = slow(fleet)
    web.on_start("install", 10, lambda: web.fail(error, on="look", call=1))
    web.on_start("install", 10, lambda: web.fail(error, on="look", call=2))

    outcome = outcome_of(fleet.patch(), "web")

    assert outcome.state is OperationState.SUCCEEDED, outcome.reason


def test_a_login_that_stays_refused_is_not_tried_for_hours(fleet: SimFleet) -> None:
    web = slow(fleet, seconds=3000)

    def refuse() -> None:
        for _ in range(200):
            web.fail(AuthenticationFailed("no"), on="look")

    web.on_start("install", 10, refuse)
    outcome = outcome_of(fleet.patch(), "web")

    (job,) = web.installs()
    refused = [call for call in web.calls if call.verb == "look" and call.name == job.id]
    assert outcome.state is OperationState.FAILED
    assert job.id in outcome.reason
    assert len(refused) < 20


def test_another_host_key_while_a_job_runs_ends_watching_at_once(fleet: SimFleet) -> None:
    web = slow(fleet)
    web.on_start("install", 10, lambda: web.fail(HostKeyMismatch("another key"), on="look"))

    outcome = outcome_of(fleet.patch(), "web")

    assert outcome.state is OperationState.FAILED
    assert "another key" in outcome.reason


@pytest.mark.parametrize(("times", "state"), [(2, UpdateState.INSTALLED), (500, UpdateState.NOT_ATTEMPTED)])
def test_a_machine_busy_with_another_run_is_waited_for_a_while(fleet: SimFleet, times: int, state: UpdateState) -> None:
    web = fleet.add("web", [FakePackage("a")])
    for _ in range(times):
        web.fail(ManagerBusy("another job still runs"), on="start")

    outcome = outcome_of(fleet.patch(stage=False), "web")

    assert result_of(outcome, "a").state is state
    assert (outcome.state is OperationState.FAILED) is (state is UpdateState.NOT_ATTEMPTED)
    if state is UpdateState.NOT_ATTEMPTED:
        assert "another job" in result_of(outcome, "a").reason
        assert outcome.install is None


def test_a_hiccup_after_the_installation_costs_nothing(fleet: SimFleet) -> None:
    web = fleet.add("web", [FakePackage("a", seconds=5)])
    web.on_start("install", 5, lambda: web.fail(Unreachable("gone"), on="fake_installed"))
    web.on_start("install", 5, lambda: web.fail(Unreachable("gone"), on="fake_assess"))

    outcome = outcome_of(fleet.patch(), "web")

    assert outcome.state is OperationState.SUCCEEDED, outcome.reason


def test_installed_updates_are_told_though_the_assessment_after_them_fails(fleet: SimFleet) -> None:
    web = fleet.add("web", [FakePackage("a", seconds=5), FakePackage("left", held=True)])
    web.on_start("install", 5, lambda: web.fail(ProtocolViolation("nonsense"), on="fake_assess"))

    outcome = outcome_of(fleet.patch(), "web")

    assert outcome.state is OperationState.FAILED
    assert result_of(outcome, "a").state is UpdateState.INSTALLED
    assert result_of(outcome, "left").state is UpdateState.EXCLUDED
    assert outcome.install is not None
    assert len(outcome.install.transactions) == 1


def test_what_became_of_updates_is_doubtful_when_the_database_can_not_be_asked(fleet: SimFleet) -> None:
    web = fleet.add("web", [FakePackage("a", seconds=5)])

    def fail() -> None:
        for _ in range(2):
            web.fail(ProtocolViolation("nonsense"), on="fake_installed")

    web.on_start("install", 5, fail)
    outcome = outcome_of(fleet.patch(), "web")

    assert outcome.state is OperationState.FAILED
    assert result_of(outcome, "a").state is UpdateState.PENDING
    assert "could not be asked" in result_of(outcome, "a").reason


def test_validation_that_raises_keeps_what_was_installed(fleet: SimFleet) -> None:
    web = fleet.add("web", [FakePackage("a", seconds=5)])
    web.on_start("install", 5, lambda: web.fail(Unreachable("gone"), on="facts", call=1))

    outcome = outcome_of(fleet.patch(), "web")

    assert outcome.state is OperationState.FAILED
    assert outcome.steps[-1].step is Step.VALIDATE
    assert result_of(outcome, "a").state is UpdateState.INSTALLED


@pytest.mark.parametrize("skew", [-200.0, 200.0])
def test_a_clock_that_is_minutes_off_is_corrected(fleet: SimFleet, skew: float) -> None:
    web = fleet.add("web", [FakePackage("a")], skew_seconds=skew)

    outcome = outcome_of(fleet.patch(minutes=20, reboot="Never"), "web")

    assert result_of(outcome, "a").state is UpdateState.INSTALLED
    assert outcome.install is not None
    (told,) = outcome.install.transactions
    (done,) = [begun for begun in web.begun() if begun.work == "install"]
    assert told.started_at is not None
    assert abs(told.started_at - done.at) < timedelta(seconds=1)


@pytest.mark.parametrize("skew", [-3600.0, 3600.0])
def test_a_clock_that_is_an_hour_off_blocks(fleet: SimFleet, skew: float) -> None:
    web = fleet.add("web", [FakePackage("a")], skew_seconds=skew)

    outcome = outcome_of(fleet.patch(), "web")

    assert outcome.state is OperationState.FAILED
    assert "clock" in outcome.reason
    assert web.installs() == []


def test_a_full_disk_is_found_before_anything_is_begun(fleet: SimFleet) -> None:
    web = fleet.add("web", [FakePackage("a")])
    web.free_kib = 10

    outcome = outcome_of(fleet.patch(), "web")

    assert outcome.state is OperationState.FAILED
    assert "free" in outcome.reason
    assert not [call for call in web.calls if call.verb == "start"]


def test_a_machine_that_can_not_even_be_tried_costs_only_itself(fleet: SimFleet) -> None:
    fleet.add("windows", [FakePackage("a")])
    fleet.add("web", [FakePackage("a")])
    del fleet.machines["windows"]
    fleet.refused["windows"] = PrivilegeError("there is no transport for it")

    report = fleet.patch()

    outcome = outcome_of(report, "windows")
    assert outcome.state is OperationState.FAILED
    assert outcome.reason == "there is no transport for it"
    assert outcome_of(report, "web").state is OperationState.SUCCEEDED


def test_a_lock_that_is_held_when_assessing_fails_that_machine_alone(fleet: SimFleet) -> None:
    fleet.add("busy", [FakePackage("a")]).world.assess_error = ManagerBusy("apt-daily holds the lock")
    fleet.add("web", [FakePackage("a")])

    report = fleet.patch()

    outcome = outcome_of(report, "busy")
    assert outcome.error is not None
    assert (outcome.error.kind, outcome.error.transient) == ("ManagerBusy", True)
    assert outcome_of(report, "web").state is OperationState.SUCCEEDED
