"""Rollouts of another controller that shares the records: they are left alone.

Its machines are not in this inventory, so all its phases would look as if nobody were left to wait for: this controller
would complete the rollout at once, and the other one would then patch all its locations in one night.
"""

from dataclasses import replace

from tasks.records.automatic.automatic_runs import SqlAutomaticRuns
from tasks.records.storage.database import Database
from tasks.rules.automatic.model import (
    AssessMachines,
    AutomaticDecision,
    FleetView,
    Rollout,
    RolloutState,
    Tell,
    Waiting,
)


def find_foreign_rollout(database: Database, view: FleetView) -> Rollout | None:
    """Return the rollout that is under way if this fleet has none of the machines in its runs.

    Locations may be renamed. They count only while no run has begun: then it is foreign if the fleet has none of them.

    Raises:
        RecordsError: the records can't be read.
    """
    rolling = next((rollout for rollout in view.rollouts if rollout.state is RolloutState.ROLLING_FORWARD), None)
    if rolling is None:
        return None
    locations = {location for phase in rolling.phases for location in phase.locations}
    runs = SqlAutomaticRuns(database).read_of_rollouts([rolling.id])
    patched = {name for run in runs for name in run.run.machines}
    has_place = any(machine.location in locations for machine in view.machines)
    has_machine = any(machine.name in patched for machine in view.machines)
    return None if (has_machine if patched else has_place) else rolling


def leave_alone(decision: AutomaticDecision, view: FleetView, rollout: Rollout) -> AutomaticDecision:
    """Return the decision without anything that concerns rollouts; people are told once. Pure."""
    reason = f"{rollout.id} is under way, and its machines are not in this inventory"
    message = (
        f"{reason}: does another controller patch its own machines in the records of this fleet? Give it one of its "
        f"own: fleetpatch deploy --fleet NAME. Nothing is patched here until the rollout is over. If its machines are "
        f"gone for good: fleetpatch automatic cancel {rollout.id}"
    )
    tell = Tell(f"foreign/{rollout.id}", message)
    actions = tuple(action for action in decision.actions if isinstance(action, AssessMachines))
    news = () if tell.key in view.announced else (tell,)
    waiting = tuple(Waiting(machine.name, reason) for machine in view.machines if machine.pending)
    return replace(decision, actions=(*actions, *news), waiting=waiting)
