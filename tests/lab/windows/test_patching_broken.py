"""Runs of the real engine on a Windows machine, and what breaks in the middle of an installation or a reboot."""

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from tasks.domain.states import OperationState, RebootState, UpdateState
from tests.lab.windows.patching import WindowsFleet, count, cumulative, kb, offer, result_of, states
from tests.lab.windows.running import run
from tests.lab.windows.scenario import Scenario, Update
from tests.lab.windows.state import change_state
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


def test_winrm_that_restarts_in_an_installation_is_no_fault(open_fleet: OpenFleet) -> None:
    fleet = open_fleet(offer(1, install_gate="go"))

    def restarts() -> None:
        fleet.close_network(seconds=3)
        fleet.open_gate_when_asked_again("go")

    fleet.patch(at="installing", then=restarts)

    assert fleet.outcome().state is OperationState.SUCCEEDED, fleet.outcome().reason
    assert count(fleet.one, "install") == 1
    assert not fleet.state["tasks"]


def test_nothing_more_is_installed_once_somebody_orders_a_shutdown_of_which_windows_has_no_text(
    open_fleet: OpenFleet,
) -> None:
    fleet = open_fleet(offer(1, install_gate="go"), offer(2))

    def order_shutdown() -> None:
        run(fleet.one.machine, "shutdown.exe /r /t 600 /c 'maintenance'", "system")
        with change_state(fleet.one.machine.folder) as state:
            for event in state["events"]:
                event["message"] = None
        fleet.one.machine.open_gate("go")

    fleet.patch(at="installing", then=order_shutdown)

    outcome = fleet.outcome()
    assert states(outcome) == {kb(1): UpdateState.INSTALLED, kb(2): UpdateState.NOT_ATTEMPTED}
    assert "a shutdown of Windows was ordered" in result_of(outcome, 2).reason
    assert "maintenance" in result_of(outcome, 2).reason


def test_a_machine_that_answers_while_it_goes_down_and_is_long_away_is_waited_for(open_fleet: OpenFleet) -> None:
    fleet = open_fleet(cumulative(1), shutdown_seconds=8.0, configuring_seconds=5.0, servicing_seconds_after_boot=2.0)

    fleet.patch(going_down_minutes=1 / 6)  # it takes longer, and servicing works meanwhile

    outcome = fleet.outcome()
    assert (outcome.state, outcome.reboot) == (OperationState.SUCCEEDED, RebootState.COMPLETED), outcome.reason
    assert outcome.reboot_result is not None
    assert (outcome.reboot_result.down_seconds or 0) + (outcome.reboot_result.up_seconds or 0) >= 15
    assert any("left; Windows is installing or removing updates" in message for message in fleet.watch.messages)
    assert fleet.state["ubr"] == 2800


def test_a_machine_that_never_comes_back_is_told(open_fleet: OpenFleet) -> None:
    fleet = open_fleet(cumulative(1), hangs_at_boot=True)

    fleet.patch(coming_up_minutes=0.05)

    outcome = fleet.outcome()
    assert (outcome.state, outcome.reboot) == (OperationState.FAILED, RebootState.FAILED)
    assert "did not come back" in outcome.reason
