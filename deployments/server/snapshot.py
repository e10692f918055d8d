"""The data that the checks need from a Prefect server. Each answer of the server is validated."""

from collections.abc import Mapping
from dataclasses import field
from datetime import datetime, timedelta
from enum import StrEnum
from typing import Any

from pydantic import AwareDatetime, BaseModel, ConfigDict

from flows.prefect_api.tags import MANAGED_TAG
from inventory.data_class import dataclass
from tasks.domain.model import RunInfo
from tasks.rules.timing.admission import WindowClaim

REFRESH_FLOW = "refresh-schedules"
CONTROL_FLOW = "control-maintenance"


class _PrefectInfo(BaseModel):
    """Base class of Prefect's objects. Unknown fields are ignored, because each release of Prefect adds some."""

    model_config = ConfigDict(frozen=True, extra="ignore")


class ScheduleInfo(_PrefectInfo):
    """A schedule of a deployment."""

    id: str
    active: bool = True
    schedule: Mapping[str, Any] = {}


class DeploymentInfo(_PrefectInfo):
    """A deployment. ``last_polled``: when a process last asked for its runs."""

    id: str
    name: str
    flow_id: str
    paused: bool = False
    tags: tuple[str, ...] = ()
    work_pool_name: str | None = None
    work_queue_name: str | None = None
    last_polled: AwareDatetime | None = None
    created: AwareDatetime | None = None
    updated: AwareDatetime | None = None
    schedules: tuple[ScheduleInfo, ...] = ()

    @property
    def is_managed(self) -> bool:
        """Whether fleetpatch created the deployment."""
        return MANAGED_TAG in self.tags

    @property
    def active_schedules(self) -> tuple[ScheduleInfo, ...]:
        """Its active schedules."""
        return () if self.paused else tuple(schedule for schedule in self.schedules if schedule.active)


class StateInfo(_PrefectInfo):
    """A state of a run, and the time of the change to it."""

    timestamp: AwareDatetime
    message: str | None = None


class FlowRunInfo(_PrefectInfo):
    """A flow run."""

    id: str
    name: str
    flow_id: str
    deployment_id: str | None = None
    created_by: Mapping[str, Any] | None = None
    expected_start_time: AwareDatetime | None = None
    parameters: Mapping[str, Any] = {}
    state: StateInfo


class WorkPoolInfo(_PrefectInfo):
    """A work pool."""

    name: str
    is_paused: bool = False
    concurrency_limit: int | None = None
    base_job_template: Mapping[str, Any] = {}


class WorkQueueInfo(_PrefectInfo):
    """A queue of a work pool. Workers take the runs of the queue with the lowest priority number first."""

    name: str
    is_paused: bool = False
    concurrency_limit: int | None = None
    priority: int = 1


class WorkerInfo(_PrefectInfo):
    """A worker of a pool."""

    name: str
    last_heartbeat_time: AwareDatetime | None = None


class RunLeaseState(StrEnum):
    """Whether a process executes a flow run, according to the records."""

    HELD = "held"  # a live process has the run lease
    ABANDONED = "left"  # the process died
    ENDED = "over"  # the run has ended
    UNKNOWN = "untold"  # no lease in the records: the run changes no machine, or is not from fleetpatch


@dataclass(frozen=True, slots=True)
class RunningFlowRun:
    """A run that is Running in Prefect."""

    run: FlowRunInfo
    lease_state: RunLeaseState
    has_heartbeat: bool | None = None  # whether it sent a heartbeat recently; None if that was not checked
    run_id: str = ""  # the id in the records, if the run is there


@dataclass(frozen=True, slots=True)
class ScheduleStatus:
    """The runs that Prefect has scheduled for one schedule."""

    deployment: DeploymentInfo
    schedule: ScheduleInfo
    run_count: int  # number of future runs from this schedule
    # The next date of its rule, computed here if there are no runs; None if no date is left.
    next_date: datetime | None = None
    error: str = ""  # why the date can't be computed


@dataclass(frozen=True, slots=True)
class ServerSnapshot:
    """Everything that was read from the server.

    Attributes:
        now: the controller's time of the snapshot.
        clock_skew: how far the server's clock is ahead of the controller's; None if the server gave no time.
        settings: the settings that the server reports; None if it reports none.
        answers_anyone: whether it answers without a password.
        answers_any_name: whether it answers under a name that is not its own.
        runs_over_limit: recent runs that Prefect cancelled because of their deployment's limit.
        missed_windows: recent windows without a run, from the records.
        held_looks: when maintenance control last looked at each group, from the records; None: they can't be read.
        refreshed_at: when refresh-schedules completed last, by the id of its deployment.
        own_version: the version of fleetpatch here.
        site_runs: the newest run that workers executed, by each site of this fleet on the server; None: none is known.
        inventory_sites: the sites of the inventory; empty if none was read.
    """

    now: datetime
    url: str
    version: str
    client_version: str
    clock_skew: timedelta | None = None
    settings: Mapping[str, Any] | None = None
    answers_anyone: bool = False
    answers_any_name: bool = False
    deployments: tuple[DeploymentInfo, ...] = ()
    schedule_statuses: tuple[ScheduleStatus, ...] = ()
    pools: tuple[WorkPoolInfo, ...] = ()
    workers: Mapping[str, tuple[WorkerInfo, ...]] = field(default_factory=dict)
    queues: Mapping[str, tuple[WorkQueueInfo, ...]] = field(default_factory=dict)
    running_runs: tuple[RunningFlowRun, ...] = ()
    pending_runs: tuple[FlowRunInfo, ...] = ()
    late_runs: tuple[FlowRunInfo, ...] = ()
    runs_over_limit: tuple[FlowRunInfo, ...] = ()
    missed_windows: tuple[WindowClaim, ...] = ()
    held_looks: Mapping[str, datetime | None] | None = None
    flow_names: Mapping[str, str] = field(default_factory=dict)
    refreshed_at: Mapping[str, datetime] = field(default_factory=dict)
    own_version: str = ""
    site_runs: Mapping[str, RunInfo | None] = field(default_factory=dict)
    inventory_sites: frozenset[str] = frozenset()

    def get_setting(self, path: str) -> object:
        """Return a server setting by its dotted path; None if the server does not report it."""
        value: object = self.settings
        for step in path.split("."):
            value = value.get(step) if isinstance(value, Mapping) else None
        return value

    def get_deployment_name(self, deployment: DeploymentInfo) -> str:
        """Return a deployment's full name in Prefect: flow/deployment."""
        return f"{self.flow_names.get(deployment.flow_id, '?')}/{deployment.name}"
