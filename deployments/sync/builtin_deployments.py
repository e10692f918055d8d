"""The built-in deployments and automations of every fleet."""

import zlib
from collections.abc import Collection, Mapping, Sequence
from datetime import timedelta
from pathlib import Path
from typing import Final

from deployments.configuration.prefect_names import (
    ASSESS_SLUG,
    ASSESSMENT_QUEUE,
    AUTOMATIC_NAME,
    COMPONENTS_SLUG,
    CONTROL_SLUG,
    ON_DEMAND_NAME,
    RECONCILE_SLUG,
    REFRESH_SLUG,
    SCHEDULED_NAME,
)
from deployments.maintenance.flow import CONTROL_INTERVAL_SECONDS, control_maintenance
from deployments.sync.actual_state import build_automation_prefix
from deployments.sync.model import (
    INTERVAL_ANCHOR,
    AnyFlow,
    Automation,
    Deployment,
    build_deployment,
    build_interval_schedule,
)
from flows.assess import assess_fleet
from flows.automatic.flow import patch_automatically
from flows.compliance.flow import report_compliance
from flows.component_upgrades import UPGRADE_INTERVAL_SECONDS, upgrade_components
from flows.maintenance import prune_records, report_fleet, stage_fleet
from flows.order_flow import change_machines
from flows.patch import patch_fleet, resume_fleet
from flows.plan import plan_fleet
from flows.prefect_api.tags import (
    AUTO_SCHEDULED_TAG,
    MANAGED_TAG,
    build_configuration_tag,
    build_deployment_name,
    build_shown_tag,
    build_site_name,
)
from flows.reconcile import reconcile_fleet
from flows.request.automatic_request import AUTOMATIC_INTERVAL_SECONDS, AutomaticRequest
from inventory.machine import DEFAULT_SITE

RECONCILE_INTERVAL_SECONDS = 5 * 60
REFRESH_INTERVAL_SECONDS = 24 * 3600
ASSESS_INTERVAL_SECONDS = 3 * 3600
"""Azure's interval for Linux machines: three hours in its older Automation Update Management."""
SPREAD_SECONDS = 5 * 60
"""Within so long after the full hour the schedules begin. Each process takes seconds of processor time to load."""

ON_DEMAND_FLOWS: Final[Sequence[tuple[AnyFlow, str]]] = (
    (assess_fleet, ASSESSMENT_QUEUE),
    (plan_fleet, ASSESSMENT_QUEUE),
    (patch_fleet, ""),
    (resume_fleet, ""),
    (stage_fleet, ""),
    (change_machines, ""),
)
"""Flows that people start by hand, and the queue of their runs; "": the default queue."""
RECORDS_FLOWS: Final[Sequence[tuple[AnyFlow, str]]] = (
    (report_fleet, ASSESSMENT_QUEUE),
    (report_compliance, ASSESSMENT_QUEUE),
    (prune_records, ASSESSMENT_QUEUE),
)
"""The same, for flows that contact no machine.

The owners of the last two add schedules: a compliance document each month, old records every night.
"""


def build_builtin_deployments(
    fleet: str,
    pool: str,
    inventory: Path | None,
    sites: Collection[str] = (DEFAULT_SITE,),
    *,
    has_components: bool = False,
) -> tuple[Deployment, ...]:
    """Return the deployments that need no configuration.

    Each site has those that contact machines, and its own reconcile-fleet: the worker of another site may be away. The
    others work on the records, at the default site.

    Args:
        fleet: the name of the fleet.
        pool: the pool of the default site; "": a process serves them.
        inventory: of what has a schedule and contacts machines; None: nothing has.
        sites: the sites that have machines.
        has_components: whether there is a file of components, which come by themselves where they are enrolled.
    """
    deployments = [
        build_deployment(flow, _build_name(ON_DEMAND_NAME, fleet, site), fleet, pool, queue=queue, site=site)
        for site in sorted({DEFAULT_SITE, *sites})
        for flow, queue in (*ON_DEMAND_FLOWS, *(RECORDS_FLOWS if site == DEFAULT_SITE else ()))
    ]
    deployments += [
        _build_scheduled_deployment(reconcile_fleet, fleet, pool, RECONCILE_SLUG, RECONCILE_INTERVAL_SECONDS, site=site)
        for site in sorted({DEFAULT_SITE, *sites})
    ]
    for site in sorted(sites) if inventory is not None else ():
        scope = "*" if len(sites) == 1 else f"site={site}"
        where: Mapping[str, object] = {"scope": scope, "inventory": str(inventory)}
        deployments.append(
            _build_scheduled_deployment(
                assess_fleet,
                fleet,
                pool,
                ASSESS_SLUG,
                ASSESS_INTERVAL_SECONDS,
                {"request": where},
                ASSESSMENT_QUEUE,
                site,
            )
        )
        if has_components:
            deployments.append(
                _build_scheduled_deployment(
                    upgrade_components, fleet, pool, COMPONENTS_SLUG, UPGRADE_INTERVAL_SECONDS, where, site=site
                )
            )
    return tuple(deployments)


def _build_name(name: str, fleet: str, site: str) -> str:
    return build_deployment_name(build_site_name(name, site), fleet)


def build_refresh_deployment(
    refresh_flow: AnyFlow, fleet: str, pool: str, inventory: Path | None, configurations: Path
) -> Deployment:
    """Return the deployment that writes later dates of configurations into Prefect every day."""
    parameters = {"configurations": str(configurations), "fleet": fleet, "pool": pool}
    parameters |= {"inventory": str(inventory)} if inventory is not None else {}
    return _build_scheduled_deployment(refresh_flow, fleet, pool, REFRESH_SLUG, REFRESH_INTERVAL_SECONDS, parameters)


def build_control_deployment(fleet: str, pool: str, inventory: Path | None, configurations: Path) -> Deployment:
    """Return the deployment that looks every 15 minutes at what is held. Only a fleet that holds updates has it."""
    parameters = {"configurations": str(configurations)}
    parameters |= {"inventory": str(inventory)} if inventory is not None else {}
    return _build_scheduled_deployment(
        control_maintenance, fleet, pool, CONTROL_SLUG, CONTROL_INTERVAL_SECONDS, parameters
    )


def _build_scheduled_deployment(
    flow: AnyFlow,
    fleet: str,
    pool: str,
    slug: str,
    seconds: float,
    parameters: Mapping[str, object] | None = None,
    queue: str = "",
    site: str = DEFAULT_SITE,
) -> Deployment:
    name = _build_name(SCHEDULED_NAME, fleet, site)
    # as far into the interval as the name says: equal at each deploy, and different for sites, fleets and flows
    share = zlib.crc32(f"{flow.name}/{name}".encode()) / 2**32
    offset = timedelta(seconds=int(share * min(seconds, SPREAD_SECONDS)))
    schedule = build_interval_schedule(slug, seconds, INTERVAL_ANCHOR + offset)
    return build_deployment(
        flow, name, fleet, pool, parameters=parameters, schedules=[schedule], at_once=1, queue=queue, site=site
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
