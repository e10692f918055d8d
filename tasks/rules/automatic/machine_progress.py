"""Says how far a machine is in a rollout. Pure."""

from datetime import datetime, timedelta
from enum import StrEnum

from tasks.domain.states import OperationState
from tasks.rules.automatic.fleet_index import FleetIndex, find_last_answer, has_run
from tasks.rules.automatic.model import MachineView, Phase, Rollout

PATIENCE = timedelta(days=7)
"""So long a phase waits for machines that can't be patched: their set is unhealthy, or another run has them."""

MAX_TURNS_WITHOUT_BEGIN = 7
"""A phase no longer waits for a machine that had so many turns and never began."""

CANARY_PATIENCE = timedelta(days=3)
"""So long a phase in which nothing was installed waits for machines that were not seen."""

SUCCESSFUL_STATES = frozenset({OperationState.SUCCEEDED, OperationState.COMPLETED_WITH_WARNINGS})


class Progress(StrEnum):
    """How far a machine is in a rollout."""

    NOT_CONCERNED = "not concerned"  # it has no update of the rollout
    READY = "ready"  # it has updates to install and tries left
    RUNNING = "running"
    DONE = "done"
    FAILED = "failed"  # nothing is left to install, or no try, and the last run failed
    AWAY = "away"  # not seen lately
    OPTED_OUT = "opted out"
    BLOCKED = "blocked"  # its set is unhealthy, another run has it, or it never began


def find_progress(index: FleetIndex, rollout: Rollout, machine: MachineView) -> Progress:
    """Return how far a machine is in a rollout."""
    run = index.run_of.get(machine.name)
    tries = index.list_tries(rollout, machine.name)
    remaining = index.find_remaining(rollout, machine)
    if run is not None and run.plan is not None and run.plan.rollout_id == rollout.id:
        return Progress.RUNNING
    if not remaining and not any(phase_try.began for phase_try in tries):
        return Progress.NOT_CONCERNED
    if not remaining or index.is_out_of_tries(rollout, machine.name):
        last = next(phase_try for phase_try in reversed(tries) if phase_try.began)
        return Progress.DONE if not remaining and last.state in SUCCESSFUL_STATES else Progress.FAILED
    if machine.opted_out:
        return Progress.OPTED_OUT
    if not index.is_seen(machine) and not machine.can_wake:
        return Progress.AWAY
    never_began = len(tries) - index.count_used_tries(rollout, machine.name) >= MAX_TURNS_WITHOUT_BEGIN
    is_blocked = never_began or run is not None or index.find_unhealthy_set(machine)
    return Progress.BLOCKED if is_blocked else Progress.READY


def list_progress(index: FleetIndex, rollout: Rollout, phase: Phase) -> list[tuple[MachineView, Progress]]:
    """Return how far the machines of a phase are, those that have no update of the rollout left out.

    A machine that was moved, or has left the inventory, belongs to each phase in which it was tried. What became of it
    there still counts: otherwise a canary location that is renamed would take its failures with it.
    """
    machines = (machine for location in phase.locations for machine in index.by_location.get(location, ()))
    progress_pairs = [(machine, _find_progress_here(index, rollout, phase, machine)) for machine in machines]
    leavers = index.list_leavers(rollout, phase)
    progress_pairs += [(machine, _judge_tries(index, rollout, phase, machine)) for machine in leavers]
    return [(machine, progress) for machine, progress in progress_pairs if progress is not Progress.NOT_CONCERNED]


def _find_progress_here(index: FleetIndex, rollout: Rollout, phase: Phase, machine: MachineView) -> Progress:
    """Return how far a machine is in the phase of its location. It may have been tried in another location before."""
    progress = find_progress(index, rollout, machine)
    if progress not in {Progress.RUNNING, Progress.DONE, Progress.FAILED}:
        return progress
    places = {phase_try.location for phase_try in index.list_tries(rollout, machine.name) if phase_try.began}
    run = index.run_of.get(machine.name)
    if progress is Progress.RUNNING and run is not None and run.plan is not None:
        places.add(run.plan.location)
    is_moved = any(phase_try is not None and phase_try not in phase.locations for phase_try in places)
    return _judge_tries(index, rollout, phase, machine) if is_moved else progress


def _judge_tries(index: FleetIndex, rollout: Rollout, phase: Phase, machine: MachineView) -> Progress:
    """Return how far a machine came in a phase, by its runs in that phase alone."""
    run = index.run_of.get(machine.name)
    plan = run.plan if run is not None else None
    if plan is not None and plan.rollout_id == rollout.id and plan.location in phase.locations:
        return Progress.RUNNING
    began = [phase_try for phase_try in index.list_phase_tries(rollout, phase, machine.name) if phase_try.began]
    if not began:
        return Progress.NOT_CONCERNED
    return Progress.DONE if began[-1].state in SUCCESSFUL_STATES else Progress.FAILED


def is_gone_for_long(index: FleetIndex, machine: MachineView) -> bool:
    """Return whether a machine was not seen for longer than a phase waits for its first success."""
    seen = find_last_answer(machine)
    return seen is None or index.now - seen > CANARY_PATIENCE


def find_open_since(index: FleetIndex, rollout: Rollout, phase: Phase) -> datetime:
    """Return since when a phase may run. It is open: the phases before it have ended, and their soak time."""
    if phase.number == 1:
        return rollout.created_at
    before = rollout.phases[phase.number - 2]
    return find_soak_end(index, before) or index.now


def find_soak_end(index: FleetIndex, phase: Phase) -> datetime | None:
    """Return when the soak time of a phase ends; None: the phase has not ended. Where nothing ran, nothing soaks."""
    if phase.ended_at is None:
        return None
    return phase.ended_at + timedelta(hours=index.policy.soak_hours) if has_run(phase) else phase.ended_at
