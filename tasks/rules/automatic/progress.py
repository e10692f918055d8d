"""How far a rollout is: each phase, and each of its machines. Pure; for the command, the report and artifacts."""

from collections.abc import Collection, Mapping, Sequence
from datetime import datetime, timedelta
from enum import StrEnum

from inventory.data_class import dataclass
from tasks.rules.automatic.fleet_index import SUCCESSFUL_STATES, FleetIndex
from tasks.rules.automatic.model import (
    AutomaticPolicy,
    FleetView,
    MachineStanding,
    MachineView,
    Phase,
    Rollout,
    RolloutState,
    RunPlan,
    Try,
)


class MachineStage(StrEnum):
    """Where a machine is in a rollout."""

    DONE = "done"
    RUNNING = "running"
    FAILED = "failed"  # its last try failed; it may be tried again
    WAITING = "waiting"
    LEFT_OUT = "left out"  # opted out, or not seen: its phase does not wait for it


_STAGES: Mapping[MachineStanding, MachineStage] = {
    MachineStanding.READY: MachineStage.WAITING,
    MachineStanding.RUNNING: MachineStage.RUNNING,
    MachineStanding.DONE: MachineStage.DONE,
    MachineStanding.FAILED: MachineStage.FAILED,
    MachineStanding.AWAY: MachineStage.LEFT_OUT,
    MachineStanding.OPTED_OUT: MachineStage.LEFT_OUT,
    MachineStanding.BLOCKED: MachineStage.WAITING,
}


class PhaseStage(StrEnum):
    """Where a phase is in its rollout."""

    DONE = "done"
    RUNNING = "running"
    SOAKING = "soaking"
    WAITING = "waiting"
    STOPPED = "stopped"


@dataclass(frozen=True, slots=True)
class RolloutMachine:
    """A machine that a rollout concerns."""

    machine: str
    location: str
    stage: MachineStage
    tries: int = 0  # windows in which something was begun on it
    reason: str = ""


@dataclass(frozen=True, slots=True)
class PhaseProgress:
    """A phase and its machines."""

    phase: Phase
    stage: PhaseStage
    machines: tuple[RolloutMachine, ...] = ()
    soaks_until: datetime | None = None  # the earliest begin of the next phase; None: unknown, or not yet known

    def count(self, stage: MachineStage) -> int:
        """Return how many of its machines are there."""
        return sum(machine.stage is stage for machine in self.machines)


@dataclass(frozen=True, slots=True)
class RolloutProgress:
    """A rollout and its phases."""

    rollout: Rollout
    phases: tuple[PhaseProgress, ...]

    @property
    def done_percent(self) -> float:
        """The share of its machines that are done."""
        stages = [machine.stage for phase in self.phases for machine in phase.machines]
        concerned = len(stages) - stages.count(MachineStage.LEFT_OUT)
        return 100.0 * stages.count(MachineStage.DONE) / concerned if concerned else 0.0


def find_shown_rollout(view: FleetView) -> Rollout | None:
    """Return the rollout that people want to see: the one that is under way, or else the last one."""
    rolling = (rollout for rollout in view.rollouts if rollout.state is RolloutState.ROLLING_FORWARD)
    return next(rolling, view.rollouts[-1] if view.rollouts else None)


def measure_shown_rollout(policy: AutomaticPolicy, view: FleetView, now: datetime) -> RolloutProgress | None:
    """Return the progress of the rollout that is shown; None without one."""
    rollout = find_shown_rollout(view)
    return None if rollout is None else measure_rollout(policy, view, rollout, now)


def measure_rollout(policy: AutomaticPolicy, view: FleetView, rollout: Rollout, now: datetime) -> RolloutProgress:
    """Return how far a rollout is, from what is known of the fleet."""
    index = FleetIndex(policy, view, now)
    machines = [
        _build_machine(
            machine.name,
            _find_place(index, rollout, phase, machine),
            _STAGES[standing],
            index.list_tries(rollout, machine.name),
            is_open=_STAGES[standing] is MachineStage.WAITING,  # one that is tried again counts as failed until then
        )
        for phase in rollout.phases
        for machine, standing in index.list_standings(rollout, phase)
    ]
    return build_progress(rollout, machines, now, policy.soak_hours)


