"""Machines that were off when their phase ended: what becomes of them later still decides about the later phases."""

from dataclasses import replace

import pytest

from tasks.domain.states import OperationState
from tasks.rules.automatic.model import ChangeRollout, FleetView, HoldUpdate, Phase, RolloutState
from tests.unit.rules.automatic.test_decision import DAY, HOUR, NIGHT, act, machine, plans, rollout, tried, why

ENDED = Phase(1, ("a",), NIGHT - 9 * DAY, NIGHT - 8 * DAY)
GOOD = tried("m1", at=NIGHT - 9 * DAY, installed=(("libc", "1"),), location="a")
BEGUN, SOAKED = Phase(2, ("b",), NIGHT - 2 * DAY), Phase(2, ("b",))


def fail(days):
    wrong = (("libc", "1", "it broke"),)
    return tried("late", OperationState.FAILED, NIGHT - days * DAY, failed_updates=wrong, location="a")


def show(second, *tries, late=None):
    """Return two phases: one of two machines of the first one was late, and the second one has a machine to patch."""
    started = rollout(ENDED, second, Phase(3, ("c",)), created_at=NIGHT - 10 * DAY)
    fleet = (machine("m1", pending=()), late or machine("late"), machine("m2", "b"), machine("m3", "c"))
    return FleetView(fleet, rollouts=(started,), tries=(GOOD, *tries))


@pytest.mark.parametrize("second", [BEGUN, SOAKED])
def test_later_phases_wait_until_a_late_machine_that_failed_has_succeeded(second):
    view = show(second, fail(1))
    assert plans(view) == [("rollout-0001", ("late",))]
    stands = "waits" if second.started_at else "has not begun"
    assert why(view, name="m2") == f"phase 2 of rollout-0001 {stands}; phase 1 is under way"
    succeeded = tried("late", installed=(("libc", "1"),), at=NIGHT - HOUR, location="a")
    assert plans(show(second, fail(1), succeeded)) == [("rollout-0001", ("m2",))]


def test_later_phases_do_not_wait_for_a_late_machine_that_was_not_tried():
    assert plans(show(BEGUN)) == [("rollout-0001", ("late",)), ("rollout-0001", ("m2",))]


@pytest.mark.parametrize("second", [BEGUN, SOAKED])
def test_a_late_machine_that_used_all_its_tries_faults_the_rollout(second):
    view = show(second, fail(3), fail(2), fail(1))
    (changed,) = act(view, ChangeRollout)
    assert changed.rollout.state is RolloutState.FAULTED
    assert changed.rollout.message == "phase 1 (a): 1 of 2 machines failed; 95 % must succeed"
    assert [(each.update.name, each.update.reason) for each in act(view, HoldUpdate)] == [("libc", "it broke")]
    assert not plans(view)


@pytest.mark.parametrize(("days", "is_faulted"), [(6, False), (7.5, True)])
def test_a_late_machine_that_failed_and_is_off_again_is_waited_for(days, is_faulted):
    seen = NIGHT - 2.5 * DAY
    off = machine("late", last_seen=seen, assessed_at=seen, asked_at=NIGHT)
    view = show(BEGUN, fail(days), late=off)
    assert not plans(view)
    assert [each.rollout.state for each in act(view, ChangeRollout)] == [RolloutState.FAULTED] * is_faulted


def test_a_late_machine_that_is_unhealthy_afterwards_faults_the_rollout():
    installed = tried("late", installed=(("libc", "1"),), location="a")
    sick = machine("late", pending=(), is_healthy=False)
    (changed,) = act(show(BEGUN, installed, late=sick), ChangeRollout)
    assert changed.rollout.message.startswith("phase 1 (a): of 2 patched machines, 1 unhealthy")


def test_machines_that_were_judged_in_time_are_judged_no_more():
    """Their soak time is over: what makes them unhealthy now is hardly the rollout."""
    view = show(BEGUN, late=machine("late", pending=()))
    sick = replace(view, machines=(replace(view.machines[0], is_healthy=False), *view.machines[1:]))
    assert plans(sick) == [("rollout-0001", ("m2",))]
