"""The built-in deployments and automations of every fleet."""

import functools
import json
from collections.abc import Mapping, Sequence
from datetime import datetime
from pathlib import Path
from typing import Any

from prefect import Flow
from prefect.utilities.callables import parameter_schema

from deployments.configuration.prefect_names import (
    ASSESS_SLUG,
    ASSESSMENT_QUEUE,
    AUTOMATIC_NAME,
    ON_DEMAND_NAME,
    RECONCILE_SLUG,
    REFRESH_SLUG,
    SCHEDULED_NAME,
)
from deployments.sync.actual_state import build_automation_prefix
from deployments.sync.model import CANCEL_NEW_LIMIT, INTERVAL_ANCHOR, Automation, Deployment, ScheduleSpec
from flows.assess import assess_fleet
from flows.automatic.flow import patch_automatically
from flows.compliance.flow import report_compliance
from flows.maintenance import prune_records, report_fleet, stage_fleet
from flows.patch import patch_fleet, resume_fleet
from flows.plan import plan_fleet
from flows.prefect_api.tags import (
    AUTO_SCHEDULED_TAG,
    MANAGED_TAG,
    build_configuration_tag,
    build_deployment_name,
    build_fleet_tag,
    build_shown_tag,
)
from flows.reconcile import reconcile_fleet
from flows.request.automatic_request import AUTOMATIC_INTERVAL_SECONDS, AutomaticRequest

AnyFlow = Flow[..., Any]

RECONCILE_INTERVAL_SECONDS = 5 * 60
REFRESH_INTERVAL_SECONDS = 24 * 3600
ASSESS_INTERVAL_SECONDS = 3 * 3600
"""Azure's interval for Linux machines: three hours in its older Automation Update Management."""


def build_builtin_deployments(fleet: str, pool: str, inventory: Path | None) -> tuple[Deployment, ...]:
    """Return the deployments that need no configuration.

    Args:
        fleet: the name of the fleet.
        pool: the work pool of the deployments; "" if a process serves them.
        inventory: the inventory of the scheduled assessment; None: no scheduled assessment.
    """
    on_demand_name, scheduled_name = (
        build_deployment_name(ON_DEMAND_NAME, fleet),
        build_deployment_name(SCHEDULED_NAME, fleet),
    )
    deployments = [
        build_deployment(assess_fleet, on_demand_name, fleet, pool, queue=ASSESSMENT_QUEUE),
        build_deployment(plan_fleet, on_demand_name, fleet, pool, queue=ASSESSMENT_QUEUE),
        build_deployment(patch_fleet, on_demand_name, fleet, pool),
        build_deployment(resume_fleet, on_demand_name, fleet, pool),
        build_deployment(stage_fleet, on_demand_name, fleet, pool),
        build_deployment(report_fleet, on_demand_name, fleet, pool, queue=ASSESSMENT_QUEUE),
        # Their owner adds schedules: a compliance document each month, old records every night.
        build_deployment(report_compliance, on_demand_name, fleet, pool, queue=ASSESSMENT_QUEUE),
        build_deployment(prune_records, on_demand_name, fleet, pool, queue=ASSESSMENT_QUEUE),
        build_deployment(
            reconcile_fleet,
            scheduled_name,
            fleet,
            pool,
            schedules=[build_interval_schedule(RECONCILE_SLUG, RECONCILE_INTERVAL_SECONDS)],
            at_once=1,
        ),
    ]
    if inventory is not None:
        assess_parameters = {"request": {"scope": "*", "inventory": str(inventory)}}
        deployment_schedules = [build_interval_schedule(ASSESS_SLUG, ASSESS_INTERVAL_SECONDS)]
        deployments.append(
            build_deployment(
                assess_fleet,
                scheduled_name,
                fleet,
                pool,
                parameters=assess_parameters,
                schedules=deployment_schedules,
                at_once=1,
                queue=ASSESSMENT_QUEUE,
            )
        )
    return tuple(deployments)


def build_refresh_deployment(
    refresh_flow: AnyFlow, fleet: str, pool: str, inventory: Path | None, configurations: Path
) -> Deployment:
    """Return the deployment that writes later dates of configurations into Prefect every day."""
    parameters = {"configurations": str(configurations), "fleet": fleet, "pool": pool}
    parameters |= {"inventory": str(inventory)} if inventory is not None else {}
    return build_deployment(
        refresh_flow,
        build_deployment_name(SCHEDULED_NAME, fleet),
        fleet,
        pool,
        parameters=parameters,
        schedules=[build_interval_schedule(REFRESH_SLUG, REFRESH_INTERVAL_SECONDS)],
        at_once=1,
    )


def build_automatic_deployment(request: AutomaticRequest, fleet: str, pool: str, inventory: Path) -> Deployment:
    """Return the deployment that decides every 15 minutes what automatic patching does.

    The inventory is absolute: a flow run starts in its own folder. The deployment has the tag of a configuration, where
    its runs find freezes that were declared after they began. With ``enabled: false`` it is not paused: it shows
    what it would do.
    """
    request = request.model_copy(update={"inventory": inventory})
    return build_deployment(
        patch_automatically,
        build_deployment_name(AUTOMATIC_NAME, fleet),
        fleet,
        pool,
        parameters={"request": request.model_dump(mode="json", exclude_defaults=True)},
        schedules=[build_interval_schedule(AUTOMATIC_NAME, AUTOMATIC_INTERVAL_SECONDS)],
        tags=[build_shown_tag(AUTOMATIC_NAME), build_configuration_tag(AUTOMATIC_NAME)],
        at_once=1,
    )


