"""Decides which runs start now, and why the other machines wait. Pure."""

from collections import defaultdict
from collections.abc import Collection, Sequence
from datetime import datetime, timedelta
from urllib.parse import quote

from inventory.data_class import dataclass
from tasks.domain.model import Window
from tasks.rules.automatic.advance import Advance
from tasks.rules.automatic.fleet_index import SUCCESSFUL_STATES, FleetIndex
from tasks.rules.automatic.model import MachineStanding, MachineView, Phase, Rollout, RunPlan, Waiting
from tasks.rules.automatic.rollout import can_catch_up
from tasks.rules.calendar.freezes import find_freeze

LEAST_MINUTES = 60.0
"""Nothing starts with less time left in the off-peak hours, unless the window is shorter."""


@dataclass(frozen=True, slots=True)
class Turn:
    """A machine that could be patched now if its availability zone has its turn."""

    machine: MachineView
    rollout: Rollout
    phase: Phase
    off_peak: Window
    due: datetime


def find_starts(index: FleetIndex, advance: Advance | None) -> tuple[tuple[RunPlan, ...], tuple[Waiting, ...]]:
    """Return the runs that start now, the machines with the earliest deadline first, and who waits for what."""
    turns: dict[str, list[Turn]] = defaultdict(list)
    waiting: list[Waiting] = []
    for machine in index.view.machines:
        if index.get_keys(machine) or index.list_selected(machine):
            turn = find_turn(index, advance, machine)
            if isinstance(turn, Turn):
                turns[machine.location].append(turn)
            else:
                waiting.append(turn)
    plans: list[RunPlan] = []
    busy = {run.plan.location for run in index.view.active_runs if run.plan is not None}
    # the location with the earliest deadline first
    for location in sorted(turns, key=lambda name: (min(turn.due for turn in turns[name]), name)):
        zone, reason = _choose_zone(index, advance, location, turns[location])
        reason = _find_busy_pair(index, location, busy) or reason
        zone_reason = reason or f"availability zone {zone or '(none)'} of its location is first"
        groups: dict[tuple[str, str], list[Turn]] = defaultdict(list)
        for turn in turns[location]:
            if reason or turn.machine.availability_zone != zone:
                waiting.append(Waiting(turn.machine.name, zone_reason))
            else:
                groups[turn.rollout.id, turn.machine.zone].append(turn)
        plans += [_build_plan(index, groups[key]) for key in sorted(groups)]
        busy |= {location} if groups else set()
    return tuple(plans), tuple(sorted(waiting, key=lambda wait: wait.machine))


def _find_busy_pair(index: FleetIndex, location: str, busy: Collection[str]) -> str:
    """Return why a location waits for one that it is paired with, or "".

    Their phases differ, but machines that were off catch up later than their phase.
    """
    paired = (set(group) - {location} for group in index.policy.paired_locations if location in group)
    busy_partners = sorted(name for group in paired for name in group if name in busy)
    return f"the paired location {busy_partners[0]} is being patched" if busy_partners else ""


def find_turn(index: FleetIndex, advance: Advance | None, machine: MachineView) -> Turn | Waiting:
    """Return that a machine could be patched now, or why it waits."""
    offered = _find_obstacle(index, machine) or _find_offer(index, advance, machine)
    if isinstance(offered, Waiting):
        return offered
    rollout, phase = offered
    if not index.is_seen(machine) and not machine.can_wake:
        return Waiting(machine.name, "it does not answer; it is asked every hour")
    if sick_set := index.find_unhealthy_set(machine):
        return Waiting(machine.name, sick_set)
    off_peak = _find_window(index, machine)
    if isinstance(off_peak, Waiting):
        return off_peak
    due = index.find_due(machine, index.find_remaining(rollout, machine))
    return Turn(machine, rollout, phase, off_peak, due or index.now)


def _find_obstacle(index: FleetIndex, machine: MachineView) -> Waiting | None:
    if machine.name in index.run_of:
        return Waiting(machine.name, f"run {index.run_of[machine.name].run_id} has it")
    if machine.opted_out:
        return Waiting(machine.name, f"it is not patched automatically: {machine.opted_out}")
    return None


def _find_offer(index: FleetIndex, advance: Advance | None, machine: MachineView) -> tuple[Rollout, Phase] | Waiting:
    """Return the rollout whose updates a machine gets next, and its phase there, or why there is none now."""
    reason = "the next rollout has its updates"
    if advance is not None:
        phase = advance.rollout.find_phase(machine.location)
        if phase is not None and index.find_remaining(advance.rollout, machine):
            if index.is_out_of_tries(advance.rollout, machine.name):
                return Waiting(machine.name, f"it was tried {index.policy.max_tries} times in {advance.rollout.id}")
            if phase.number <= advance.open_phases:
                offer = (advance.rollout, phase)
                return (
                    Waiting(machine.name, f"{advance.rollout.id} pauses: {advance.pause}") if advance.pause else offer
                )
            stands = "waits" if phase.has_run else "has not begun"
            reason = f"phase {phase.number} of {advance.rollout.id} {stands}; phase {advance.open_phases} is under way"
    if index.completed is not None and can_catch_up(index, machine):
        phase = index.completed.find_phase(machine.location)
        if phase is not None:
            return index.completed, phase
    keys = index.get_keys(machine)
    if not keys:
        reason = f"the machine does not install its updates: {index.list_selected(machine)[0].held}"
    elif keys <= index.held:
        reason = "its updates are held, because they failed elsewhere"
    return Waiting(machine.name, reason)


