"""Decides what automatic patching does now. Pure: the same view gives the same decision.

A decision is taken every few minutes. It may be carried out twice, or not at all: what it starts has a key, what it
stores has an id, and nothing is remembered from one decision to the next but the records that the view shows.
"""

from dataclasses import dataclass
from datetime import datetime

from tasks.rules.automatic.attention import find_assessments, find_news
from tasks.rules.automatic.fleet_index import FleetIndex
from tasks.rules.automatic.model import (
    Action,
    AutomaticPolicy,
    ChangeRollout,
    CreateRollout,
    Decision,
    FleetView,
    HoldUpdate,
    RolloutState,
    StartRun,
    Waiting,
)
from tasks.rules.automatic.phase_progress import Advance, advance, mark_started
from tasks.rules.automatic.rollout import create_rollout, freeze_again
from tasks.rules.automatic.starts import Starts, find_starts


def decide(policy: AutomaticPolicy, view: FleetView, now: datetime) -> Decision:
    """Return what automatic patching does now, and who waits for what.

    Actions are to be carried out in their order: a rollout is stored before a run of it starts.

    Args:
        policy: how the fleet is patched.
        view: everything that is known.
        now: aware.
    """
    index = FleetIndex(policy, view, now)
    if not policy.enabled:
        waiting = (
            Waiting(machine.name, "automatic patching is switched off")
            for machine in view.machines
            if index.list_selected(machine)
        )
        return Decision(waiting=tuple(waiting))
    steps = decide_steps(index)
    found, held = steps.found, steps.found.held if steps.found else ()
    actions: list[Action] = [*steps.rollouts, *(HoldUpdate(update) for update in held)]
    actions += [StartRun(plan) for plan in steps.starts.plans]
    assessments, later_assessments = find_assessments(index)
    actions += assessments
    actions += find_news(index, found.rollout if found else None, held)
    return Decision(tuple(actions), steps.starts.waiting, later_assessments)


@dataclass(frozen=True, slots=True)
class Steps:
    """What happens to rollouts now, and which runs start. A forecast needs only this of a decision."""

    found: Advance | None
    rollouts: tuple[CreateRollout | ChangeRollout, ...]
    starts: Starts


def decide_steps(index: FleetIndex) -> Steps:
    """Return what happens to rollouts now, and which runs start."""
    found = _look_at_rollout(index)
    is_over = found is not None and found.rollout.state is not RolloutState.ROLLING_FORWARD
    starts = find_starts(index, None if is_over else found)
    return Steps(found, tuple(_list_rollout_actions(index, found, starts)), starts)


def _look_at_rollout(index: FleetIndex) -> Advance | None:
    if index.rolling is None:
        return None
    return advance(index, freeze_again(index, index.rolling))


def _list_rollout_actions(
    index: FleetIndex, found: Advance | None, starts: Starts
) -> list[CreateRollout | ChangeRollout]:
    """Return the rollout's creation, or its change if there is one."""
    if found is None:
        created = create_rollout(index)
        return [] if created is None else [CreateRollout(created)]
    numbers = {plan.phase for plan in starts.plans if plan.rollout_id == found.rollout.id}
    changed = mark_started(found.rollout, numbers, index.now)
    return [] if changed == index.rolling else [ChangeRollout(changed)]
