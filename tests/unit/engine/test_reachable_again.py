"""A machine that is down for its reboot is asked as soon as it accepts connections, and seldom before."""

from dataclasses import replace
from datetime import timedelta

import pytest

from inventory.machine import Machine
from tasks.domain.states import RebootState
from tests.support.fake_packages import FakePackage
from tests.support.fleet import SimFleet
from tests.support.sim_machine import Boots


def _reboot(fleet: SimFleet, up_after: float, *, can_be_told: bool, accepts_always: bool = False) -> tuple[float, int]:
    """Return how late the end of a reboot was noticed, and how often the machine was asked in vain."""
    web = fleet.add("web", [FakePackage("linux", asks_reboot=True)])
    web.boots = Boots(down_after=3.0, up_after=up_after)
    away: list[bool] = []
    begin = web._begin

    def begin_noted(*words: object) -> object:
        away.append(web._away_until is not None and fleet.clock.now() < web._away_until)
        return begin(*words)  # type: ignore[arg-type]

    web._begin = begin_noted  # type: ignore[method-assign, assignment]

    def is_port_open(_machine: Machine) -> bool | None:
        if not can_be_told:
            return None
        web._let_trouble_come()
        return accepts_always or web._away_until is None or fleet.clock.now() >= web._away_until

    ports = fleet.ports()
    fleet.ports = lambda: replace(ports, is_port_open=is_port_open)  # type: ignore[method-assign]
    report = fleet.patch(reboot="IfRequired", stage=False)
    (outcome,) = report.outcomes
    assert outcome.reboot is RebootState.COMPLETED
    assert web._away_until is not None
    noticed = next(
        record.ended_at for record in outcome.steps if record.step == "reboot" and record.ended_at is not None
    )
    return (noticed - web._away_until) / timedelta(seconds=1), sum(away)


@pytest.mark.parametrize("up_after", [5.0, 60.0, 300.0])
def test_the_end_of_a_reboot_is_noticed_at_once(fleet: SimFleet, up_after: float) -> None:
    late, asked = _reboot(fleet, up_after, can_be_told=True)
    assert late <= 0.5
    assert asked <= 2 + up_after / 15


def test_without_a_look_at_its_port_it_is_asked_from_time_to_time(fleet: SimFleet) -> None:
    late, _ = _reboot(fleet, 60.0, can_be_told=False)
    assert late <= 15.0


def test_a_machine_for_which_another_one_accepts_connections_is_asked_as_seldom(fleet: SimFleet) -> None:
    _, asked = _reboot(fleet, 300.0, can_be_told=True, accepts_always=True)
    assert asked <= 30  # the pauses grow to 15 s