def _find_window(index: FleetIndex, machine: MachineView) -> Window | Waiting:
    """Return the off-peak hours in which a machine can be patched now, or why it can't."""
    off_peak = index.find_off_peak(machine.zone)
    following = index.find_next_off_peak(machine.zone).start
    if off_peak is None:
        return Waiting(machine.name, "its off-peak hours have not begun", following)
    if any(phase_try.ended_at >= off_peak.start for phase_try in index.tries_of.get(machine.name, ())):
        return Waiting(machine.name, "it had its turn in these off-peak hours", following)
    remaining_minutes = (off_peak.end - index.now).total_seconds() / 60
    minutes = (off_peak.end - off_peak.start).total_seconds() / 60
    if remaining_minutes < min(LEAST_MINUTES, index.policy.window_minutes, minutes / 2):
        return Waiting(machine.name, "too little is left of its off-peak hours", following)
    freeze = find_freeze(_cut_window(index, off_peak), index.view.freezes)
    if freeze is not None:
        return Waiting(machine.name, f"nothing may be changed: {freeze.reason or 'a freeze'}", freeze.end)
    return off_peak


def _cut_window(index: FleetIndex, off_peak: Window) -> Window:
    end = min(off_peak.end, index.now + timedelta(minutes=index.policy.window_minutes))
    return Window(index.now, end, off_peak.zone)


def _choose_zone(index: FleetIndex, advance: Advance | None, location: str, turns: Sequence[Turn]) -> tuple[str, str]:
    """Return the availability zone of a location that has its turn, or why none has."""
    running = {
        run.plan.availability_zone
        for run in index.view.active_runs
        if run.plan is not None and run.plan.location == location
    }
    zones = {turn.machine.availability_zone for turn in turns}
    if running:
        zones = zones & running if len(running) == 1 else set()
        if not zones:
            return "", f"availability zone {min(running) or '(none)'} of its location is being patched"
    begun, reason = _find_begun_zones(index, advance, location)
    allowed = zones if not reason else zones & begun
    if not allowed:
        return "", reason
    earliest = {zone: min(turn.due for turn in turns if turn.machine.availability_zone == zone) for zone in allowed}
    return min(allowed, key=lambda zone: (zone not in begun, earliest[zone], zone)), ""


def _find_begun_zones(index: FleetIndex, advance: Advance | None, location: str) -> tuple[set[str], str]:
    """Return the zones that the rollout has reached, and why no other zone may begin, or ""."""
    if advance is None:
        return set(), ""
    begun: set[str] = set()
    untried: dict[str, int] = defaultdict(int)
    results: dict[str, list[bool]] = defaultdict(list)
    open_still: set[str] = set()
    for machine in index.by_location[location]:
        zone, tries = machine.availability_zone, index.list_tries(advance.rollout, machine.name)
        standing = index.find_standing(advance.rollout, machine)
        if standing is MachineStanding.READY:
            open_still.add(zone)
            untried[zone] += not tries
        if tries:
            begun.add(zone)
            began = [phase_try for phase_try in tries if phase_try.began]
            is_good = bool(began) and began[-1].state in SUCCESSFUL_STATES and machine.is_healthy is not False
            results[zone] += [is_good] if began else []
    for zone in sorted(begun):
        if untried[zone]:
            return begun, f"availability zone {zone or '(none)'} of its location is not through"
        bad = results[zone].count(False)
        if zone in open_still and bad * 100 > index.policy.failure_budget_percent * len(results[zone]):
            return begun, f"availability zone {zone or '(none)'}: {bad} failed; what failed is tried again first"
    return begun, ""


def _build_plan(index: FleetIndex, turns: Sequence[Turn]) -> RunPlan:
    first = turns[0]
    machine, window = first.machine, _cut_window(index, first.off_peak)
    parts = (machine.location, machine.availability_zone, machine.zone)
    attempt = 1 + _count_runs(index, first)
    key = "/".join(
        (
            first.rollout.id,
            str(first.phase.number),
            *(quote(part, safe="") or "-" for part in parts),
            f"{first.off_peak.start:%Y%m%dT%H%MZ}",
            str(attempt),
        )
    )
    return RunPlan(
        key=key,
        rollout_id=first.rollout.id,
        phase=first.phase.number,
        location=machine.location,
        availability_zone=machine.availability_zone,
        zone=machine.zone,
        machines=tuple(turn.machine.name for turn in sorted(turns, key=lambda turn: (turn.due, turn.machine.name))),
        window_start=index.now,
        window_minutes=(window.end - window.start).total_seconds() / 60,
    )


def _count_runs(index: FleetIndex, turn: Turn) -> int:
    """Return how many runs of this rollout and these machines are known in these off-peak hours."""
    zone_key = (turn.machine.location, turn.machine.availability_zone, turn.machine.zone)
    ended = {
        phase_try.run_id
        for phase_try in index.view.tries
        if phase_try.rollout_id == turn.rollout.id
        and phase_try.ended_at >= turn.off_peak.start
        and (machine := index.machines.get(phase_try.machine)) is not None
        and (machine.location, machine.availability_zone, machine.zone) == zone_key
    }
    unfinished = {
        run.run_id
        for run in index.view.active_runs
        if (plan := run.plan) is not None
        and plan.rollout_id == turn.rollout.id
        and (plan.location, plan.availability_zone, plan.zone) == zone_key
        and plan.window_start >= turn.off_peak.start
    }
    return len(ended | unfinished)
