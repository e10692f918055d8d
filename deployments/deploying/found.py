"""What is there in Prefect, told in our own words (model.py)."""

from collections.abc import Iterator, Mapping
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any
from uuid import UUID

from prefect.client.schemas.filters import DeploymentFilter, DeploymentFilterTags
from prefect.client.schemas.responses import DeploymentResponse
from prefect.client.schemas.schedules import CronSchedule, IntervalSchedule, RRuleSchedule
from prefect.events.schemas.automations import Automation as TheirAutomation

from deployments.deploying.model import Automation, Deployment, Pool, ScheduleLine, Setup
from flows.tags import OURS, fleet_tag

if TYPE_CHECKING:
    from prefect.client.orchestration import SyncPrefectClient

PAGE = 100


def found(client: "SyncPrefectClient", fleet: str) -> Setup:
    """Return what one set of configurations has put there.

    Args:
        client: of the server.
        fleet: names the set.
    """
    names: dict[UUID, str] = {}
    ids: dict[str, str] = {}
    deployments = []
    for theirs in _deployments(client, fleet_tag(fleet)):
        if theirs.flow_id not in names:
            names[theirs.flow_id] = client.read_flow(theirs.flow_id).name
        deployment = as_deployment(theirs, names[theirs.flow_id])
        ids[f"deployment {deployment.full_name}"] = str(theirs.id)
        deployments.append(deployment)
    automations = []
    for automation in client.read_automations():
        if automation.name.startswith(prefix(fleet)):
            ids[f"automation {automation.name}"] = str(automation.id)
            automations.append(as_automation(automation))
    pools = tuple(Pool(pool.name, pool.type) for pool in client.read_work_pools())
    return Setup(tuple(deployments), tuple(automations), pools, ids)


def others(client: "SyncPrefectClient", fleet: str) -> dict[str, str]:
    """Return the deployments that other sets of configurations have put there: their fleet, by full name."""
    mark, flows, taken = fleet_tag(""), dict[UUID, str](), dict[str, str]()
    for theirs in _deployments(client, OURS):
        fleets = [tag.removeprefix(mark) for tag in theirs.tags if tag.startswith(mark)]
        if fleets and fleet not in fleets:
            if theirs.flow_id not in flows:
                flows[theirs.flow_id] = client.read_flow(theirs.flow_id).name
            taken[f"{flows[theirs.flow_id]}/{theirs.name}"] = fleets[0]
    return taken


def prefix(fleet: str) -> str:
    """Return what the names of a fleet's automations begin with: they have no tags that could be asked for."""
    return f"{fleet_tag(fleet)}: "


def as_deployment(theirs: DeploymentResponse, flow: str) -> Deployment:
    """Return a deployment as the server tells of it."""
    limit = theirs.global_concurrency_limit
    return Deployment(
        flow=flow,
        name=theirs.name,
        entrypoint=theirs.entrypoint or "",
        description=theirs.description or "",
        tags=tuple(sorted(theirs.tags)),
        parameters=theirs.parameters,
        schema=theirs.parameter_openapi_schema or {},
        schedules=tuple(sorted((_line(each) for each in theirs.schedules), key=lambda line: line.slug)),
        at_once=limit.limit if limit is not None else None,
        paused=theirs.paused,
        pool=theirs.work_pool_name or "",
    )


def _deployments(client: "SyncPrefectClient", tag: str) -> Iterator[DeploymentResponse]:
    wanted = DeploymentFilter(tags=DeploymentFilterTags(all_=[tag]))
    offset = 0
    while page := client.read_deployments(deployment_filter=wanted, limit=PAGE, offset=offset):
        yield from page
        offset += len(page)


def _line(theirs: Any) -> ScheduleLine:  # noqa: ANN401 - one of Prefect's three schedules, within a wrapper
    schedule = theirs.schedule
    zone, slug = schedule.timezone or "UTC", theirs.slug or ""
    match schedule:
        case RRuleSchedule():
            return ScheduleLine(slug, schedule.rrule, zone, theirs.active)
        case IntervalSchedule():
            # Prefect's own kind of datetime can't be divided by plain lengths of time, as intervals are
            anchor = datetime.fromtimestamp(schedule.anchor_date.timestamp(), UTC)
            return ScheduleLine(slug, "", zone, theirs.active, schedule.interval.total_seconds(), anchor)
        case CronSchedule():
            return ScheduleLine(slug, f"cron {schedule.cron}", zone, theirs.active)  # somebody's own: never ours
        case _:
            return ScheduleLine(slug, type(schedule).__name__, zone, theirs.active)


def as_automation(theirs: TheirAutomation) -> Automation:
    """Return an automation as the server tells of it."""
    return Automation(
        name=theirs.name,
        description=theirs.description,
        trigger=said(theirs.trigger.model_dump(mode="json")),
        actions=tuple(said(action.model_dump(mode="json")) for action in theirs.actions),
        enabled=theirs.enabled,
    )


def said(document: Mapping[str, Any]) -> dict[str, object]:
    """Return what a part of an automation says, without ids and empty values, and with sets in order."""
    kept: dict[str, object] = {}
    for key, value in document.items():
        if key == "id" or value in (None, {}, []):
            continue
        if isinstance(value, Mapping):
            inner = said(value)
            if inner:
                kept[key] = inner
        elif isinstance(value, list) and all(isinstance(item, str) for item in value):
            kept[key] = sorted(value)
        elif isinstance(value, list):
            kept[key] = [said(item) if isinstance(item, Mapping) else item for item in value]
        else:
            kept[key] = value
    return kept