@functools.cache
def _build_parameter_schema(flow: AnyFlow) -> Mapping[str, object]:
    """Return the parameter schema of a flow as Prefect returns it, with lists for tuples. Cached, as it is slow.

    Prefect's server checks parameters by it before a run exists. Without ``additionalProperties`` it accepts unknown
    parameters, and the run fails when it starts.
    """
    schema: dict[str, object] = json.loads(json.dumps(parameter_schema(flow).model_dump(exclude_unset=True)))
    return {**schema, "additionalProperties": False}


def build_interval_schedule(
    slug: str, seconds: float, anchor: datetime = INTERVAL_ANCHOR, *, active: bool = True
) -> ScheduleSpec:
    """Return a schedule with a fixed interval."""
    return ScheduleSpec(slug, "", "UTC", active, seconds, anchor)


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
) -> Deployment:
    """Return a deployment of a flow in a fleet. Its form shows the flow's parameters.

    Its runs wait in the default queue of the pool by default, with the windows.
    """
    return Deployment(
        flow=flow.name,
        name=name,
        entrypoint=f"{flow.__module__}.{flow.fn.__name__}",
        description=(description or flow.description or "").strip(),
        tags=tuple(sorted({MANAGED_TAG, build_fleet_tag(fleet), *tags})),
        parameters=dict(parameters or {}),
        schema=_build_parameter_schema(flow),
        schedules=tuple(sorted(schedules, key=lambda line: line.slug)),
        at_once=at_once,
        paused=paused,
        pool=pool,
        queue=queue if pool else "",
        limit=CANCEL_NEW_LIMIT if at_once else {},
    )


MAX_SILENT_SECONDS = 600
"""How long a running flow may send no heartbeat. Prefect's default interval is 180 s."""
MAX_START_SECONDS = 120
"""How long the process of a scheduled run may need until it begins. It takes some ten seconds on a small machine."""
MAX_PENDING_SECONDS = 900
"""How long the process of any other run may need: if it began twice, it would be two runs."""

_RUNNING, _PENDING, _HEARTBEAT = (f"prefect.flow-run.{name}" for name in ("Running", "Pending", "heartbeat"))
_END_EVENTS = tuple(f"prefect.flow-run.{state}" for state in ("Cancelled", "Completed", "Crashed", "Failed"))
_WAIT_EVENTS = tuple(f"prefect.flow-run.{state}" for state in ("Paused", "Scheduled", "Suspended"))
"""A run in one of these states has no process, and needs none."""


def build_automations(fleet: str) -> tuple[Automation, ...]:
    """Return the automations of a fleet: they see to flow runs whose process is gone, which Prefect keeps as they are.

    If process and worker of a flow run die, Prefect keeps the run in Running. If they die while the process starts,
    Prefect keeps it in Pending. Each such run uses the limit of its deployment, so Prefect would cancel every later
    run. The server itself acts, so no worker need be alive.

    A run that a schedule made, and that did not begin, is scheduled again: admission decides what still fits into its
    window. If its process is alive and only slow, there are two processes of one flow run. Both may come to life; the
    claim of the window and the run lease let one of them go on, and the other ends (``flows.flow_execution``). All
    other runs are set to Crashed. The records follow the run lease and not Prefect's state, and reconcile-fleet
    finalizes or resumes the run.
    """
    return (
        _build_automation(
            f"{build_automation_prefix(fleet)}silent runs",
            "Marks a flow run as crashed after ten minutes without a heartbeat: its process is gone.",
            after=(_RUNNING, _HEARTBEAT),  # its process may die before the first heartbeat
            expect=(_HEARTBEAT, *_WAIT_EVENTS, *_END_EVENTS),
            seconds=MAX_SILENT_SECONDS,
            state="CRASHED",
            message="no heartbeat for ten minutes; reconcile-fleet continues the run",
        ),
        _build_automation(
            f"{build_automation_prefix(fleet)}scheduled runs that did not begin",
            "Schedules a flow run of a schedule again after two minutes in Pending: its process was lost.",
            after=(_PENDING,),
            expect=(_RUNNING, *_WAIT_EVENTS, *_END_EVENTS),
            seconds=MAX_START_SECONDS,
            state="SCHEDULED",
            message="its process did not start within two minutes; it is started again",
            tags=(MANAGED_TAG, AUTO_SCHEDULED_TAG),
        ),
        _build_automation(
            f"{build_automation_prefix(fleet)}runs stuck before their start",
            "Marks a flow run as crashed after 15 minutes in Pending: it would prevent later runs.",
            after=(_PENDING,),
            expect=(_RUNNING, *_WAIT_EVENTS, *_END_EVENTS),
            seconds=MAX_PENDING_SECONDS,
            state="CRASHED",
            message="its process did not start within 15 minutes",
        ),
    )


def _build_automation(
    name: str,
    description: str,
    *,
    after: Sequence[str],
    expect: Sequence[str],
    seconds: int,
    state: str,
    message: str,
    tags: Sequence[str] = (MANAGED_TAG,),
) -> Automation:
    """Return an automation that changes the state of a run with all these tags if an expected event does not occur."""
    related: list[Mapping[str, object]] = [
        {"prefect.resource.id": f"prefect.tag.{tag}", "prefect.resource.role": "tag"} for tag in tags
    ]
    return Automation(
        name=name,
        description=description,
        trigger={
            "type": "event",
            "posture": "Proactive",
            "after": sorted(after),
            "expect": sorted(expect),
            "match": {"prefect.resource.id": "prefect.flow-run.*"},
            "match_related": related if len(related) > 1 else related[0],
            "for_each": ["prefect.resource.id"],
            "threshold": 1,
            "within": float(seconds),
        },
        actions=({"type": "change-flow-run-state", "state": state, "message": message, "force": False},),
    )
