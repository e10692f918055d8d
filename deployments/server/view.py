"""What a look at a Prefect server shows: its answers, read with as little trust as any other text from outside."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from enum import StrEnum
from typing import Any

from pydantic import AwareDatetime, BaseModel, ConfigDict

from tasks.rules.admission import Occurrence

OURS = "fleetpatch"
"""The tag of everything that this project puts into Prefect."""


class _Told(BaseModel):
    """Prefect tells more than is needed here, and more with each release."""

    model_config = ConfigDict(frozen=True, extra="ignore")


class ScheduleTold(_Told):
    """A schedule of a deployment."""

    id: str
    active: bool = True
    slug: str | None = None
    schedule: Mapping[str, Any] = {}


class DeploymentTold(_Told):
    """A deployment. ``last_polled``: when somebody last asked for its runs."""

    id: str
    name: str
    flow_id: str
    paused: bool = False
    tags: tuple[str, ...] = ()
    work_pool_name: str | None = None
    status: str | None = None
    last_polled: AwareDatetime | None = None
    updated: AwareDatetime | None = None
    schedules: tuple[ScheduleTold, ...] = ()

    @property
    def ours(self) -> bool:
        """Whether this project put it there."""
        return OURS in self.tags

    @property
    def active(self) -> tuple[ScheduleTold, ...]:
        """Its schedules that are to start runs."""
        return () if self.paused else tuple(each for each in self.schedules if each.active)


class CreatorTold(_Told):
    """Who made a run."""

    id: str | None = None
    type: str | None = None


class StateTold(_Told):
    """A state of a run, since when."""

    type: str
    name: str
    timestamp: AwareDatetime
    message: str | None = None


class RunTold(_Told):
    """A flow run."""

    id: str
    name: str
    flow_id: str
    deployment_id: str | None = None
    created_by: CreatorTold | None = None
    expected_start_time: AwareDatetime | None = None
    state: StateTold
    tags: tuple[str, ...] = ()


class PoolTold(_Told):
    """A work pool."""

    name: str
    type: str
    is_paused: bool = False
    concurrency_limit: int | None = None


class WorkerTold(_Told):
    """A worker of a pool."""

    name: str
    status: str | None = None
    last_heartbeat_time: AwareDatetime | None = None


class Carried(StrEnum):
    """Who carries a flow run out, by our own records."""

    HELD = "held"  # somebody, who is alive
    LEFT = "left"  # nobody any more
    OVER = "over"  # nobody: it has ended
    UNTOLD = "untold"  # they don't say: it only looks, or is no run of ours


@dataclass(frozen=True, slots=True)
class RunningRun:
    """A run that Prefect calls Running.

    Attributes:
        heartbeat: whether one came lately; None when it was not looked for.
        ours: the run's id in our records, where it is there.
    """

    run: RunTold
    carried: Carried
    heartbeat: bool | None = None
    ours: str = ""


@dataclass(frozen=True, slots=True)
class Upcoming:
    """What is scheduled for one schedule.

    Attributes:
        runs: that lie ahead and came from it.
        next: its next date by its own rule, computed here where there are no runs; None when it has none any more.
        fault: why the date can't be computed.
    """

    deployment: DeploymentTold
    schedule: ScheduleTold
    runs: int
    next: datetime | None = None
    fault: str = ""


@dataclass(frozen=True, slots=True)
class ServerView:
    """Everything that the server was asked.

    Attributes:
        now: our clock, when it was asked.
        url: of its API.
        version: of its Prefect.
        our_version: of ours.
        skew: how far its clock is ahead of ours; None when it told no time.
        settings: what it says of its own settings; None when it doesn't.
        limited: runs that the limit of their deployment cancelled lately.
        missed: windows of the last days that no run had, by our own records.
        names: of flows, by their id.
    """

    now: datetime
    url: str
    version: str
    our_version: str
    skew: timedelta | None = None
    settings: Mapping[str, Any] | None = None
    deployments: tuple[DeploymentTold, ...] = ()
    upcoming: tuple[Upcoming, ...] = ()
    pools: tuple[PoolTold, ...] = ()
    workers: Mapping[str, tuple[WorkerTold, ...]] = field(default_factory=dict)
    running: tuple[RunningRun, ...] = ()
    pending: tuple[RunTold, ...] = ()
    late: tuple[RunTold, ...] = ()
    limited: tuple[RunTold, ...] = ()
    missed: tuple[Occurrence, ...] = ()
    names: Mapping[str, str] = field(default_factory=dict)

    def setting(self, path: str) -> object:
        """Return a setting of the server's by its dotted path; None when it doesn't tell."""
        value: object = self.settings
        for step in path.split("."):
            value = value.get(step) if isinstance(value, Mapping) else None
        return value

    def deployment_name(self, deployment: DeploymentTold) -> str:
        """Return a deployment's name as Prefect writes it: flow/deployment."""
        return f"{self.names.get(deployment.flow_id, '?')}/{deployment.name}"
