"""Says how far a machine is in a rollout, and whether the canaries have shown that it does no harm. Pure."""

from datetime import datetime, timedelta
from enum import StrEnum

from inventory.name_lists import format_count
from tasks.domain.states import OperationState
from tasks.rules.automatic.fleet_index import FleetIndex, find_last_answer, has_run
from tasks.rules.automatic.model import AutomaticPolicy, MachineView, Phase, Rollout

PATIENCE = timedelta(days=7)
"""So long a phase waits for machines that can't be patched: their set is unhealthy, or another run has them."""

MAX_TURNS_WITHOUT_BEGIN = 7
"""A phase no longer waits for a machine that had so many turns and never began."""

CANARY_PATIENCE = timedelta(days=3)
"""So long a phase in which nothing was installed waits for machines that were not seen."""

SUCCESSFUL_STATES = frozenset({OperationState.SUCCEEDED, OperationState.COMPLETED_WITH_WARNINGS})


class MachineStanding(StrEnum):
    """How far a machine is in a rollout."""

    NOT_CONCERNED = "not concerned"  # it has no update of the rollout
    READY = "ready"  # it has updates to install and tries left
    RUNNING = "running"
    DONE = "done"
    FAILED = "failed"  # nothing is left to install, or no try, and the last run failed
    AWAY = "away"  # not seen lately
    OPTED_OUT = "opted out"
    BLOCKED = "blocked"  # its set is unhealthy, another run has it, or it never began


def find_progress(index: FleetIndex, rollout: Rollout, machine: MachineView) -> MachineStanding:
    """Return how far a machine is in a rollout."""
    run = index.run_of.get(machine.name)
    tries = index.list_tries(rollout, machine.name)
    remaining = index.find_remaining(rollout, machine)
    if run is not None and run.plan is not None and run.plan.rollout_id == rollout.id:
        return MachineStanding.RUNNING
    if not remaining and not any(phase_try.began for phase_try in tries):
        return MachineStanding.NOT_CONCERNED
    if not remaining or index.is_out_of_tries(rollout, machine.name):
        last = next(phase_try for phase_try in reversed(tries) if phase_try.began)
        return MachineStanding.DONE if not remaining and last.state in SUCCESSFUL_STATES else MachineStanding.FAILED
    if machine.opted_out:
        return MachineStanding.OPTED_OUT
    if not index.is_seen(machine) and not machine.can_wake:
        return MachineStanding.AWAY
    never_began = len(tries) - index.count_used_tries(rollout, machine.name) >= MAX_TURNS_WITHOUT_BEGIN
    is_blocked = never_began or run is not None or index.find_unhealthy_set(machine)
    return MachineStanding.BLOCKED if is_blocked else MachineStanding.READY


def list_progress(index: FleetIndex, rollout: Rollout, phase: Phase) -> list[tuple[MachineView, MachineStanding]]:
    """Return how far the machines of a phase are, those that have no update of the rollout left out.

    A machine that was moved, or has left the inventory, belongs to each phase in which it was tried. What became of it
    there still counts: otherwise a canary location that is renamed would take its failures with it.
    """
    machines = (machine for location in phase.locations for machine in index.by_location.get(location, ()))
    progress_pairs = [(machine, _find_progress_here(index, rollout, phase, machine)) for machine in machines]
    leavers = index.list_leavers(rollout, phase)
    progress_pairs += [(machine, _judge_tries(index, rollout, phase, machine)) for machine in leavers]
    return [
        (machine, progress) for machine, progress in progress_pairs if progress is not MachineStanding.NOT_CONCERNED
    ]


def _find_progress_here(index: FleetIndex, rollout: Rollout, phase: Phase, machine: MachineView) -> MachineStanding:
    """Return how far a machine is in the phase of its location. It may have been tried in another location before."""
    progress = find_progress(index, rollout, machine)
    if progress not in {MachineStanding.RUNNING, MachineStanding.DONE, MachineStanding.FAILED}:
        return progress
    places = {phase_try.location for phase_try in index.list_tries(rollout, machine.name) if phase_try.began}
    run = index.run_of.get(machine.name)
    if progress is MachineStanding.RUNNING and run is not None and run.plan is not None:
        places.add(run.plan.location)
    is_moved = any(phase_try is not None and phase_try not in phase.locations for phase_try in places)
    return _judge_tries(index, rollout, phase, machine) if is_moved else progress


def _judge_tries(index: FleetIndex, rollout: Rollout, phase: Phase, machine: MachineView) -> MachineStanding:
    """Return how far a machine came in a phase, by its runs in that phase alone."""
    run = index.run_of.get(machine.name)
    plan = run.plan if run is not None else None
    if plan is not None and plan.rollout_id == rollout.id and plan.location in phase.locations:
        return MachineStanding.RUNNING
    began = index.list_begun_tries(rollout, phase, machine.name)
    if not began:
        return MachineStanding.NOT_CONCERNED
    return MachineStanding.DONE if began[-1].state in SUCCESSFUL_STATES else MachineStanding.FAILED


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


def count_canary_phases(policy: AutomaticPolicy, rollout: Rollout) -> int:
    """Return how many of the first phases are for canaries: one, or more if canary locations are paired."""
    named = set(policy.canary_locations)
    others = (number for number, phase in enumerate(rollout.phases) if not named.intersection(phase.locations))
    return max(1, next(others, len(rollout.phases)))


def lacks_canary_success(index: FleetIndex, rollout: Rollout, phase: Phase) -> bool:
    """Return whether a phase is the last one for canaries, others come after it, and no canary has succeeded yet."""
    if phase.number != count_canary_phases(index.policy, rollout) or phase.number == len(rollout.phases):
        return False
    people = (
        member for number in range(phase.number) for member in list_progress(index, rollout, rollout.phases[number])
    )
    return all(progress is not MachineStanding.DONE for _, progress in people)


def find_canary_fault(index: FleetIndex, rollout: Rollout, phase: Phase) -> str:
    """Return why a rollout waits for its canaries no longer, or "": they may still be back.

    It does not go on without them, because then nothing would have been tested where people wanted it to be tested.
    """
    since = find_open_since(index, rollout, phase)
    own = (machine for location in phase.locations for machine in index.by_location.get(location, ()))
    may_lack = any(
        index.get_keys(machine) & rollout.updates or index.is_outdated(machine, rollout.updates) for machine in own
    )
    if may_lack and index.now - since <= PATIENCE:
        return ""
    places = ", ".join(location or "no location" for location in phase.locations)
    reason = (
        f"could be patched in {format_count((index.now - since).days, 'day')}"
        if may_lack
        else "lacks the updates any more"
    )
    return (
        f"phase {phase.number} ({places}): none of its machines {reason}, so nothing is tested and the other locations "
        "were not begun; the next rollout chooses its first phase anew. If no machine of the canary locations can be "
        "patched, name others in the policy: phases, canary_locations"
    )
