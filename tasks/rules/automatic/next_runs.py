"""Finds the runs that would start next if nothing changed until then. Pure."""

from collections.abc import Mapping
from dataclasses import replace
from datetime import datetime

from tasks.rules.automatic.decision import decide
from tasks.rules.automatic.fleet_index import FleetIndex
from tasks.rules.automatic.model import (
    AutomaticPolicy,
    ChangeRollout,
    CreateRollout,
    Decision,
    FleetView,
    MachineView,
    Rollout,
    RunPlan,
    StartRun,
)

_MAX_MOMENTS = 12


def find_next_runs(policy: AutomaticPolicy, view: FleetView, now: datetime) -> tuple[RunPlan, ...]:
    """Return the runs that start now, or at the next begin of off-peak hours in each zone; the earliest first.

    Until then machines count as assessed and seen as they are now. A machine is in one run at most.
    """
    index = FleetIndex(policy, view, now)
    zones = {machine.zone for machine in view.machines}
    moments = sorted({now, *(index.find_next_off_peak(zone).start for zone in zones)})
    plans: dict[str, RunPlan] = {}
    rollouts = view.rollouts
    for moment in moments[:_MAX_MOMENTS]:
        moved = replace(_move_view(view, now, moment, plans), rollouts=rollouts)
        decision = decide(policy, moved, moment)
        if any(isinstance(action, CreateRollout) for action in decision.actions):
            rollouts = _apply(rollouts, decision)
            decision = decide(policy, replace(moved, rollouts=rollouts), moment)
        rollouts = _apply(rollouts, decision)
        plans |= {action.plan.key: action.plan for action in decision.actions if isinstance(action, StartRun)}
    return tuple(sorted(plans.values(), key=lambda plan: (plan.window_start, plan.key)))


def _apply(rollouts: tuple[Rollout, ...], decision: Decision) -> tuple[Rollout, ...]:
    """Return the rollouts after a decision."""
    changed = {
        action.rollout.id: action.rollout
        for action in decision.actions
        if isinstance(action, CreateRollout | ChangeRollout)
    }
    rollouts_now = tuple(changed.pop(rollout.id, rollout) for rollout in rollouts)
    return (*rollouts_now, *changed.values())


def _move_view(view: FleetView, now: datetime, moment: datetime, runs: Mapping[str, RunPlan]) -> FleetView:
    """Return the view as it is at a later moment if each machine is assessed again and says the same.

    Machines that are in a run now, or will be before, are through by then.
    """
    ahead = moment - now
    if not ahead:
        return view

    def move(machine: MachineView) -> MachineView:
        times = {
            name: value + ahead
            for name in ("last_seen", "assessed_at", "asked_at")
            if (value := getattr(machine, name)) is not None
        }
        return replace(machine, **times)

    through = {name for run in view.active_runs for name in run.machines}
    through |= {name for plan in runs.values() for name in plan.machines}
    machines = tuple(move(machine) for machine in view.machines if machine.name not in through)
    return replace(view, machines=machines, active_runs=())
