"""The Prefect objects of a fleet: deployments with their schedules, a work pool, automations.

The desired state (desired_state.py) and the actual state (actual_state.py) have the same types. So a pure function
compares them (diff.py).
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from enum import StrEnum

from tasks.rules.calendar.prefect_schedule import PrefectSchedule, PrefectScheduleKind

INTERVAL_ANCHOR = datetime(2026, 1, 1, tzinfo=UTC)
"""What intervals count from: any moment will do, as long as it is always the same."""


@dataclass(frozen=True, slots=True)
class ScheduleSpec:
    """One schedule of a deployment.

    Attributes:
        slug: names it within its deployment.
        rule: an RRULE or RDATEs with their DTSTART; "" for an interval.
        zone: that the rule is read in.
        active: whether Prefect schedules runs by it.
        every: seconds of an interval; None for a rule.
        anchor: a moment at which the interval comes.
        until: when a list of dates ends and has to be written anew; None when it never does. Never read back.
        parameters: its own; its runs would have them in place of the deployment's.
        most: how many runs Prefect makes ahead by it; None: as many as by others.
    """

    slug: str
    rule: str
    zone: str
    active: bool = True
    every: float | None = None
    anchor: datetime | None = None
    until: datetime | None = field(default=None, compare=False)
    parameters: Mapping[str, object] = field(default_factory=dict)
    most: int | None = None

    @property
    def is_date_list(self) -> bool:
        """Whether it is a list of dates, which comes to an end."""
        return "RDATE" in self.rule

    @property
    def prefect_schedule(self) -> PrefectSchedule:
        """As a schedule of Prefect's."""
        every = timedelta(seconds=self.every) if self.every is not None else None
        kind = PrefectScheduleKind.RRULE if every is None else PrefectScheduleKind.INTERVAL
        return PrefectSchedule(kind, self.rule, self.zone, None, every, self.anchor)


FORMER_ENTRYPOINTS: Mapping[str, str] = {
    "flows.maintenance.prune_records": "flows.upkeep.prune_records",
    "flows.maintenance.report_fleet": "flows.upkeep.report_fleet",
    "flows.maintenance.stage_fleet": "flows.upkeep.stage_fleet",
    "deployments.refresh_schedules.refresh_schedules": "deployments.deploying.refresh.refresh_schedules",
}
"""By entrypoint: the entrypoint that deployments from before 2026-11-22 have. A deployment with it is ours."""
DEFAULT_COMMAND_TEMPLATE = "{{ command }}"
"""How a pool's template says that processes are started as Prefect does by itself."""
DEFAULT_START_OPTIONS: Mapping[str, object] = {
    "enforce_parameter_schema": True,
    "infrastructure_document_id": None,
    "job_variables": {},
    "path": None,
    "pull_steps": [],
    "storage_document_id": None,
}
"""How a worker starts our runs: our module in its own interpreter, with nothing fetched, added or replaced."""
CANCEL_NEW_LIMIT: Mapping[str, object] = {
    "active": True,
    "collision_strategy": "CANCEL_NEW",
    "grace_period_seconds": None,
    "own": True,
    "slot_decay_per_second": 0.0,
}
"""How a deployment's limit works: for it alone; what does not fit is cancelled, and never kept for later."""


@dataclass(frozen=True, slots=True)
class Deployment:
    """A deployment: a flow, with what it is started with and when."""

    flow: str
    name: str
    entrypoint: str  # a module path: it is the same from a checkout and from a wheel
    description: str = ""
    tags: tuple[str, ...] = ()
    parameters: Mapping[str, object] = field(default_factory=dict)
    schema: Mapping[str, object] = field(default_factory=dict)  # of the parameters: the form in the UI
    schedules: tuple[ScheduleSpec, ...] = ()
    at_once: int | None = None  # runs at a time; one more is cancelled, since it would start outside its window
    paused: bool = False
    pool: str = ""  # work pool; "" when a process serves it
    queue: str = ""  # within the pool; "": the one that a pool has by itself
    start: Mapping[str, object] = field(default_factory=lambda: DEFAULT_START_OPTIONS)
    limit: Mapping[str, object] = field(default_factory=dict)  # how at_once is kept

    @property
    def full_name(self) -> str:
        """As Prefect writes it."""
        return f"{self.flow}/{self.name}"


@dataclass(frozen=True, slots=True)
class Automation:
    """An automation: when something happens, or fails to, something is done."""

    name: str
    description: str
    trigger: Mapping[str, object]
    actions: tuple[Mapping[str, object], ...]
    enabled: bool = True
    at_trigger: tuple[Mapping[str, object], ...] = ()
    at_resolve: tuple[Mapping[str, object], ...] = ()


@dataclass(frozen=True, slots=True)
class WorkPool:
    """A work pool whose workers start each run as a process of their own.

    Attributes:
        closed: it has a limit of 0, so that nothing starts. Any other limit is its owner's choice.
        queue_paused: the same of the queue that our runs wait in.
        queue_closed: that queue has a limit of 0.
        command: what its processes are started with in place of Prefect's own command; "": nothing. The rest of its
            template is its owner's: environment, folder, output.
    """

    name: str
    kind: str = "process"
    paused: bool = False
    closed: bool = False
    queue_paused: bool = False
    queue_closed: bool = False
    command: str = ""


@dataclass(frozen=True, slots=True)
class WaitingRun:
    """A flow run of a deployment that has not started.

    Attributes:
        id: Prefect's.
        name: Prefect's.
        deployment: full name.
        state: Prefect's name for it: Scheduled, Late, Pending, AwaitingConcurrencySlot.
        expected_start: when it was to start.
        parameters: that it was made with.
        is_scheduled: whether a schedule made it; otherwise a person or a program did.
    """

    id: str
    name: str
    deployment: str
    state: str
    expected_start: datetime
    parameters: Mapping[str, object]
    is_scheduled: bool

    @property
    def title(self) -> str:
        """Tells it from all others, for people."""
        return f"{self.deployment} of {self.expected_start:%Y-%m-%d %H:%M} UTC, {self.name} ({self.state})"


@dataclass(frozen=True, slots=True)
class DeploymentSet:
    """All Prefect objects of a fleet, desired or actual.

    Attributes:
        prefect_ids: Prefect's, of what was found: by kind and name.
        waiting_runs: flow runs of what was found.
        duplicate_automations: Prefect's ids of automations that are there more than once, by name.
        former_names: full names that earlier releases gave to these deployments. They are removed in any case.
    """

    deployments: tuple[Deployment, ...] = ()
    automations: tuple[Automation, ...] = ()
    pools: tuple[WorkPool, ...] = ()
    prefect_ids: Mapping[str, str] = field(default_factory=dict, compare=False)
    waiting_runs: tuple[WaitingRun, ...] = field(default=(), compare=False)
    duplicate_automations: Mapping[str, tuple[str, ...]] = field(default_factory=dict, compare=False)
    former_names: frozenset[str] = field(default=frozenset(), compare=False)


class ChangeAction(StrEnum):
    """What happens to one Prefect object."""

    CREATE = "create"
    UPDATE = "update"
    REMOVE = "remove"
    CANCEL = "cancel"
    KEEP = "keep"


@dataclass(frozen=True, slots=True)
class Change:
    """One change of a Prefect object, and the differences behind it.

    Attributes:
        kind: "deployment", "automation", "work pool" or "flow run".
        differences: in words, one a difference; empty when it is created, kept or removed.
    """

    action: ChangeAction
    kind: str
    name: str
    differences: tuple[str, ...] = ()
