"""Says whether the canary locations have shown that a rollout does no harm. Pure."""

from inventory.name_lists import format_count
from tasks.rules.automatic.fleet_index import FleetIndex
from tasks.rules.automatic.machine_progress import PATIENCE, Progress, find_open_since, list_progress
from tasks.rules.automatic.model import AutomaticPolicy, Phase, Rollout


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
    return all(progress is not Progress.DONE for _, progress in people)


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
    places = ", ".join(each or "no location" for each in phase.locations)
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
