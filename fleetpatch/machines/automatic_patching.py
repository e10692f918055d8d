"""What automatic patching does now: its machines, its nights, its rollout, what it holds, and who is paused."""

from collections.abc import Mapping
from dataclasses import field
from datetime import datetime

from deployments.preview.automatic_status import describe_off_peak
from fleetpatch.machines.snapshot import FleetSnapshot
from flows.engine.pinned_updates import find_machines_opted_out
from inventory.data_class import dataclass
from tasks.records.automatic.held_updates import SqlHeldUpdates
from tasks.records.automatic.opt_outs import SqlOptOuts
from tasks.records.automatic.rollouts import SqlRollouts
from tasks.records.storage.database import Database
from tasks.rules.automatic.model import Phase, Rollout


@dataclass(frozen=True, slots=True)
class AutomaticSummary:
    """Automatic patching of the fleet."""

    machines: int | None  # how many machines it patches; None if that is not known
    off_peak: str  # when
    rollout: Rollout | None  # the newest one; None if there was none yet

    @property
    def phase(self) -> Phase | None:
        """The phase that has begun last; None if none has begun."""
        phases = self.rollout.phases if self.rollout is not None else ()
        return next((phase for phase in reversed(phases) if phase.started_at is not None), None)


def read_automatic_summary(snapshot: FleetSnapshot, database: Database) -> AutomaticSummary | None:
    """Return what automatic patching does; None if it is not on. Raise RecordsError if the records can't be read."""
    automatic = snapshot.configurations.automatic if snapshot.configurations is not None else None
    if automatic is None or not automatic.enabled:
        return None
    return AutomaticSummary(
        machines=snapshot.managed, off_peak=describe_off_peak(automatic), rollout=SqlRollouts(database).find_newest()
    )


@dataclass(frozen=True, slots=True)
class AutomaticState:
    """What decides on the updates of machines that automatic patching patches."""

    rollout: Rollout | None = None  # the newest one; None if there was none yet
    # Why updates are in no new rollout, by name and version.
    held: Mapping[tuple[str, str], str] = field(default_factory=dict)
    paused: Mapping[str, str] = field(default_factory=dict)  # by whom machines are paused, until when and why, by name


def read_automatic_state(database: Database, fleet: FleetSnapshot, now: datetime) -> AutomaticState:
    """Return what automatic patching does now. Where it patches no machine, nothing is read.

    Raises:
        RecordsError: the records can't be read.
    """
    machines = [row.machine for row in fleet.rows.values() if row.is_automatic]
    if not machines:
        return AutomaticState()
    return AutomaticState(
        rollout=SqlRollouts(database).find_newest(),
        held={(held.name, held.version): held.reason for held in SqlHeldUpdates(database).read_held()},
        paused=find_machines_opted_out(machines, SqlOptOuts(database).read_active(now)),
    )
