"""What there is in Prefect, or should be: deployments with their schedules, a work pool, automations.

What is wanted (wanted.py) and what was found (found.py) are told in the same words, so that comparing them is a pure
function (changes.py).
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from enum import StrEnum

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
    """

    slug: str
    rule: str
    zone: str
    active: bool = True
    every: float | None = None
    anchor: datetime | None = None
    until: datetime | None = field(default=None, compare=False)

    @property
    def dates(self) -> bool:
        """Whether it is a list of dates, which comes to an end."""
        return "RDATE" in self.rule


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


@dataclass(frozen=True, slots=True)
class Pool:
    """A work pool whose workers start each run as a process of their own."""

    name: str
    kind: str = "process"


@dataclass(frozen=True, slots=True)
class Setup:
    """All of it. ``ids`` are Prefect's, of what was found: by kind and name."""

    deployments: tuple[Deployment, ...] = ()
    automations: tuple[Automation, ...] = ()
    pools: tuple[Pool, ...] = ()
    ids: Mapping[str, str] = field(default_factory=dict, compare=False)


class Doing(StrEnum):
    """What becomes of one thing."""

    CREATE = "create"
    UPDATE = "update"
    REMOVE = "remove"
    KEEP = "keep"


@dataclass(frozen=True, slots=True)
class Change:
    """What is to be done with one thing, and what is different about it.

    Attributes:
        kind: "deployment", "automation" or "work pool".
        differences: in words, one a difference; empty when it is created, kept or removed.
    """

    doing: Doing
    kind: str
    name: str
    differences: tuple[str, ...] = ()
