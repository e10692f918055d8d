"""Nothing goes to other locations before a machine of the canary locations has succeeded."""

from dataclasses import replace

import pytest

from tasks.domain.states import OperationState
from tasks.rules.automatic.model import (
    ActiveRun,
    ChangeRollout,
    CreateRollout,
    FleetView,
    Phase,
    RolloutState,
    Tell,
)
from tests.unit.rules.automatic.test_decision import DAY, NIGHT, POLICY, act, machine, plans, rollout, tried, update

TWO = (Phase(1, ("a",)), Phase(2, ("b",)))


@pytest.mark.parametrize("days_off", [0.5, 2, 5, 20])
def test_a_rollout_waits_for_canaries_that_are_off_and_ends_without_touching_the_others(days_off):
    seen = NIGHT - days_off * DAY
    off = machine("m1", last_seen=seen, assessed_at=seen, asked_at=NIGHT)
    view = FleetView((off, machine("m2", "b")), rollouts=(rollout(*TWO, created_at=NIGHT),))
    over = None
    for number in range(12):
        now = NIGHT + number * DAY
        view = replace(view, machines=(off, machine("m2", "b", now)))
        assert not plans(view, now)
        over = next((each.rollout for each in act(view, ChangeRollout, now)), None)
        if over is not None:
            break
    assert over is not None
    assert number == 8
    assert over.state is RolloutState.FAULTED
    assert "phase 1 (a): none of its machines could be patched in 8 days" in over.message
    assert "canary_locations" in over.message
    (told,) = [each for each in act(view, Tell, now) if each.key.startswith("faulted/")]
    assert "the other locations were not begun" in told.message
    (created,) = act(replace(view, rollouts=(over,)), CreateRollout, now)
    assert [phase.locations for phase in created.rollout.phases] == [("b",), ("a",)]


def test_a_rollout_waits_for_canaries_that_another_run_has():
    view = FleetView((machine("m1"), machine("m2", "b")), rollouts=(rollout(*TWO, created_at=NIGHT - 8 * DAY),))
    view = replace(view, active_runs=(ActiveRun("by-hand", ("m1",)),))
    (changed,) = act(view, ChangeRollout)
    assert changed.rollout.state is RolloutState.FAULTED
    assert not plans(view)
    assert not act(replace(view, rollouts=(rollout(*TWO, created_at=NIGHT - 6 * DAY),)), ChangeRollout)


@pytest.mark.parametrize(
    ("turn", "began"), [((OperationState.NOT_STARTED,), False), ((OperationState.SUCCEEDED,), True)]
)
def test_canaries_that_lack_nothing_any_more_end_the_rollout_at_once(turn, began):
    """People have patched them by hand after the first run was started: nothing of the rollout was tested."""
    started = rollout(Phase(1, ("a",), NIGHT - DAY), Phase(2, ("b",)), created_at=NIGHT - DAY)
    missed = tried("m1", *turn, began=began)
    view = FleetView((machine("m1", pending=()), machine("m2", "b")), rollouts=(started,), tries=(missed,))
    (changed,) = act(view, ChangeRollout)
    assert changed.rollout.state is RolloutState.FAULTED
    assert "lacks the updates any more" in changed.rollout.message
    assert not plans(view)
    (created,) = act(replace(view, rollouts=(changed.rollout,)), CreateRollout)
    assert [phase.locations for phase in created.rollout.phases] == [("b",), ("a",)]


def test_one_of_two_paired_canary_locations_is_enough():
    policy = replace(POLICY, canary_locations=("a", "b"), paired_locations=(("a", "b"),))
    phases = (Phase(1, ("a",)), Phase(2, ("b",), NIGHT - 3 * DAY), Phase(3, ("c",)))
    off = machine("m1", last_seen=NIGHT - 9 * DAY, assessed_at=NIGHT - 9 * DAY)
    view = FleetView(
        (off, machine("m2", "b", pending=()), machine("m3", "c")),
        rollouts=(rollout(*phases, created_at=NIGHT - 9 * DAY),),
    )
    good = tried("m2", installed=(("libc", "1"),), location="b")
    (changed,) = act(replace(view, tries=(good,)), ChangeRollout, policy=policy)
    assert changed.rollout.state is RolloutState.ROLLING_FORWARD
    assert changed.rollout.phases[1].ended_at == NIGHT


def test_a_later_phase_in_which_nothing_can_begin_is_passed_over():
    ran = Phase(1, ("a",), NIGHT - 4 * DAY, NIGHT - 3 * DAY)
    off = machine("m2", "b", last_seen=NIGHT - 9 * DAY, assessed_at=NIGHT - 9 * DAY)
    view = FleetView(
        (machine("m1", pending=()), off, machine("m3", "c", pending=(update(),))),
        rollouts=(rollout(ran, Phase(2, ("b",)), Phase(3, ("c",)), created_at=NIGHT - 5 * DAY),),
        tries=(tried("m1", at=NIGHT - 4 * DAY, installed=(("libc", "1"),), location="a"),),
    )
    assert plans(view) == [("rollout-0001", ("m3",))]
