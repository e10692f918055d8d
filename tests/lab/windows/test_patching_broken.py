"""Runs of the real engine on a Windows machine, and what breaks in the middle of an installation or a reboot."""

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from tasks.states import OperationState, RebootState, UpdateState
from tests.lab.windows.patching import Controllers, WindowsFleet, count, cumulative, guid, kb, offer, result_of, states
from tests.lab.windows.scenario import Scenario, Update
from tests.support.local_powershell import require_pwsh

OpenFleet = Callable[..., WindowsFleet]


@pytest.fixture
def open_fleet(tmp_path: Path) -> Iterator[OpenFleet]:
    """`open_fleet(offer(1), …)` is a machine that is offered these updates."""
    require_pwsh()
    with ExitStack() as stack:

        def opened(*updates: Update, **scenario: object) -> WindowsFleet:
            return stack.enter_context(WindowsFleet.opened(tmp_path, Scenario(updates=updates, **scenario)))  # type: ignore[arg-type]

        yield opened


def test_a_line_that_breaks_in_an_installation_is_taken_up_again(open_fleet: OpenFleet) -> None:
    fleet = open_fleet(offer(1, install_gate="go"), offer(2))

    def breaks() -> None:
        fleet.one.host.drop_connections()
        fleet.open_gate_when_asked_again("go")

    fleet.patch(at="installing", then=breaks)

    outcome = fleet.outcome()
    assert outcome.state is OperationState.SUCCEEDED, outcome.reason
    assert set(states(outcome).values()) == {UpdateState.INSTALLED}
    assert count(fleet.one, "install") == 2


def test_winrm_that_restarts_in_an_installation_is_no_fault(open_fleet: OpenFleet) -> None:
    fleet = open_fleet(offer(1, install_gate="go"))

    def restarts() -> None:
        fleet.close_network(seconds=3)
        fleet.open_gate_when_asked_again("go")

    fleet.patch(at="installing", then=restarts)

    assert fleet.outcome().state is OperationState.SUCCEEDED, fleet.outcome().reason
    assert count(fleet.one, "install") == 1
    assert not fleet.state["tasks"]


def test_a_power_cut_in_an_installation_is_told_and_the_next_run_heals(open_fleet: OpenFleet) -> None:
    fleet = open_fleet(offer(1), offer(2, install_gate="go"))

    def cut() -> None:
        fleet.one.machine.wait_until(lambda state: (state["activity"] or {}).get("id") == guid(2))
        fleet.one.machine.power_cut()

    fleet.patch(at=f"installing {kb(2)}", then=cut)

    outcome = fleet.outcome()
    assert outcome.state is OperationState.FAILED
    assert result_of(outcome, 1).state is UpdateState.INSTALLED
    assert result_of(outcome, 2).state is UpdateState.FAILED
    assert (count(fleet.one, "install"), fleet.state["boot"]["number"]) == (1, 2)

    fleet.one.machine.open_gate("go")
    fleet.patch(run="20260310-020000-aaaaaa")
    assert fleet.outcome("20260310-020000-aaaaaa").state is OperationState.SUCCEEDED
    assert [there["installed"] for there in fleet.state["updates"].values()] == [True, True]
    assert not fleet.state["tasks"], "the task of the lost job is left"


def test_a_stop_ends_a_run_between_two_updates(open_fleet: OpenFleet) -> None:
    fleet = open_fleet(offer(1, install_gate="go"), offer(2))

    def stop() -> None:
        fleet.control.request_stop("anne stopped it")
        fleet.open_gate_when("go", fleet.stop_has_arrived)

    fleet.patch(at="installing", then=stop)

    outcome = fleet.outcome()
    assert result_of(outcome, 1).state is UpdateState.INSTALLED
    assert result_of(outcome, 2).state is UpdateState.NOT_ATTEMPTED
    assert "stop" in result_of(outcome, 2).reason
    assert count(fleet.one, "install") == 1
    assert fleet.state["boot"]["number"] == 1


def test_a_machine_that_answers_while_it_goes_down_and_is_long_away_is_waited_for(open_fleet: OpenFleet) -> None:
    fleet = open_fleet(cumulative(1), shutdown_seconds=3.0, configuring_seconds=5.0, servicing_seconds_after_boot=2.0)

    fleet.patch()

    outcome = fleet.outcome()
    assert (outcome.state, outcome.reboot) == (OperationState.SUCCEEDED, RebootState.COMPLETED), outcome.reason
    assert outcome.reboot_result is not None
    assert (outcome.reboot_result.down_seconds or 0) + (outcome.reboot_result.up_seconds or 0) >= 8
    assert fleet.state["ubr"] == 2800


def test_a_machine_that_never_comes_back_is_told(open_fleet: OpenFleet) -> None:
    fleet = open_fleet(cumulative(1), hangs_at_boot=True)

    fleet.patch(coming_up_minutes=0.05)

    outcome = fleet.outcome()
    assert (outcome.state, outcome.reboot) == (OperationState.FAILED, RebootState.FAILED)
    assert "did not come back" in outcome.reason


def test_a_controller_killed_in_an_installation_and_in_a_reboot_is_replaced(open_fleet: OpenFleet) -> None:
    fleet = open_fleet(offer(1), cumulative(2, install_gate="go"), configuring_seconds=2.0)
    with Controllers(fleet) as controllers:
        controllers.killed("begin", "installing")
        fleet.one.machine.open_gate("go")
        controllers.killed("resume", "going down")
        controllers.carried("resume")

    fleet.judge()
    outcome = fleet.outcome()
    assert (outcome.state, outcome.reboot) == (OperationState.SUCCEEDED, RebootState.COMPLETED), outcome.reason
    assert (count(fleet.one, "install"), count(fleet.one, "boot")) == (2, 1)
