"""The deployments that every fleet has, whatever its configurations: on demand, and what runs of itself."""

import functools
import json
from collections.abc import Mapping, Sequence
from datetime import datetime
from pathlib import Path
from typing import Any

from prefect import Flow
from prefect.utilities.callables import parameter_schema

from deployments.config.names import ASSESS, ON_DEMAND, RECONCILE, REFRESH, SCHEDULED
from deployments.deploying.model import EPOCH, ONE_AFTER_ANOTHER, Deployment, ScheduleLine
from deployments.deploying.refresh import refresh_schedules
from flows.assess import assess_fleet
from flows.patch import patch_fleet, resume_fleet
from flows.reconcile import reconcile_fleet
from flows.tags import OURS, fleet_tag, standing_name
from flows.upkeep import prune_records, report_fleet, stage_fleet

AnyFlow = Flow[..., Any]

RECONCILE_SECONDS = 5 * 60
REFRESH_SECONDS = 24 * 3600
ASSESS_SECONDS = 3 * 3600
"""Azure's interval for Linux machines (its older Automation Update Management: three hours)."""


def standing(
    fleet: str, pool: str, inventory: Path | None, configurations: Path | None = None
) -> tuple[Deployment, ...]:
    """Return them.

    Args:
        fleet: names the set of configurations.
        pool: the work pool that carries them; "" when a process serves them.
        inventory: of the machines that are assessed on a schedule; None: there is no such schedule.
        configurations: whose dates Prefect is told of again and again; None: there are none.
    """
    asked, timed = standing_name(ON_DEMAND, fleet), standing_name(SCHEDULED, fleet)
    made = [
        deployment(assess_fleet, asked, fleet, pool),
        deployment(patch_fleet, asked, fleet, pool),
        deployment(resume_fleet, asked, fleet, pool),
        deployment(stage_fleet, asked, fleet, pool),
        deployment(report_fleet, asked, fleet, pool),
        deployment(prune_records, asked, fleet, pool),  # on a schedule only when its owner gives it one
        deployment(reconcile_fleet, timed, fleet, pool, schedules=[every(RECONCILE, RECONCILE_SECONDS)], at_once=1),
    ]
    if inventory is not None:
        looks = {"request": {"scope": "*", "inventory": str(inventory)}}
        lines = [every(ASSESS, ASSESS_SECONDS)]
        made.append(deployment(assess_fleet, timed, fleet, pool, parameters=looks, schedules=lines, at_once=1))
    if configurations is not None:
        known = {"configurations": str(configurations), "fleet": fleet, "pool": pool}
        known |= {"inventory": str(inventory)} if inventory is not None else {}
        lines = [every(REFRESH, REFRESH_SECONDS)]
        made.append(deployment(refresh_schedules, timed, fleet, pool, parameters=known, schedules=lines, at_once=1))
    return tuple(made)


def former_names(standing: Sequence[Deployment], fleet: str) -> frozenset[str]:
    """Return what these deployments were called by releases that allowed one fleet on a server."""
    known = {standing_name(name, fleet): name for name in (ON_DEMAND, SCHEDULED)}
    before = {f"{each.flow}/{known[each.name]}" for each in standing if each.name in known}
    return frozenset(before - {each.full_name for each in standing})


@functools.cache
def _form(flow: AnyFlow) -> Mapping[str, object]:
    """Return the schema of a flow's parameters as it comes back from Prefect: tuples as lists. Making it takes long."""
    form: dict[str, object] = json.loads(json.dumps(parameter_schema(flow).model_dump(exclude_unset=True)))
    return form


def every(slug: str, seconds: float, anchor: datetime = EPOCH, *, active: bool = True) -> ScheduleLine:
    """Return a schedule that comes again and again."""
    return ScheduleLine(slug, "", "UTC", active, seconds, anchor)


def deployment(
    flow: AnyFlow,
    name: str,
    fleet: str,
    pool: str,
    *,
    description: str = "",
    parameters: Mapping[str, object] | None = None,
    schedules: Sequence[ScheduleLine] = (),
    tags: Sequence[str] = (),
    at_once: int | None = None,
    paused: bool = False,
) -> Deployment:
    """Return a flow as a deployment of a fleet. Its form is the flow's parameters, its description the flow's own."""
    return Deployment(
        flow=flow.name,
        name=name,
        entrypoint=f"{flow.__module__}.{flow.fn.__name__}",
        description=(description or flow.description or "").strip(),
        tags=tuple(sorted({OURS, fleet_tag(fleet), *tags})),
        parameters=dict(parameters or {}),
        schema=_form(flow),
        schedules=tuple(sorted(schedules, key=lambda line: line.slug)),
        at_once=at_once,
        paused=paused,
        pool=pool,
        limit=ONE_AFTER_ANOTHER if at_once else {},
    )
