"""A hypervisor host whose reboot is announced: its programs are told, its guests leave, and both are undone."""

from collections.abc import Callable
from typing import Any

import pytest

from inventory.guests import GuestSettings, StubbornGuests
from tasks.domain.protocols.transport import Script
from tasks.domain.scheduled_events import EventStatus
from tasks.domain.states import UNFINISHED_RUN_STATES, FindingLevel, OperationState, RebootState
from tasks.steps.context.run_control import StopToken
from tasks.steps.machine.machine_lock import IDLE_LOCK_DURATION
from tests.support.event_fleet import ANNOUNCE, NOTICE, WakingClock, asks, only_event, reason_of
from tests.support.fleet import SimFleet, outcome_of
from tests.support.mortal import Killed, Life, choose_calls
from tests.support.sim_hypervisor import SimGuest, SimHypervisor
from tests.support.taking_up import RUN, begin, resume

SCHEDULED, STARTED, COMPLETED, CANCELED = EventStatus
RAN = {"libvirt:a1", "qemu:100"}


def make_host(leaves_after: float = 20.0, minutes: float = 5.0, **settings: Any) -> tuple[SimFleet, SimHypervisor]:
    fleet = SimFleet(clock=WakingClock())
    host = asks(fleet, "host", guests=GuestSettings(minutes=minutes, **settings))
    return fleet, SimHypervisor(host, {name: SimGuest(leaves_after=leaves_after) for name in sorted(RAN)})


def on_order(hypervisor: SimHypervisor, work: str, act: Callable[[], object]) -> None:
    """Do something whenever guests are told to do this work."""

    def answer(script: Script) -> Any:
        if script.params["work"] == work:
            act()
        return hypervisor._answer(script)

    hypervisor.host.answer("guests", answer)


def test_guests_leave_after_the_notice_and_the_event_is_over_when_they_are_back() -> None:
    fleet, hypervisor = make_host()
    seen: list[EventStatus] = []
    for work in ("away", "back"):
        on_order(hypervisor, work, lambda: seen.append(only_event(fleet).status))
    fleet.patch(**ANNOUNCE)
    event = only_event(fleet)
    assert hypervisor.host.boots.ordered_at[0] >= event.announced_at + NOTICE
    assert (seen, event.status) == ([STARTED], COMPLETED)
    assert (hypervisor.running, hypervisor.cut) == (RAN, set())


def test_an_event_that_is_withdrawn_when_the_guests_have_left_brings_them_back() -> None:
    fleet, hypervisor = make_host()
    on_order(hypervisor, "away", lambda: fleet.events.change(only_event(fleet).id, CANCELED, "anna: no", "anna"))
    outcome = outcome_of(fleet.patch(**ANNOUNCE), "host")
    assert (hypervisor.host.boots.count, outcome.reboot) == (0, RebootState.REQUIRED)
    assert "its scheduled event was withdrawn: anna: no" in reason_of(outcome)
    assert [order.split()[0] for order in hypervisor.orders] == ["away", "away", "back", "back"]
    assert (hypervisor.running, hypervisor.cut) == (RAN, set())


def test_nobody_is_switched_off_hard_for_a_reboot_that_is_withdrawn() -> None:
    fleet, hypervisor = make_host(stubborn=StubbornGuests.FORCE)
    hypervisor.guests["qemu:100"].leaves_after = None
    on_order(hypervisor, "away", lambda: fleet.events.change(only_event(fleet).id, CANCELED, "anna: no", "anna"))
    outcome = outcome_of(fleet.patch(**ANNOUNCE), "host")
    assert (hypervisor.host.boots.count, hypervisor.running, hypervisor.cut) == (0, RAN, set())
    assert "its scheduled event was withdrawn" in reason_of(outcome)


def test_a_guest_that_has_started_meanwhile_is_not_switched_off() -> None:
    fleet, hypervisor = make_host(stubborn=StubbornGuests.FORCE)
    hypervisor.guests["qemu:100"].leaves_after = None
    on_order(hypervisor, "away", lambda: hypervisor.guests.setdefault("qemu:200", SimGuest(leaves_after=None)))
    fleet.patch(**ANNOUNCE)
    assert (hypervisor.host.boots.count, hypervisor.running) == (0, {*RAN, "qemu:200"})
    assert hypervisor.cut == {"qemu:100"}


def test_a_guest_is_started_again_if_its_hypervisor_was_not_ready() -> None:
    fleet, hypervisor = make_host()
    for guest in hypervisor.guests.values():
        guest.comes_back = False
    ready_at = 3

    def count() -> None:
        ready = sum(order.startswith("back") for order in hypervisor.orders) >= ready_at
        for guest in hypervisor.guests.values():
            guest.comes_back = ready

    on_order(hypervisor, "back", count)
    outcome = outcome_of(fleet.patch(**ANNOUNCE), "host")
    assert hypervisor.running == RAN
    assert [finding.level for finding in outcome.findings if finding.check == "guests back"] == [FindingLevel.GOOD]


def test_the_window_must_hold_the_notice_and_both_moves_of_the_guests() -> None:
    fleet, hypervisor = make_host()
    outcome = outcome_of(fleet.patch(minutes=35, reboot_reserve_minutes=10.5, **ANNOUNCE), "host")
    assert (hypervisor.orders, hypervisor.host.begun(), fleet.events.events) == ([], [], {})
    assert outcome.state is OperationState.NOT_STARTED


def test_guests_that_have_left_slowly_do_not_take_the_time_of_the_reboot() -> None:
    fleet, hypervisor = make_host(leaves_after=280)
    outcome = outcome_of(fleet.patch(minutes=38, reboot_reserve_minutes=10.5, **ANNOUNCE), "host")
    assert (hypervisor.host.boots.count, outcome.reboot) == (1, RebootState.COMPLETED)
    assert (hypervisor.running, hypervisor.cut) == (RAN, set())


def test_a_run_keeps_its_lock_while_guests_leave_before_its_first_update() -> None:
    fleet, hypervisor = make_host(leaves_after=3000, minutes=60)
    host = hypervisor.host
    seen: list[bool] = []
    host.world.shelf.reboot_reasons.append("from before")

    def look() -> None:
        assert host.locked_by is not None
        seen.append(host.locked_by[2] > fleet.clock.now().timestamp())

    host.trouble.append((fleet.clock.now() + 3 * IDLE_LOCK_DURATION, look))
    fleet.patch(minutes=300, reboot_pending_first=True)
    assert seen == [True]
    assert hypervisor.running == RAN


@pytest.mark.parametrize("after_the_act", [False, True])
def test_whenever_the_controller_dies_there_is_one_reboot_after_a_whole_notice_and_nobody_is_cut(
    after_the_act: bool,
) -> None:
    whole, _ = make_host()
    life = Life()
    begin(whole, whole.request(**ANNOUNCE), life)
    for call in choose_calls(life.calls, 5):
        fleet, hypervisor = make_host()
        try:
            begin(fleet, fleet.request(**ANNOUNCE), Life(dies_at=call, after_the_act=after_the_act))
        except Killed:
            fleet.clock.advance(30)
            if fleet.records.runs[RUN].state in UNFINISHED_RUN_STATES:
                resume(fleet, control=StopToken())
        told = [event for event in fleet.events.events.values() if event.status is not CANCELED]
        assert [event.status for event in told] == [COMPLETED], call
        boots = hypervisor.host.boots
        assert boots.count == 1, call
        assert boots.ordered_at[0] >= told[0].announced_at + NOTICE, call
        assert (hypervisor.running, hypervisor.cut) == (RAN, set()), call
