"""The second look at a changed machine: when it comes, who waits for it, and what it finds."""

from datetime import datetime, timedelta
from typing import Any

import pytest

from tasks.domain.errors import AuthenticationFailed, NoShell, PrivilegeError
from tasks.domain.model import RunReport
from tasks.domain.protocols.transport import Script
from tasks.domain.states import OperationState, Step
from tasks.steps.context.run_control import LoggingListener
from tests.support.fake_packages import FakePackage
from tests.support.fleet import SimFleet, outcome_of
from tests.support.mortal import Killed, Life
from tests.support.set_fleet import SetFleet
from tests.support.sim_machine import SimMachine
from tests.support.taking_up import begin, resume

DIED = "ended since patching, and was started again: sim.service"


def restart(machine: SimMachine, *, dies_after: float | None = None) -> None:
    """Let the installation restart the service of a machine, which then ends after so many seconds."""

    def begin() -> None:
        services = machine.world.services
        now = services.clock.now()
        services.starts = [(now, 0)]
        if dies_after is not None:
            services.starts.append((now + timedelta(seconds=dies_after), 1))

    machine.on_start("install", 0.5, begin)


def fleet_of(*names: str, fleet: SimFleet | None = None) -> SimFleet:
    fleet = fleet or SimFleet()
    for name in names:
        fleet.add(name, [FakePackage("a"), FakePackage("b", seconds=3)])
    return fleet


def span(report: RunReport) -> float:
    assert report.run.ended_at is not None
    return (report.run.ended_at - report.run.started_at).total_seconds()


def looks(report: RunReport, machine: str) -> list[datetime]:
    steps = outcome_of(report, machine).steps
    return [record.started_at for record in steps if record.step is Step.VALIDATE]


def test_machines_without_a_restarted_service_wait_for_nothing() -> None:
    plain = span(fleet_of("a", "b").patch(settle_seconds=0))
    report = fleet_of("a", "b").patch(settle_seconds=45)
    assert span(report) == plain
    assert len(looks(report, "a")) == 1


@pytest.mark.parametrize("at_once", [1, 3])
def test_the_machines_of_a_wave_share_the_wait(at_once: int) -> None:
    fleet = fleet_of("a", "b", "c")
    for machine in fleet.machines.values():
        restart(machine)
    plain = span(fleet_of("a", "b", "c").patch(waves={"at_once": at_once}))
    report = fleet.patch(settle_seconds=300, waves={"at_once": at_once})
    assert 250 < span(report) - plain < 310
    for name in fleet.machines:
        _, second = looks(report, name)
        assert second >= fleet.machines[name].world.services.starts[0][0] + timedelta(seconds=300)
        assert outcome_of(report, name).state is OperationState.SUCCEEDED


@pytest.mark.parametrize("dies_after", [20, 100, 280])
def test_a_service_that_dies_before_the_second_look_fails_its_machine_and_opens_no_wave(dies_after: float) -> None:
    fleet = fleet_of("a", "b", "c")
    restart(fleet.machines["a"], dies_after=dies_after)
    report = fleet.patch(settle_seconds=300, waves={"canary_count": 1})
    outcome = outcome_of(report, "a")
    assert outcome.state is OperationState.FAILED
    assert DIED in outcome.reason
    assert "canary wave 1 failed" in outcome_of(report, "b").reason
    assert outcome_of(report, "c").state is OperationState.NOT_STARTED


def test_a_run_that_is_to_stop_still_looks_a_second_time() -> None:
    fleet = fleet_of("a", "b")
    restart(fleet.machines["a"], dies_after=100)

    class Stopping(LoggingListener):
        def on_step_finished(self, machine: str, step: Step, state: str, message: str) -> None:
            if step is Step.VALIDATE:
                fleet.control.request_stop("enough")

    fleet.watch = Stopping()
    report = fleet.patch(settle_seconds=300)
    first, second = looks(report, "a")
    assert second - first > timedelta(seconds=250)
    assert DIED in outcome_of(report, "a").reason


