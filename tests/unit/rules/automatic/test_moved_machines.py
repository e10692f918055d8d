"""Machines that are moved or removed while a rollout is under way: what became of them counts where it happened."""

from dataclasses import replace

import pytest

from tasks.domain.states import OperationState
from tasks.rules.automatic.decision import decide
from tasks.rules.automatic.model import ActiveRun, ChangeRollout, FleetView, Phase, RolloutState, RunPlan, StartRun
from tasks.rules.automatic.progress import MachineStage, measure_rollout
from tests.unit.rules.automatic.test_decision import DAY, HOUR, NIGHT, POLICY, act, machine, plans, rollout, tried

PHASES = (Phase(1, ("a",), NIGHT - 4 * DAY), Phase(2, ("b",)))
STARTED = rollout(*PHASES, created_at=NIGHT - 5 * DAY)


def fail(name, days, location="a"):
    return tried(name, OperationState.FAILED, NIGHT - days * DAY, location=location, reason="it broke")


@pytest.mark.parametrize("present", ["elsewhere", "b", None])
def test_failures_of_a_canary_location_count_although_its_machines_are_elsewhere_or_gone(present):
    """The location is renamed, the machine is moved to the next phase, or it has left the inventory."""
    tries = tuple(fail("m1", days) for days in (1, 2, 3))
    others = () if present is None else (machine("m1", present),)
    view = FleetView((*others, machine("m2", "b")), rollouts=(STARTED,), tries=tries)
    (changed,) = act(view, ChangeRollout)
    assert changed.rollout.state is RolloutState.FAULTED
    assert changed.rollout.message == "phase 1 (a): 1 of 1 machine failed; 95 % must succeed"
    assert not plans(view)


def test_successes_count_where_they_were_and_not_where_the_machine_is_now():
    good = tried("m1", installed=(("libc", "1"),), location="a")
    moved = machine("m1", "b", pending=())
    view = FleetView((moved, machine("m2", "b")), rollouts=(STARTED,), tries=(good,))
    (changed,) = act(view, ChangeRollout)
    assert changed.rollout.state is RolloutState.ROLLING_FORWARD
    assert changed.rollout.phases[0].ended_at == NIGHT
    shown = measure_rollout(POLICY, view, STARTED, NIGHT)
    first, second = ([(each.machine, each.location, each.stage) for each in phase.machines] for phase in shown.phases)
    assert first == [("m1", "a", MachineStage.DONE)]
    assert second == [("m2", "b", MachineStage.WAITING)]
    # m2 fails in the second phase. The success of m1 was in the first one, so it does not make up for it.
    later = (Phase(1, ("a",), NIGHT - 4 * DAY, NIGHT - 2 * DAY), Phase(2, ("b",), NIGHT - DAY))
    later_view = replace(
        view,
        rollouts=(replace(STARTED, phases=later),),
        tries=(replace(good, ended_at=NIGHT - 3 * DAY), *(fail("m2", days / 4, "b") for days in (1, 2, 3))),
    )
    many = replace(POLICY, success_percent=50)
    (changed,) = act(later_view, ChangeRollout, policy=many)
    assert changed.rollout.message == "phase 2 (b): 1 of 1 machine failed; 50 % must succeed"


def test_a_moved_machine_that_has_tries_left_is_tried_again_when_its_new_phase_begins():
    good = tuple(tried(f"c{number}", installed=(("libc", "1"),), location="a") for number in range(30))
    canaries = tuple(machine(f"c{number}", pending=()) for number in range(30))
    view = FleetView((*canaries, machine("m1", "b")), rollouts=(STARTED,), tries=(*good, fail("m1", 1)))
    (changed,) = act(view, ChangeRollout)
    assert changed.rollout.phases[0].ended_at == NIGHT
    later = NIGHT + DAY
    after = replace(
        view,
        rollouts=(changed.rollout,),
        machines=tuple(replace(each, last_seen=later, assessed_at=later, asked_at=later) for each in view.machines),
    )
    assert plans(after, later) == [("rollout-0001", ("m1",))]


@pytest.mark.parametrize("present", ["b", None])
def test_a_phase_waits_for_the_run_of_a_machine_that_is_moved_meanwhile(present):
    plan = RunPlan("k", "rollout-0001", 1, "a", "", "UTC", ("m1",), NIGHT - HOUR, 235)
    others = () if present is None else (machine("m1", present),)
    done = machine("m0", pending=())
    view = FleetView(
        (done, *others, machine("m2", "b")),
        rollouts=(STARTED,),
        tries=(tried("m0", installed=(("libc", "1"),), location="a"),),
        active_runs=(ActiveRun("r", ("m1",), plan),),
    )
    assert not [each for each in decide(POLICY, view, NIGHT).actions if isinstance(each, ChangeRollout | StartRun)]


def test_a_machine_that_was_patched_and_has_left_the_inventory_is_not_unhealthy():
    good = tried("gone", installed=(("libc", "1"),), location="a")
    view = FleetView((machine("m2", "b"),), rollouts=(STARTED,), tries=(good,))
    (changed,) = act(view, ChangeRollout)
    assert changed.rollout.state is RolloutState.ROLLING_FORWARD
    assert changed.rollout.phases[0].ended_at == NIGHT