def _find_place(index: FleetIndex, rollout: Rollout, phase: Phase, machine: MachineView) -> str:
    """Return the location in which a machine belongs to a phase. It may have been moved since it was tried there."""
    tries = index.list_phase_tries(rollout, phase, machine.name)
    was = next(
        (phase_try.location for phase_try in reversed(tries) if phase_try.location is not None), phase.locations[0]
    )
    return machine.location if machine.location in phase.locations else was


def measure_recorded_rollout(
    rollout: Rollout, tries: Sequence[Try], plans: Mapping[str, RunPlan], running: Collection[str], now: datetime
) -> RolloutProgress:
    """Return how far a rollout is, from the records of its runs alone. Machines without a run yet are not in it.

    ``plans`` has the newest run of each machine that was in one, ``running`` the machines whose run is not over.
    """
    by_machine: dict[str, list[Try]] = {}
    for phase_try in sorted(tries, key=lambda one: one.ended_at):
        by_machine.setdefault(phase_try.machine, []).append(phase_try)
    machines = []
    for name, plan in plans.items():
        tries_of_machine, is_running = by_machine.get(name, ()), name in running
        has_begun = any(phase_try.began for phase_try in tries_of_machine)
        stage = MachineStage.DONE if has_begun else MachineStage.WAITING
        stage = MachineStage.RUNNING if is_running else stage
        machines.append(_build_machine(name, plan.location, stage, tries_of_machine, is_open=not is_running))
    return build_progress(rollout, machines, now, None)


def _build_machine(
    name: str, location: str, stage: MachineStage, tries: Sequence[Try], *, is_open: bool
) -> RolloutMachine:
    """Return a machine with what its tries say. Unless its stage is certain, it has failed if its last try has."""
    began = [phase_try for phase_try in tries if phase_try.began]
    if is_open and began and began[-1].state not in SUCCESSFUL_STATES:
        stage = MachineStage.FAILED
    return RolloutMachine(name, location, stage, len(began), began[-1].reason if began else "")


def build_progress(
    rollout: Rollout, machines: Sequence[RolloutMachine], now: datetime, soak_hours: float | None
) -> RolloutProgress:
    """Return the phases of a rollout with their machines.

    Machines are in it as far as they are known. ``soak_hours`` of the policy may be unknown (None).
    """
    phases = []
    for number, phase in enumerate(rollout.phases):
        after = rollout.phases[number + 1] if number + 1 < len(rollout.phases) else None
        ends = None
        if phase.ended_at is not None and soak_hours is not None and after is not None:
            ends = phase.ended_at + timedelta(hours=soak_hours)
        stage = _find_stage(rollout, phase, after, ends, now)
        inside = tuple(machine for machine in machines if machine.location in phase.locations)
        phases.append(PhaseProgress(phase, stage, inside, ends if stage is PhaseStage.SOAKING else None))
    return RolloutProgress(rollout, tuple(phases))


def _find_stage(
    rollout: Rollout, phase: Phase, after: Phase | None, soaks_until: datetime | None, now: datetime
) -> PhaseStage:
    if phase.ended_at is not None:
        is_followed = after is None or after.started_at is not None
        is_over = is_followed or rollout.state is not RolloutState.ROLLING_FORWARD
        return PhaseStage.DONE if is_over or (soaks_until is not None and soaks_until <= now) else PhaseStage.SOAKING
    if rollout.state is not RolloutState.ROLLING_FORWARD:
        return PhaseStage.STOPPED
    return PhaseStage.RUNNING if phase.started_at is not None else PhaseStage.WAITING
