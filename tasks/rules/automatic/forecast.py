"""Foretells when each machine is patched at the present pace, and which deadlines are missed. Pure.

A forecast takes the same decisions as automatic patching itself, on a coarse clock. It assumes that runs succeed, that
machines that are off stay off, and that nothing new is published.
"""

from collections.abc import Iterable, Mapping
from dataclasses import replace
from datetime import datetime, timedelta

from inventory.data_class import dataclass
from tasks.domain.model import UpdateKey
from tasks.domain.states import OperationState
from tasks.rules.automatic.deadlines import compute_due
from tasks.rules.automatic.decision import decide, decide_steps
from tasks.rules.automatic.fleet_index import FleetIndex
from tasks.rules.automatic.model import (
    Action,
    ActiveRun,
    AutomaticPolicy,
    ChangeRollout,
    CreateRollout,
    DueUpdate,
    FleetView,
    MachineView,
    Rollout,
    RunPlan,
    StartRun,
    Try,
)
from tasks.rules.automatic.rollout import find_next_creation

_LONGEST_STEP, _SHORTEST_STEP = timedelta(hours=2), timedelta(minutes=30)


@dataclass(frozen=True, slots=True)
class MachineForecast:
    """What is foretold for one machine.

    Attributes:
        update: the selected update whose deadline is missed first, or else the one with the earliest deadline; None:
            nothing is pending that the policy selects.
        patched_at: when all selected updates are installed; None: not in the time that was looked at.
        breaches_at: when it misses its first deadline, or has missed it; None: it keeps all of them, as far as is seen.
        reason: what it waits for, if it is not patched in time or not at all; or "".
    """

    machine: str
    update: DueUpdate | None = None
    due: datetime | None = None
    patched_at: datetime | None = None
    breaches_at: datetime | None = None
    reason: str = ""


def forecast(
    policy: AutomaticPolicy, view: FleetView, now: datetime, days: float = 30.0
) -> tuple[MachineForecast, ...]:
    """Return what is foretold for each machine, in the order of the view."""
    index = FleetIndex(policy, view, now)
    future = _Future(index, now + timedelta(days=days))
    future.run()
    return tuple(_foretell(index, future, machine) for machine in view.machines)


def _foretell(index: FleetIndex, future: "_Future", machine: MachineView) -> MachineForecast:
    updates = index.list_selected(machine)
    if not updates:
        return MachineForecast(machine.name)
    dues = sorted(
        ((compute_due(index.policy, update, index.view.risks), update) for update in updates),
        key=lambda pair: (pair[0], pair[1].key),
    )
    times = [future.installed.get((machine.name, update.key)) for update in updates]
    known_times = [time for time in times if time is not None]
    patched_at = max(known_times) if len(known_times) == len(times) else None
    missed = (
        (due, update) for due, update in dues if due <= (future.installed.get((machine.name, update.key)) or future.end)
    )
    breach = next(missed, None)
    due, update = breach or dues[0]
    reason = ""
    if breach is not None or patched_at is None:
        reason = future.last_reasons.get(machine.name) or future.first_reasons.get(machine.name, "")
    return MachineForecast(machine.name, update, due, patched_at, breach[0] if breach else None, reason)


