"""How often a run logs in to a machine, and that no connection is left open.

A machine that was changed proves by a new login that it still lets fleetpatch in.
"""

from datetime import timedelta

import pytest

from inventory.machine import TransportKind
from tasks.domain.errors import Unreachable
from tasks.domain.states import OperationState
from tests.support.fake_packages import FakePackage
from tests.support.fleet import SimFleet, outcome_of


def fill(count: int, *, asks_reboot: bool = False) -> SimFleet:
    fleet = SimFleet()
    for number in range(count):
        fleet.add(f"m{number}", [FakePackage("a", seconds=20, asks_reboot=asks_reboot)])
    return fleet


def logins(fleet: SimFleet) -> list[int]:
    assert not any(machine.is_open for machine in fleet.machines.values())
    return [machine.opened for machine in fleet.machines.values()]


def test_an_assessment_and_a_dry_run_log_in_once() -> None:
    fleet = fill(2)
    fleet.assess()
    assert logins(fleet) == [1, 1]
    fleet.patch(dry_run=True)
    assert logins(fleet) == [2, 2]


@pytest.mark.parametrize(("waves", "expected"), [({"at_once": 3}, [2, 2, 2]), ({"at_once": 2}, [2, 2, 3])])
def test_a_machine_that_begins_at_once_keeps_the_connection_of_its_assessment(
    waves: dict[str, int], expected: list[int]
) -> None:
    fleet = fill(3)
    report = fleet.patch(waves=waves)
    assert report.run.state is OperationState.SUCCEEDED
    assert logins(fleet) == expected


def test_a_machine_of_a_later_wave_logs_in_again() -> None:
    fleet = fill(2)
    fleet.patch(waves={"size": 1, "at_once": 2})
    assert logins(fleet) == [2, 3]


def test_nothing_stays_open_while_the_run_waits_for_its_window() -> None:
    fleet = fill(1)
    fleet.patch(start=fleet.clock.now() + timedelta(hours=1))
    assert logins(fleet) == [3]


def test_a_reboot_costs_the_logins_after_its_order() -> None:
    """While the machine goes down it is asked once more, when it is back, and before its validation."""
    fleet = fill(1, asks_reboot=True)
    report = fleet.patch()
    assert outcome_of(report, "m0").state is OperationState.SUCCEEDED
    assert logins(fleet) == [4]


@pytest.mark.parametrize("seconds", [120, 2400])
def test_a_long_job_is_watched_over_one_connection(seconds: float) -> None:
    fleet = SimFleet()
    fleet.add("m0", [FakePackage("a", seconds=seconds)])
    fleet.patch(reboot="Never")
    assert logins(fleet) == [2]


def test_a_pause_over_winrm_closes_the_powershell_on_the_machine() -> None:
    fleet = SimFleet()
    fleet.add("m0", [FakePackage("a", seconds=120)], transport=TransportKind.WINRM)
    fleet.patch(reboot="Never")
    assert logins(fleet)[0] > 2


def test_a_machine_that_waits_before_its_reboot_keeps_its_connection() -> None:
    fleet = fill(1, asks_reboot=True)
    world, now = fleet.machines["m0"].world, fleet.clock.now()
    world.locks = ((now + timedelta(seconds=21), now + timedelta(seconds=200)),)  # from the end of the installation
    report = fleet.patch()
    assert "waited" in outcome_of(report, "m0").reboot_result.reason  # type: ignore[union-attr]
    assert logins(fleet) == [4]


def test_a_machine_without_work_is_left_after_its_assessment() -> None:
    fleet = fill(1)
    fleet.add("done", [])
    seen: list[bool] = []
    machine = fleet.machines["m0"]
    machine.on_start("install", 5, lambda: seen.append(fleet.machines["done"].is_open))
    fleet.patch(waves={"at_once": 2})
    assert seen == [False]
    assert logins(fleet) == [2, 1]


def test_a_machine_that_answers_only_in_its_turn_is_assessed_and_patched_over_one_connection() -> None:
    fleet = fill(2)
    fleet.machines["m1"].fail(Unreachable("no answer"))
    report = fleet.patch(waves={"at_once": 1}, assess_at_once=2)
    assert outcome_of(report, "m1").state is OperationState.SUCCEEDED
    assert logins(fleet) == [2, 3]


def test_a_run_that_is_stopped_after_its_assessments_leaves_nothing_open() -> None:
    fleet = fill(2)
    asked = fleet.machines["m1"]
    handler, _seconds = asked._handlers["facts"]

    def stop(script: object) -> object:
        fleet.control.request_stop("a person said so")
        return handler(script)  # type: ignore[arg-type]

    asked.answer("facts", stop)  # type: ignore[arg-type]
    fleet.patch(waves={"at_once": 2})
    assert logins(fleet) == [1, 1]