def test_a_process_that_goes_on_with_the_run_does_not_skip_the_second_look() -> None:
    life, calls = Life(), list[int]()
    fleet = fleet_of("a")

    class Counting(LoggingListener):
        def on_progress(self, machine: str, step: Step, fraction: float | None, message: str) -> None:
            if message.startswith("it is looked at again"):
                calls.append(life.calls)

    fleet.watch = Counting()
    restart(fleet.machines["a"])
    begin(fleet, fleet.request(settle_seconds=300), life)
    assert len(calls) == 1

    for away in (0, 10, 900):
        fleet = fleet_of("a")
        restart(fleet.machines["a"], dies_after=100)
        with pytest.raises(Killed):
            begin(fleet, fleet.request(settle_seconds=300), Life(dies_at=calls[0] + 1))
        fleet.clock.advance(away)
        report = resume(fleet)
        assert DIED in outcome_of(report, "a").reason
        second = looks(report, "a")[-1]
        assert second >= fleet.machines["a"].world.services.starts[0][0] + timedelta(seconds=300)


def test_a_member_of_a_set_keeps_its_turn_until_the_second_look_is_over() -> None:
    fleet = SetFleet()
    fleet.add_members("web-1", "web-2", asks_reboot=False)
    fleet.add_set("web", "web-1", "web-2")
    for name in ("web-1", "web-2"):
        restart(fleet.machines[name])
    report = fleet.campaign(fleet.request(settle_seconds=300, waves={"at_once": 2})).execute()
    first, second = sorted(("web-1", "web-2"), key=lambda name: looks(report, name)[0])
    began = next(record.started_at for record in outcome_of(report, second).steps if record.step is Step.INSTALL)
    assert len(looks(report, second)) == 2
    assert began >= looks(report, first)[1]


@pytest.mark.parametrize(
    "error", [AuthenticationFailed("no such account"), PrivilegeError("no rule of sudo"), NoShell("no answer")]
)
@pytest.mark.parametrize("reboot", ["IfRequired", "Always"])
def test_a_login_that_is_refused_since_the_update_stops_the_run(error: Exception, reboot: str) -> None:
    fleet = fleet_of("a", "b", "c")
    machine = fleet.machines["a"]
    refuse_after_close(machine, error)
    report = fleet.patch(waves={"size": 1, "failure_budget_count": 9}, reboot=reboot)
    outcome = outcome_of(report, "a")
    assert outcome.state is OperationState.FAILED
    assert outcome.reason.startswith(f"the login worked before the update and is refused since: {error}")
    for name in ("b", "c"):
        assert outcome_of(report, name).state is OperationState.NOT_STARTED
        assert outcome_of(report, name).reason == "a refuses the login since its update, so no further machine begins"


def refuse_after_close(machine: SimMachine, error: Exception) -> None:
    """Let a machine refuse each login once it has installed something."""
    close, run = machine.close, machine.run_script

    def run_script(script: Script, **more: Any) -> Any:
        if is_closed:
            raise error
        return run(script, **more)

    def close_connection() -> None:
        close()
        if machine.installs():
            is_closed.append(True)

    is_closed: list[bool] = []
    machine.run_script, machine.close = run_script, close_connection  # type: ignore[method-assign]


def test_a_second_look_that_is_refused_for_a_moment_stops_no_run() -> None:
    fleet = fleet_of("a", "b")
    machine = fleet.machines["a"]
    restart(machine)
    run, refusals = machine.run_script, [PrivilegeError("sssd is just starting")]

    def run_script(script: Script, **more: Any) -> Any:
        starts = machine.world.services.starts
        if script.name == "facts" and starts and refusals and fleet.clock.now() > starts[0][0] + timedelta(seconds=30):
            raise refusals.pop()
        return run(script, **more)

    machine.run_script = run_script  # type: ignore[method-assign]
    report = fleet.patch(waves={"size": 1}, settle_seconds=45)
    assert not refusals
    assert [outcome.state for outcome in report.outcomes] == [OperationState.SUCCEEDED] * 2
