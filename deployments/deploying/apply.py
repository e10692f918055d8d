"""Carry changes out in Prefect."""

from collections.abc import Callable, Sequence
from datetime import timedelta
from typing import TYPE_CHECKING, Any
from uuid import UUID

from prefect.client.schemas.actions import DeploymentScheduleCreate, WorkPoolCreate
from prefect.client.schemas.objects import ConcurrencyLimitStrategy, ConcurrencyOptions
from prefect.client.schemas.schedules import IntervalSchedule, RRuleSchedule
from prefect.events.schemas.automations import AutomationCore
from prefect.exceptions import ObjectNotFound

from deployments.deploying.model import EPOCH, Automation, Change, Deployment, Doing, Pool, ScheduleLine, Setup

if TYPE_CHECKING:
    from prefect.client.orchestration import SyncPrefectClient


def apply(
    client: "SyncPrefectClient",
    done: Sequence[Change],
    wanted: Setup,
    found: Setup,
    tell: Callable[[Change], None],
) -> None:
    """Do what has to be done. Done again, it does no harm: everything is created or replaced by its name.

    Replacing a deployment has Prefect forget the runs that it had scheduled ahead, and schedule them anew; runs that
    have begun are not touched.

    Args:
        client: of the server.
        done: the changes.
        wanted: what they lead to.
        found: what is there now.
        tell: called before each change.
    """
    things = {f"deployment {each.full_name}": each for each in wanted.deployments}
    for change in done:
        if change.doing is Doing.KEEP:
            continue
        tell(change)
        if change.doing is Doing.REMOVE:
            _remove(client, change, found)
        elif change.kind == "work pool":
            _make_pool(client, next(pool for pool in wanted.pools if pool.name == change.name))
        elif change.kind == "deployment":
            put_deployment(client, things[f"deployment {change.name}"])
        else:
            automation = next(each for each in wanted.automations if each.name == change.name)
            _put_automation(client, automation, found.ids.get(f"automation {change.name}"))


def put_deployment(client: "SyncPrefectClient", wanted: Deployment) -> UUID:
    """Create a deployment, or replace the one that has its name."""
    return client.create_deployment(
        flow_id=client.create_flow_from_name(wanted.flow),
        name=wanted.name,
        entrypoint=wanted.entrypoint,
        description=wanted.description,
        tags=list(wanted.tags),
        parameters=dict(wanted.parameters),
        parameter_openapi_schema=dict(wanted.schema),
        enforce_parameter_schema=True,
        schedules=[
            DeploymentScheduleCreate(schedule=_schedule(line), active=line.active, slug=line.slug)
            for line in wanted.schedules
        ],
        concurrency_limit=wanted.at_once,
        concurrency_options=ConcurrencyOptions(collision_strategy=ConcurrencyLimitStrategy.CANCEL_NEW)
        if wanted.at_once
        else None,
        paused=wanted.paused,
        work_pool_name=wanted.pool or None,
        pull_steps=[],
        job_variables={},
    )


def _schedule(line: ScheduleLine) -> RRuleSchedule | IntervalSchedule:
    if line.every is not None:
        # The clients' Interval takes an anchor of None for "now", and then the same schedule would differ every time.
        anchor = line.anchor or EPOCH
        return IntervalSchedule(interval=timedelta(seconds=line.every), anchor_date=anchor, timezone=line.zone)
    return RRuleSchedule(rrule=line.rule, timezone=line.zone)


def _make_pool(client: "SyncPrefectClient", wanted: Pool) -> None:
    client.create_work_pool(WorkPoolCreate(name=wanted.name, type=wanted.kind), overwrite=False)


def _put_automation(client: "SyncPrefectClient", wanted: Automation, known: str | None) -> None:
    document: dict[str, Any] = {
        "name": wanted.name,
        "description": wanted.description,
        "enabled": wanted.enabled,
        "trigger": dict(wanted.trigger),
        "actions": [dict(action) for action in wanted.actions],
    }
    core = AutomationCore.model_validate(document)
    if known is None:
        client.create_automation(core)
    else:
        client.update_automation(UUID(known), core)


def _remove(client: "SyncPrefectClient", change: Change, found: Setup) -> None:
    known = UUID(found.ids[f"{change.kind} {change.name}"])
    try:
        if change.kind == "deployment":
            client.delete_deployment(known)
        else:
            client.delete_automation(known)
    except ObjectNotFound:
        return  # somebody else was quicker; gone is gone
