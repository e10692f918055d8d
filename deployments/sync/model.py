"""The Prefect objects of a fleet: deployments with their schedules, a work pool, automations.

Desired state (desired_state.py) and actual state (actual_state.py) use the same types. diff.py compares them.
"""

import functools
import json
from collections.abc import Mapping, Sequence
from dataclasses import field
from datetime import UTC, datetime, timedelta
from enum import StrEnum
from typing import Any

from prefect import Flow
from prefect.utilities.callables import parameter_schema

from deployments.server.settings import CLOSED_JOB_TEMPLATE
from flows.prefect_api.tags import MANAGED_TAG, build_fleet_tag, build_site_name, build_site_tag
from inventory.data_class import dataclass
from inventory.machine import DEFAULT_SITE
from tasks.rules.calendar.prefect_schedule import PrefectSchedule, PrefectScheduleKind

AnyFlow = Flow[..., Any]
INTERVAL_ANCHOR = datetime(2026, 1, 1, tzinfo=UTC)
"""The anchor of interval schedules. Any constant time is suitable."""


@dataclass(frozen=True, slots=True)
class ScheduleSpec:
    """One schedule of a deployment."""

    slug: str
    rule: str  # an RRULE or RDATEs with their DTSTART; "" for an interval
    zone: str
    active: bool = True  # whether Prefect schedules runs from it
    every: float | None = None  # interval in seconds; None for a rule
    anchor: datetime | None = None  # a time from which the interval counts
    # End of a list of dates, which must be extended before; None if it does not end. Never read from Prefect.
    until: datetime | None = field(default=None, compare=False)
    # Parameters of the schedule; its runs use them instead of the deployment's.
    parameters: Mapping[str, object] = field(default_factory=dict)
    most: int | None = None  # how many runs Prefect schedules ahead; None: Prefect's default

    @property
    def is_date_list(self) -> bool:
        """Whether it is a list of dates, which ends."""
        return "RDATE" in self.rule

    @property
    def prefect_schedule(self) -> PrefectSchedule:
        """The schedule in Prefect's form."""
        every = timedelta(seconds=self.every) if self.every is not None else None
        kind = PrefectScheduleKind.RRULE if every is None else PrefectScheduleKind.INTERVAL
        return PrefectSchedule(kind, self.rule, self.zone, None, every, self.anchor)


DEFAULT_START_OPTIONS: Mapping[str, object] = {
    "enforce_parameter_schema": True,
    "infrastructure_document_id": None,
    "job_variables": {},
    "path": None,
    "pull_steps": [],
    "storage_document_id": None,
}
"""How a worker starts a run: a module in the worker's interpreter. It fetches, adds and replaces nothing."""
CANCEL_NEW_LIMIT: Mapping[str, object] = {
    "active": True,
    "collision_strategy": "CANCEL_NEW",
    "grace_period_seconds": None,
    "own": True,
    "slot_decay_per_second": 0.0,
}
"""The concurrency limit of a deployment: for it alone. Prefect cancels runs over the limit and never queues them."""


@dataclass(frozen=True, slots=True)
class Deployment:
    """A deployment: a flow with its parameters and schedules."""

    flow: str
    name: str
    entrypoint: str  # a module path: the same in a checkout and in a wheel
    description: str = ""
    tags: tuple[str, ...] = ()
    parameters: Mapping[str, object] = field(default_factory=dict)
    schema: Mapping[str, object] = field(default_factory=dict)  # schema of the parameters: the form in the UI
    schedules: tuple[ScheduleSpec, ...] = ()
    at_once: int | None = None  # concurrent runs; Prefect cancels one more, as it would start outside its window
    paused: bool = False
    pool: str = ""  # work pool; "" when a process serves it
    queue: str = ""  # queue of the pool; "": the default queue
    start: Mapping[str, object] = field(default_factory=lambda: DEFAULT_START_OPTIONS)
    limit: Mapping[str, object] = field(default_factory=dict)  # settings of the limit for at_once

    @property
    def full_name(self) -> str:
        """The full name in Prefect: flow/deployment."""
        return f"{self.flow}/{self.name}"


@dataclass(frozen=True, slots=True)
class Automation:
    """An automation: it runs an action when an event occurs or does not occur."""

    name: str
    description: str
    trigger: Mapping[str, object]
    actions: tuple[Mapping[str, object], ...]
    enabled: bool = True
    at_trigger: tuple[Mapping[str, object], ...] = ()
    at_resolve: tuple[Mapping[str, object], ...] = ()


