"""The controller's clock was far in the future once, and was set back."""

from dataclasses import replace

from tasks.rules.automatic.model import ChangeRollout, CreateRollout, FleetView, Phase, RolloutState, Tell
from tests.unit.rules.automatic.test_decision import DAY, NIGHT, act, machine, plans, rollout

FUTURE = NIGHT + 4000 * DAY


def test_a_rollout_of_the_future_is_faulted_and_the_next_one_does_not_wait_for_its_time():
    view = FleetView((machine(),), rollouts=(rollout(created_at=FUTURE),))
    (changed,) = act(view, ChangeRollout)
    assert changed.rollout.state is RolloutState.FAULTED
    assert "the controller's clock" in changed.rollout.message
    assert not plans(view)
    assert [tell.key for tell in act(view, Tell)] == ["faulted/rollout-0001"]
    (created,) = act(replace(view, rollouts=(changed.rollout,)), CreateRollout)
    assert created.rollout.id == "rollout-0002"


def test_a_rollout_whose_phase_ended_in_the_future_does_not_soak_until_then():
    phases = (Phase(1, ("a",), NIGHT - 2 * DAY, FUTURE), Phase(2, ("b",)))
    view = FleetView((machine("m1", pending=()), machine("m2", "b")), rollouts=(rollout(*phases),))
    (changed,) = act(view, ChangeRollout)
    assert changed.rollout.state is RolloutState.FAULTED


def test_nobody_catches_up_with_a_rollout_of_the_future():
    done = rollout(Phase(1, ("a",), FUTURE, FUTURE + DAY), created_at=FUTURE, state=RolloutState.COMPLETED)
    view = FleetView((machine(),), rollouts=(done,))
    assert not plans(view)
    assert act(view, CreateRollout)


def test_people_are_told_once_of_records_of_the_future():
    view = FleetView((machine(),), later_records={f"m{number:02}": FUTURE for number in range(20)})
    (tell,) = act(view, Tell)
    assert "m06, m07 and 12 more are ignored" in tell.message
    assert "2036-02-14 22:30 UTC" in tell.message
    assert not act(replace(view, announced=frozenset({tell.key})), Tell)
