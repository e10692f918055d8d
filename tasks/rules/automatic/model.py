"""The values of automatic patching: the policy, what is known of the fleet, rollouts, and what a decision says.

A rollout is a frozen set of updates that goes through the fleet in phases. All types are frozen; every datetime is
aware. See decision.py.
"""

from collections.abc import Collection, Mapping
from dataclasses import field, replace
from datetime import date, datetime, time
from enum import StrEnum
from typing import Self

from inventory.data_class import dataclass
from tasks.domain.assessment import UpdateKey
from tasks.domain.states import Classification, OperationState, Severity
from tasks.rules.calendar.freezes import Freeze


@dataclass(frozen=True, slots=True)
class RiskRule:
    """An earlier deadline for updates that fix dangerous vulnerabilities. All conditions that are given must hold."""

    due_days: float  # days from publication or first sight
    known_exploited: bool = False  # CISA's catalogue (KEV) has one of its CVEs
    epss: float | None = None  # lowest probability of exploitation (0 to 1) of one of its CVEs; None: any
    cvss: float | None = None  # lowest base score (0 to 10) of one of its CVEs; None: any


@dataclass(frozen=True, slots=True)
class CveRisk:
    """What offline feeds say of one vulnerability. None: the feed has nothing about it."""

    exploited_since: date | None = None  # the day on which CISA's catalogue (KEV) took it in
    epss: float | None = None  # probability of exploitation in the next 30 days, 0 to 1 (FIRST)
    cvss: float | None = None  # base score, 0 to 10


@dataclass(frozen=True, slots=True)
class AutomaticPolicy:
    """How the fleet is patched automatically."""

    scope: str = "*"  # the machines; only those whose owner is ``managed`` are patched
    enabled: bool = True
    classifications: frozenset[Classification] = frozenset(
        {Classification.CRITICAL, Classification.SECURITY, Classification.SECURITY_ESM}
    )
    exclude: tuple[str, ...] = ()
    off_peak_start: time = time(22)  # by the clock of each machine's own zone. Azure: 22:00 to 06:00.
    off_peak_end: time = time(6)
    window_minutes: float = 235.0  # length of a window inside the off-peak hours. Azure: 235.
    due_days: float = 30.0  # days from the publication of an update, or its first sight, to its deadline. Azure: 30.
    canary_locations: tuple[str, ...] = ()  # the locations of the first phase, empty: the first location by name
    paired_locations: tuple[tuple[str, ...], ...] = ()  # groups of locations of which never two are in the same phase
    success_percent: float = 95.0  # share of a phase's machines with updates of the rollout that must succeed
    soak_hours: float = 24.0  # hours between the end of a phase and the start of the next; health is watched
    max_tries: int = 3  # windows in which a machine is tried in one rollout. Then people are told.
    max_unhealthy_percent: float = 20.0  # a set with more unhealthy members is left alone; a phase with more stops
    max_assessment_age_hours: float = 24.0  # a machine is assessed again when its assessment is older
    # So many machines are in assessments at the same time, those included that wait for a worker.
    max_assessments: int = 600
    new_rollout_hours: float = 24.0  # at the earliest so long after the last rollout was created, a new one is
    risk_rules: tuple[RiskRule, ...] = ()
    waves_percent: float = 20.0  # share of a run's machines that make a wave
    failure_budget_percent: float = 20.0  # see FailureBudget


@dataclass(frozen=True, slots=True)
class DueUpdate:
    """One update that is pending on a machine."""

    name: str
    version: str
    classification: Classification
    # When the machine first lacked a fix of this name: the earliest publication, or else first sight, of the versions
    # that it lacks. A newer version does not postpone the deadline.
    since: datetime
    severity: Severity = Severity.UNSPECIFIED
    cves: tuple[str, ...] = ()
    held: str = ""  # why the machine itself does not install it (held package, blocked), or ""

    @property
    def key(self) -> UpdateKey:
        """Name and version."""
        return (self.name, self.version)


@dataclass(frozen=True, slots=True)
class MachineView:
    """What is known of one machine."""

    name: str
    location: str = ""
    availability_zone: str = ""
    zone: str = "UTC"
    sets: tuple[str, ...] = ()
    opted_out: str = ""  # why it is not patched automatically (who, and the reason), or ""
    last_seen: datetime | None = None
    assessed_at: datetime | None = None  # when it was last assessed with an answer; None: never
    asked_at: datetime | None = None  # when it was last asked for an assessment, with an answer or without one
    is_healthy: bool | None = None
    pending: tuple[DueUpdate, ...] = ()  # all pending updates, those that the policy does not select included
    can_wake: bool = False

    @property
    def last_answer(self) -> datetime | None:
        """When it last answered; None: never."""
        seen, assessed = self.last_seen, self.assessed_at
        if seen is None or assessed is None:
            return seen or assessed
        return max(seen, assessed)


class RolloutState(StrEnum):
    """The state of a rollout. The words are those of Azure's rolling upgrades where it has one."""

    ROLLING_FORWARD = "RollingForward"
    COMPLETED = "Completed"
    FAULTED = "Faulted"  # a phase missed its share of successes, or too many machines became unhealthy
    CANCELLED = "Cancelled"  # by a person


@dataclass(frozen=True, slots=True)
class Phase:
    """One phase of a rollout: locations whose machines get the updates in the same nights."""

    number: int
    locations: tuple[str, ...]
    started_at: datetime | None = None  # when its first run was started; None: it has not begun
    # When all its machines were done; the soak time begins then. A phase in which nothing ran begins and ends at the
    # same instant, and has no soak time.
    ended_at: datetime | None = None

    @property
    def has_run(self) -> bool:
        """Whether anything ran in it. One in which nothing ran begins and ends at the same instant."""
        return self.started_at is not None and (self.ended_at is None or self.started_at < self.ended_at)


