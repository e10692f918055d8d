"""What a look at a Prefect server shows: its answers, read with as little trust as any other text from outside."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from enum import StrEnum
from typing import Any

from pydantic import AwareDatetime, BaseModel, ConfigDict

from tasks.rules.timing.admission import WindowClaim

MANAGED_TAG = "fleetpatch"
"""The tag of everything that this project puts into Prefect."""


class _PrefectInfo(BaseModel):
    """An object of Prefect's. Prefect sends more fields than are needed here, and adds some with each release."""

    model_config = ConfigDict(frozen=True, extra="ignore")


class ScheduleInfo(_PrefectInfo):
    """A schedule of a deployment."""

    id: str
    active: bool = True
    slug: str | None = None
    schedule: Mapping[str, Any] = {}


class DeploymentInfo(_PrefectInfo):
    """A deployment. ``last_polled``: when a process last asked for its runs."""

    id: str
    name: str
    flow_id: str
    paused: bool = False
    tags: tuple[str, ...] = ()
    work_pool_name: str | None = None
    status: str | None = None
    last_polled: AwareDatetime | None = None
    updated: AwareDatetime | None = None
    schedules: tuple[ScheduleInfo, ...] = ()

    @property
    def is_managed(self) -> bool:
        """Whether this project put it there."""
        return MANAGED_TAG in self.tags

    @property
    def active_schedules(self) -> tuple[ScheduleInfo, ...]:
        """Its schedules that are to start runs."""
        return () if self.paused else tuple(each for each in self.schedules if each.active)


class CreatorInfo(_PrefectInfo):
    """Who made a run."""

    id: str | None = None
    type: str | None = None


class StateInfo(_PrefectInfo):
    """A state of a run, since when."""

    type: str
    name: str
    timestamp: AwareDatetime
    message: str | None = None


class FlowRunInfo(_PrefectInfo):
    """A flow run."""

    id: str
    name: str
    flow_id: str
    deployment_id: str | None = None
    created_by: CreatorInfo | None = None
    expected_start_time: AwareDatetime | None = None
    state: StateInfo
    tags: tuple[str, ...] = ()


class WorkPoolInfo(_PrefectInfo):
    """A work pool."""

    name: str
    type: str
    is_paused: bool = False
    concurrency_limit: int | None = None


class WorkerInfo(_PrefectInfo):
    """A worker of a pool."""

    name: str
    status: str | None = None
    last_heartbeat_time: AwareDatetime | None = None


class RunLeaseState(StrEnum):
    """Whether a process executes a flow run, by our own records."""

    HELD = "held"  # a live process has the lease
    ABANDONED = "left"  # its process died
    ENDED = "over"  # the run has ended
    UNKNOWN = "untold"  # no lease in the records: it changes no machine, or is not ours


@dataclass(frozen=True, slots=True)
class RunningFlowRun:
    """A run that Prefect calls Running.

    Attributes:
        has_heartbeat: whether one came lately; None when it was not looked for.
        run_id: the run's id in our records, where it is there.
    """

    run: FlowRunInfo
    lease_state: RunLeaseState
    has_heartbeat: bool | None = None
    run_id: str = ""


@dataclass(frozen=True, slots=True)
class ScheduleStatus:
    """What is scheduled for one schedule.

    Attributes:
        run_count: that lie ahead and came from it.
        next_date: its next date by its own rule, computed here where there are no runs; None when it has none any more.
        error: why the date can't be computed.
    """

    deployment: DeploymentInfo
    schedule: ScheduleInfo
    run_count: int
    next_date: datetime | None = None
    error: str = ""


@dataclass(frozen=True, slots=True)
class ServerSnapshot:
    """Everything that the server was asked.

    Attributes:
        now: our clock, when it was asked.
        url: of its API.
        version: of its Prefect.
        client_version: of ours.
        clock_skew: how far its clock is ahead of ours; None when it told no time.
        settings: what it says of its own settings; None when it doesn't.
        runs_over_limit: runs that the limit of their deployment cancelled lately.
        missed_windows: windows of the last days that no run had, by our own records.
        flow_names: of flows, by their id.
    """

    now: datetime
    url: str
    version: str
    client_version: str
    clock_skew: timedelta | None = None
    settings: Mapping[str, Any] | None = None
    deployments: tuple[DeploymentInfo, ...] = ()
    schedule_statuses: tuple[ScheduleStatus, ...] = ()
    pools: tuple[WorkPoolInfo, ...] = ()
    workers: Mapping[str, tuple[WorkerInfo, ...]] = field(default_factory=dict)
    running_runs: tuple[RunningFlowRun, ...] = ()
    pending_runs: tuple[FlowRunInfo, ...] = ()
    late_runs: tuple[FlowRunInfo, ...] = ()
    runs_over_limit: tuple[FlowRunInfo, ...] = ()
    missed_windows: tuple[WindowClaim, ...] = ()
    flow_names: Mapping[str, str] = field(default_factory=dict)

    def get_setting(self, path: str) -> object:
        """Return a setting of the server's by its dotted path; None when it doesn't tell."""
        value: object = self.settings
        for step in path.split("."):
            value = value.get(step) if isinstance(value, Mapping) else None
        return value

    def get_deployment_name(self, deployment: DeploymentInfo) -> str:
        """Return a deployment's name as Prefect writes it: flow/deployment."""
        return f"{self.flow_names.get(deployment.flow_id, '?')}/{deployment.name}"