@dataclass(frozen=True, slots=True)
class WorkPool:
    """A work pool whose workers start each run as a separate process."""

    name: str
    kind: str = "process"
    paused: bool = False
    closed: bool = False  # it has a limit of 0, so nothing starts. Any other limit is its owner's choice.
    queue_paused: bool = False  # whether the default queue, which has the windows, is paused
    queue_closed: bool = False  # whether that queue has a limit of 0
    # Whether the pool has a second queue, for runs that neither keep a window nor change a machine.
    has_assessment_queue: bool = True
    assessments_paused: bool = False  # whether that queue is paused
    assessments_closed: bool = False  # whether that queue has a limit of 0
    windows_first: bool = True  # whether workers take runs of the default queue before those of that queue
    # Prefect's base job template: what a run may choose of its process.
    template: Mapping[str, object] = field(default_factory=lambda: CLOSED_JOB_TEMPLATE)


@dataclass(frozen=True, slots=True)
class WaitingFlowRun:
    """A flow run of a deployment that has not started."""

    id: str
    name: str
    deployment: str
    state: str  # Prefect's name of the state: Scheduled, Late, Pending, AwaitingConcurrencySlot
    expected_start: datetime
    parameters: Mapping[str, object]
    is_scheduled: bool  # whether a schedule created it; otherwise a person or a program did

    @property
    def title(self) -> str:
        """A unique title for people."""
        return f"{self.deployment} of {self.expected_start:%Y-%m-%d %H:%M} UTC, {self.name} ({self.state})"


@dataclass(frozen=True, slots=True)
class DeploymentSet:
    """All Prefect objects of a fleet, desired or actual.

    Attributes:
        prefect_ids: Prefect's ids of existing objects, by kind and name.
        waiting_runs: waiting flow runs of existing deployments.
        duplicate_automations: Prefect's ids of duplicate automations, by name.
    """

    deployments: tuple[Deployment, ...] = ()
    automations: tuple[Automation, ...] = ()
    pools: tuple[WorkPool, ...] = ()
    prefect_ids: Mapping[str, str] = field(default_factory=dict, compare=False)
    waiting_runs: tuple[WaitingFlowRun, ...] = field(default=(), compare=False)
    duplicate_automations: Mapping[str, tuple[str, ...]] = field(default_factory=dict, compare=False)


class ChangeAction(StrEnum):
    """The action on one Prefect object."""

    CREATE = "create"
    UPDATE = "update"
    REMOVE = "remove"
    CANCEL = "cancel"
    KEEP = "keep"


@dataclass(frozen=True, slots=True)
class Change:
    """One change of a Prefect object, with the differences that cause it."""

    action: ChangeAction
    kind: str  # "deployment", "automation", "work pool" or "flow run"
    name: str
    differences: tuple[str, ...] = ()  # one text for each difference; empty if the object is created, kept or removed


def build_deployment(
    flow: AnyFlow,
    name: str,
    fleet: str,
    pool: str,
    *,
    description: str = "",
    parameters: Mapping[str, object] | None = None,
    schedules: Sequence[ScheduleSpec] = (),
    tags: Sequence[str] = (),
    at_once: int | None = None,
    paused: bool = False,
    queue: str = "",
    site: str = DEFAULT_SITE,
) -> Deployment:
    """Return a deployment of a flow in a fleet. Its form shows the flow's parameters.

    Its runs wait in the default queue of their site's pool by default, with the windows. ``pool`` is that of the
    default site.
    """
    return Deployment(
        flow=flow.name,
        name=name,
        entrypoint=f"{flow.__module__}.{flow.fn.__name__}",
        description=(description or flow.description or "").strip(),
        tags=tuple(sorted({MANAGED_TAG, build_fleet_tag(fleet), build_site_tag(site), *tags})),
        parameters=dict(parameters or {}),
        schema=_build_parameter_schema(flow),
        schedules=tuple(sorted(schedules, key=lambda line: line.slug)),
        at_once=at_once,
        paused=paused,
        pool=build_site_name(pool, site) if pool else "",
        queue=queue if pool else "",
        limit=CANCEL_NEW_LIMIT if at_once else {},
    )


def build_interval_schedule(
    slug: str, seconds: float, anchor: datetime = INTERVAL_ANCHOR, *, active: bool = True
) -> ScheduleSpec:
    """Return a schedule with a fixed interval."""
    return ScheduleSpec(slug, "", "UTC", active, seconds, anchor)


@functools.cache
def _build_parameter_schema(flow: AnyFlow) -> Mapping[str, object]:
    """Return the parameter schema of a flow as Prefect returns it, with lists for tuples. Cached, as it is slow.

    Prefect's server checks parameters by it before a run exists. Without ``additionalProperties`` it accepts unknown
    parameters, and the run fails when it starts.
    """
    schema: dict[str, object] = json.loads(json.dumps(parameter_schema(flow).model_dump(exclude_unset=True)))
    return {**schema, "additionalProperties": False}