@dataclass(frozen=True, slots=True)
class Rollout:
    """A frozen set of updates, and its way through the phases."""

    id: str
    created_at: datetime
    updates: frozenset[UpdateKey]  # only these names and versions are installed, in every phase
    phases: tuple[Phase, ...]
    state: RolloutState = RolloutState.ROLLING_FORWARD
    ended_at: datetime | None = None
    message: str = ""  # why it is Faulted or Cancelled, for people

    def find_phase(self, location: str) -> Phase | None:
        """Return the phase of a location, or None: the location was not there when the rollout was made."""
        return next((phase for phase in self.phases if location in phase.locations), None)

    def replace_phase(self, phase: Phase) -> Self:
        """Return the rollout with another state of one of its phases."""
        phases = tuple(phase if other.number == phase.number else other for other in self.phases)
        return replace(self, phases=phases)

    def mark_started(self, numbers: Collection[int], now: datetime) -> Self:
        """Return the rollout in which phases with these numbers have begun."""
        started = (
            replace(phase, started_at=now) if phase.number in numbers and phase.started_at is None else phase
            for phase in self.phases
        )
        return replace(self, phases=tuple(started))


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


@dataclass(frozen=True, slots=True)
class Try:
    """One machine in one run of a rollout that has ended.

    Attributes:
        failed_updates: updates that failed, with their reasons.
        began: whether anything was begun on the machine; a machine without its turn in the window has not used a try.
        location: of the machine when the run was started. The try counts for the phase of this location, wherever the
            machine is now. None: people started the run, so the present location counts.
    """

    rollout_id: str
    run_id: str
    machine: str
    state: OperationState
    ended_at: datetime
    began: bool = True
    installed: tuple[UpdateKey, ...] = ()
    failed_updates: tuple[tuple[str, str, str], ...] = ()  # name, version, reason
    reason: str = ""
    location: str | None = None


@dataclass(frozen=True, slots=True)
class RunPlan:
    """A run that automatic patching starts: machines of one availability zone of one location in one off-peak window.

    Attributes:
        key: the idempotency key: the same decision never starts a second run.
        window_start: when the run may change machines. It is the next off-peak start, or now inside off-peak hours.
    """

    key: str
    rollout_id: str
    phase: int
    location: str
    availability_zone: str
    zone: str
    machines: tuple[str, ...]
    window_start: datetime
    window_minutes: float


@dataclass(frozen=True, slots=True)
class ActiveRun:
    """A run of automatic patching that was started and has not ended, or any other unfinished run."""

    run_id: str
    machines: tuple[str, ...]
    # None: a run that automatic patching did not start. Its machines are left alone meanwhile.
    plan: RunPlan | None = None


@dataclass(frozen=True, slots=True)
class HeldUpdate:
    """An update that no new rollout contains, because it failed: until a newer version exists, or people release it."""

    name: str
    version: str
    reason: str
    at: datetime
    rollout_id: str = ""


@dataclass(frozen=True, slots=True)
class FleetView:
    """Everything that a decision depends on, besides the policy and the clock."""

    machines: tuple[MachineView, ...]
    rollouts: tuple[Rollout, ...] = ()  # the newest last; at most one is RollingForward
    tries: tuple[Try, ...] = ()  # of the rollout under way, the newest completed one, and all of the last 2 days
    active_runs: tuple[ActiveRun, ...] = ()
    assessing: frozenset[str] = frozenset()  # machines whose assessment waits for a worker or is under way
    held_updates: tuple[HeldUpdate, ...] = ()
    freezes: tuple[Freeze, ...] = ()
    announced: frozenset[str] = frozenset()  # keys of Tell actions that were carried out
    set_sizes: Mapping[str, int] = field(default_factory=dict)  # members, those outside the policy's scope included
    risks: Mapping[str, CveRisk] = field(default_factory=dict)  # by CVE id
    later_records: Mapping[str, datetime] = field(default_factory=dict)  # machines with records of the future: ignored


@dataclass(frozen=True, slots=True)
class CreateRollout:
    """Begin a new rollout."""

    rollout: Rollout


@dataclass(frozen=True, slots=True)
class ChangeRollout:
    """Store the rollout's new state: a phase began or ended, or the rollout is over."""

    rollout: Rollout


@dataclass(frozen=True, slots=True)
class StartRun:
    """Start a patch run."""

    plan: RunPlan


@dataclass(frozen=True, slots=True)
class AssessMachines:
    """Assess these machines now."""

    key: str
    machines: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class HoldUpdate:
    """Leave an update out of later rollouts."""

    update: HeldUpdate


@dataclass(frozen=True, slots=True)
class Tell:
    """Tell people once. ``key`` makes it once."""

    key: str
    message: str


Action = CreateRollout | ChangeRollout | StartRun | AssessMachines | HoldUpdate | Tell


@dataclass(frozen=True, slots=True)
class Waiting:
    """Why a machine with due updates is not patched now, and until when it waits if that is known."""

    machine: str
    reason: str
    until: datetime | None = None


@dataclass(frozen=True, slots=True)
class AutomaticDecision:
    """What automatic patching does now, and who waits for what. Carrying it out twice changes nothing."""

    actions: tuple[Action, ...] = ()
    waiting: tuple[Waiting, ...] = ()
    later_assessments: int = 0  # how many machines are due for an assessment that a later tick starts