class _Future:
    """The fleet as it goes on.

    Attributes:
        installed: when each update is installed on its machine.
        first_reasons: what machines wait for now.
        last_reasons: what machines wait for at the end.
    """

    def __init__(self, index: FleetIndex, end: datetime) -> None:
        policy, view = index.policy, index.view
        self.policy, self.now, self.end = replace(policy, enabled=True), index.now, end
        start, end_of_night = (
            timedelta(hours=moment.hour, minutes=moment.minute)
            for moment in (policy.off_peak_start, policy.off_peak_end)
        )
        night = (end_of_night - start) % timedelta(days=1) or timedelta(days=1)
        self.step = max(_SHORTEST_STEP, min(_LONGEST_STEP, night / 4))
        self.idle = {machine.name for machine in view.machines if machine.opted_out or not index.is_seen(machine)}
        self.machines = {machine.name: machine for machine in view.machines} | {
            machine.name: replace(machine, last_seen=end, assessed_at=end, asked_at=None)
            for machine in view.machines
            if index.is_seen(machine)  # a machine that answers now always does
        }
        self.view = replace(view, machines=tuple(self.machines.values()))
        self.runs = [(self._find_end(run), run) for run in view.active_runs]
        self.installed: dict[tuple[str, UpdateKey], datetime] = {}
        self.first_reasons: dict[str, str] = {}
        self.last_reasons: dict[str, str] = {}
        self._count = 0

    def _find_end(self, run: ActiveRun) -> datetime:
        if run.plan is None:
            return self.now + timedelta(minutes=self.policy.window_minutes)
        return max(self.now, run.plan.window_start) + timedelta(minutes=run.plan.window_minutes / 2)

    def run(self) -> None:
        """Go on until the end, or until nothing is left to do."""
        while self.now <= self.end:
            self._end_runs()
            index = FleetIndex(self.policy, self.view, self.now)
            steps = decide_steps(index)
            self.last_reasons = {waiting.machine: waiting.reason for waiting in steps.waiting}
            self.first_reasons = self.first_reasons or self.last_reasons
            rollouts = _apply(self.view.rollouts, steps.rollouts)
            held_updates = self.view.held_updates + (steps.advance.held if steps.advance else ())
            for plan in steps.plans:
                self._count += 1
                run = ActiveRun(f"foretold-{self._count}", plan.machines, plan)
                self.runs.append((self._find_end(run), run))
            runs = tuple(run for _, run in self.runs)
            self.view = replace(self.view, rollouts=rollouts, held_updates=held_updates, active_runs=runs)
            soonest = find_next_creation(index)
            # no rollout is under way or begins, and nobody waits for a time
            is_at_rest = (
                index.rolling is None
                and not steps.rollouts
                and (soonest is None or soonest <= self.now)
                and all(waiting.until is None for waiting in steps.waiting)
            )
            if not self.runs and (is_at_rest or all(waiting.machine in self.idle for waiting in steps.waiting)):
                return
            self.now += self.step

    def _end_runs(self) -> None:
        over = [(end, run) for end, run in self.runs if end <= self.now]
        if not over:
            return
        self.runs = [pair for pair in self.runs if pair not in over]
        tries = self.view.tries
        for end, run in over:
            rollout_id = run.plan.rollout_id if run.plan else None
            rollout = next((rollout for rollout in self.view.rollouts if rollout.id == rollout_id), None)
            if rollout is not None:
                tries += tuple(self._patch(name, run, rollout, end) for name in run.machines if name in self.machines)
        runs = tuple(run for _, run in self.runs)
        self.view = replace(self.view, machines=tuple(self.machines.values()), tries=tries, active_runs=runs)

    def _patch(self, name: str, run: ActiveRun, rollout: Rollout, end: datetime) -> Try:
        machine = self.machines[name]
        keys = tuple(update.key for update in machine.pending if update.key in rollout.updates and not update.held)
        self.installed |= {(name, key): end for key in keys}
        self.machines[name] = replace(machine, pending=tuple(u for u in machine.pending if u.key not in keys))
        location = run.plan.location if run.plan is not None else None
        return Try(rollout.id, run.run_id, name, OperationState.SUCCEEDED, end, installed=keys, location=location)


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
            rollouts = _apply(rollouts, decision.actions)
            decision = decide(policy, replace(moved, rollouts=rollouts), moment)
        rollouts = _apply(rollouts, decision.actions)
        plans |= {action.plan.key: action.plan for action in decision.actions if isinstance(action, StartRun)}
    return tuple(sorted(plans.values(), key=lambda plan: (plan.window_start, plan.key)))


def _apply(rollouts: tuple[Rollout, ...], actions: Iterable[Action]) -> tuple[Rollout, ...]:
    """Return the rollouts after these actions."""
    changes = (action for action in actions if isinstance(action, CreateRollout | ChangeRollout))
    changed = {action.rollout.id: action.rollout for action in changes}
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
