"""Runs that announced an interruption, whose controller dies, and that are resumed."""

import pytest

from tasks.domain.scheduled_events import EventStatus
from tasks.domain.states import RebootState
from tasks.steps.context.run_control import StopToken
from tests.support.event_fleet import ANNOUNCE, NOTICE, WakingClock, after, asks
from tests.support.fleet import SimFleet, outcome_of
from tests.support.mortal import Killed, Life, choose_calls
from tests.support.taking_up import begin, resume

CANCELED, COMPLETED = EventStatus.CANCELED, EventStatus.COMPLETED


@pytest.fixture
def fleet() -> SimFleet:
    return SimFleet(clock=WakingClock())


def test_a_run_that_is_resumed_late_needs_no_second_notice(fleet: SimFleet) -> None:
    web = asks(fleet)
    request = fleet.request(minutes=40, reboot_reserve_minutes=10, **ANNOUNCE)
    life = Life()
    after(fleet, 600, lambda: setattr(life, "dies_at", life.calls + 1))
    with pytest.raises(Killed):
        begin(fleet, request, life)
    fleet.clock.advance(15 * 60)

    report = resume(fleet, control=StopToken())

    assert outcome_of(report, "web").reboot is RebootState.COMPLETED
    assert (web.boots.count, len(fleet.events.events)) == (1, 1)


@pytest.mark.parametrize("after_the_act", [False, True])
def test_a_run_that_is_resumed_has_one_event_one_reboot_and_a_whole_notice(after_the_act: bool) -> None:
    whole = SimFleet(clock=WakingClock())
    asks(whole)
    life = Life()
    begin(whole, whole.request(**ANNOUNCE), life)
    for call in choose_calls(life.calls - 2, 5):  # the last ones save the end, and that it was told
        fleet = SimFleet(clock=WakingClock())
        web = asks(fleet)
        try:
            begin(fleet, fleet.request(**ANNOUNCE), Life(dies_at=call, after_the_act=after_the_act))
        except Killed:
            fleet.clock.advance(30)
            report = resume(fleet, control=StopToken())
            assert outcome_of(report, "web").reboot is RebootState.COMPLETED, call
        assert web.boots.count == 1, call
        told = [event for event in fleet.events.events.values() if event.status is not CANCELED]
        assert [event.status for event in told] == [COMPLETED], call
        assert web.boots.ordered_at[0] >= told[0].announced_at + NOTICE, call
        assert fleet.events.read_document("web").events == (), call
