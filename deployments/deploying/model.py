"""What there is in Prefect, or should be: deployments with their schedules, a work pool, automations.

What is wanted (wanted.py) and what was found (found.py) are told in the same words, so that comparing them is a pure
function (changes.py).
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from enum import StrEnum

from tasks.rules.calendar.spoken import Spoken, SpokenKind

EPOCH = datetime(2026, 1, 1, tzinfo=UTC)
"""What intervals count from: any moment will do, as long as it is always the same."""


@dataclass(frozen=True, slots=True)
class ScheduleLine:
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
    def dates(self) -> bool:
        """Whether it is a list of dates, which comes to an end."""
        return "RDATE" in self.rule

    @property
    def spoken(self) -> Spoken:
        """As Prefect is told of it."""
        every = timedelta(seconds=self.every) if self.every is not None else None
        kind = SpokenKind.RRULE if every is None else SpokenKind.INTERVAL
        return Spoken(kind, self.rule, self.zone, None, every, self.anchor)


COMMAND = "{{ command }}"
"""How a pool's template says that processes are started as Prefect does by itself."""
PLAIN_START: Mapping[str, object] = {
    "enforce_parameter_schema": True,
    "infrastructure_document_id": None,
    "job_variables": {},
    "path": None,
    "pull_steps": [],
    "storage_document_id": None,
}
"""How a worker starts our runs: our module in its own interpreter, with nothing fetched, added or replaced."""
ONE_AFTER_ANOTHER: Mapping[str, object] = {
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
    schedules: tuple[ScheduleLine, ...] = ()
    at_once: int | None = None  # runs at a time; one more is cancelled, since it would start outside its window
    paused: bool = False
    pool: str = ""  # work pool; "" when a process serves it
    queue: str = ""  # within the pool; "": the one that a pool has by itself
    start: Mapping[str, object] = field(default_factory=lambda: PLAIN_START)
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
class Pool:
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
class Waiting:
    """A flow run of a deployment, made and not begun.

    Attributes:
        id: Prefect's.
        name: Prefect's.
        deployment: full name.
        state: Prefect's name for it: Scheduled, Late, Pending, AwaitingConcurrencySlot.
        due: when it was to start.
        parameters: that it was made with.
        scheduled: whether a schedule made it; otherwise a person or a program did.
    """

    id: str
    name: str
    deployment: str
    state: str
    due: datetime
    parameters: Mapping[str, object]
    scheduled: bool

    @property
    def title(self) -> str:
        """Tells it from all others, for people."""
        return f"{self.deployment} of {self.due:%Y-%m-%d %H:%M} UTC, {self.name} ({self.state})"


@dataclass(frozen=True, slots=True)
class Setup:
    """All of it.

    Attributes:
        ids: Prefect's, of what was found: by kind and name.
        waiting: flow runs of what was found.
        copies: Prefect's ids of automations that are there more than once, by name.
        former: full names under which earlier releases had deployments that are wanted: they go, whatever is kept.
    """

    deployments: tuple[Deployment, ...] = ()
    automations: tuple[Automation, ...] = ()
    pools: tuple[Pool, ...] = ()
    ids: Mapping[str, str] = field(default_factory=dict, compare=False)
    waiting: tuple[Waiting, ...] = field(default=(), compare=False)
    copies: Mapping[str, tuple[str, ...]] = field(default_factory=dict, compare=False)
    former: frozenset[str] = field(default=frozenset(), compare=False)


class Doing(StrEnum):
    """What becomes of one thing."""

    CREATE = "create"
    UPDATE = "update"
    REMOVE = "remove"
    CANCEL = "cancel"
    KEEP = "keep"


@dataclass(frozen=True, slots=True)
class Change:
    """What is to be done with one thing, and what is different about it.

    Attributes:
        kind: "deployment", "automation", "work pool" or "flow run".
        differences: in words, one a difference; empty when it is created, kept or removed.
    """

    doing: Doing
    kind: str
    name: str
    differences: tuple[str, ...] = ()
