"""What automatic patching does now: its machines, its nights, and its rollout with the phases."""

from dataclasses import dataclass

from deployments.preview.automatic_status import describe_off_peak
from fleetpatch.machines.snapshot import FleetSnapshot
from tasks.records.automatic.rollouts import SqlRollouts
from tasks.records.storage.database import Database
from tasks.rules.automatic.model import Phase, Rollout


@dataclass(frozen=True, slots=True)
class AutomaticStatus:
    """Automatic patching of the fleet.

    Attributes:
        machines: how many machines it patches; None if that is not known.
        off_peak: when.
        rollout: the newest one; None if there was none yet.
    """

    machines: int | None
    off_peak: str
    rollout: Rollout | None

    @property
    def phase(self) -> Phase | None:
        """The phase that has begun last; None if none has begun."""
        phases = self.rollout.phases if self.rollout is not None else ()
        return next((each for each in reversed(phases) if each.started_at is not None), None)


def describe_automatic(snapshot: FleetSnapshot, database: Database) -> AutomaticStatus | None:
    """Return what automatic patching does; None if it is not on.

    Raises:
        RecordsError: the records can't be read.
    """
    automatic = snapshot.configurations.automatic if snapshot.configurations is not None else None
    if automatic is None or not automatic.enabled:
        return None
    return AutomaticStatus(
        machines=snapshot.managed,
        off_peak=describe_off_peak(automatic),
        rollout=SqlRollouts(database).find_newest(),
    )
