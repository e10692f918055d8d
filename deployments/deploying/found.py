"""What is there in Prefect, told in our own words (model.py)."""

from collections.abc import Collection, Iterator, Mapping
from dataclasses import replace
from datetime import datetime
from typing import TYPE_CHECKING, Any, TypeVar
from uuid import UUID

from prefect.client.schemas.sorting import AutomationSort, DeploymentSort, FlowRunSort
from prefect.events.schemas.automations import Automation as TheirAutomation
from prefect.exceptions import ObjectNotFound

from deployments.deploying.model import COMMAND, Automation, Deployment, Pool, ScheduleLine, Setup, Waiting
from flows.paging import all_pages
from flows.tags import fleet_tag

if TYPE_CHECKING:
    from prefect.client.orchestration import SyncPrefectClient

T = TypeVar("T")
Told = dict[str, Any]
"""A thing as the server tells of it."""


def found(client: "SyncPrefectClient", fleet: str, pool: str) -> Setup:
    """Return what one set of configurations has put there.

    Args:
        client: of the server.
        fleet: names the set.
        pool: the work pool that the set uses.
    """
    pools, queue = _pool(client, pool)
    known = _named(client, {"tags": {"all_": [fleet_tag(fleet)]}})
    ids = {f"deployment {name}": each["id"] for name, each in known.items()}
    copies: dict[str, list[str]] = {}
    automations: list[Automation] = []
    for automation in all_pages(
        lambda limit, offset: client.read_automations(sort=AutomationSort.CREATED_DESC, limit=limit, offset=offset)
    ):
        name = automation.name
        if not name.startswith(prefix(fleet)):
            continue
        if f"automation {name}" in ids:
            copies.setdefault(name, []).append(str(automation.id))
            continue
        ids[f"automation {name}"] = str(automation.id)
        automations.append(as_automation(automation))
    deployments = tuple(as_deployment(each, name.partition("/")[0], queue) for name, each in known.items())
    runs = tuple(waiting(client, fleet_tag(fleet), {each["id"]: name for name, each in known.items()}))
    return Setup(
        deployments, tuple(automations), pools, ids, runs, {name: tuple(some) for name, some in copies.items()}
    )


def strays(client: "SyncPrefectClient", names: Collection[str], fleet: str) -> dict[str, tuple[str, Deployment]]:
    """Return deployments that have a name of ours, and that this set of configurations has not put there.

    Args:
        client: of the server.
        names: full names.
        fleet: names the set.

    Returns:
        By full name: Prefect's id, and the deployment.
    """
    hit = {}
    wanted = {"name": {"any_": sorted({name.partition("/")[2] for name in names})}}
    for name, each in _named(client, wanted).items():
        if name in names and fleet_tag(fleet) not in each["tags"]:
            hit[name] = (each["id"], as_deployment(each, name.partition("/")[0], None))
    return hit


def fleet_of(deployment: Deployment) -> str | None:
    """Return the fleet that a deployment says it is of; None: it says none."""
    mark = fleet_tag("")
    return next((tag.removeprefix(mark) for tag in deployment.tags if tag.startswith(mark)), None)


def waiting(client: "SyncPrefectClient", tag: str, names: Mapping[str, str]) -> Iterator[Waiting]:
    """Give the flow runs of a fleet's deployments that were made and have not begun.

    Args:
        client: of the server.
        tag: of the fleet.
        names: of its deployments, by Prefect's id.
    """

    def ask(limit: int, offset: int) -> list[Told]:
        body = {
            "deployments": {"tags": {"all_": [tag]}},
            "flow_runs": {"state": {"type": {"any_": ["SCHEDULED", "PENDING"]}}},
            "sort": FlowRunSort.ID_DESC.value,
            "limit": limit,
            "offset": offset,
        }
        answer: list[Told] = client.request("POST", "/flow_runs/filter", json=body).json()
        return answer

    for run in all_pages(ask):
        due = run["expected_start_time"] or run["next_scheduled_start_time"]
        # A run that was started once is taken up where it was left, and is no longer about to begin.
        if run["run_count"] == 0 and due is not None and run["deployment_id"] in names:
            yield Waiting(
                id=run["id"],
                name=run["name"],
                deployment=names[run["deployment_id"]],
                state=run["state_name"],
                due=datetime.fromisoformat(due),
                parameters=run["parameters"],
                scheduled=run["auto_scheduled"],
            )


def _pool(client: "SyncPrefectClient", name: str) -> tuple[tuple[Pool, ...], str | None]:
    """Return the pool, if it is there, and the queue that it has by itself."""
    try:
        theirs = client.read_work_pool(name)
        queue = client.read_work_queue(theirs.default_queue_id)
    except ObjectNotFound:
        return (), None
    template = theirs.base_job_template
    command = template.get("job_configuration", {}).get("command") or ""
    given = template.get("variables", {}).get("properties", {}).get("command", {}).get("default") or ""
    pool = Pool(
        name=theirs.name,
        kind=theirs.type,
        paused=theirs.is_paused,
        closed=theirs.concurrency_limit == 0,
        queue_paused=queue.is_paused,
        queue_closed=queue.concurrency_limit == 0,
        command=command if command not in {"", COMMAND} else given,
    )
    return (pool,), str(queue.id)


def prefix(fleet: str) -> str:
    """Return what the names of a fleet's automations begin with: they have no tags that could be asked for."""
    return f"{fleet_tag(fleet)}: "


def as_deployment(theirs: Told, flow: str, queue: str | None) -> Deployment:
    """Return a deployment as the server tells of it.

    Args:
        theirs: its answer, as it came: Prefect's own classes take seconds to read some hundreds.
        flow: its flow's name.
        queue: the one that the pool has by itself: a deployment in it needs no other word.
    """
    limit = theirs["global_concurrency_limit"]
    mine = queue is not None and theirs["work_queue_id"] == queue
    return Deployment(
        flow=flow,
        name=theirs["name"],
        entrypoint=theirs["entrypoint"] or "",
        description=theirs["description"] or "",
        tags=tuple(sorted(theirs["tags"])),
        parameters=theirs["parameters"],
        schema=theirs["parameter_openapi_schema"] or {},
        schedules=tuple(sorted((_line(each) for each in theirs["schedules"]), key=lambda line: line.slug)),
        at_once=limit["limit"] if limit is not None else None,
        paused=theirs["paused"],
        pool=theirs["work_pool_name"] or "",
        queue="" if mine else theirs["work_queue_name"] or "",
        start={
            "enforce_parameter_schema": theirs["enforce_parameter_schema"],
            "infrastructure_document_id": theirs["infrastructure_document_id"],
            "job_variables": theirs["job_variables"],
            "path": theirs["path"] or None,
            "pull_steps": theirs["pull_steps"] or [],
            "storage_document_id": theirs["storage_document_id"],
        },
        limit=_limit(theirs),
    )


def _limit(theirs: Told) -> dict[str, object]:
    """Return how a deployment's limit works; nothing without one."""
    limit, options = theirs["global_concurrency_limit"], theirs["concurrency_options"] or {}
    if limit is None:
        return {}
    return {
        "active": limit["active"],
        "collision_strategy": options.get("collision_strategy"),
        "grace_period_seconds": options.get("grace_period_seconds"),
        "own": limit["name"] == own_limit(theirs["id"]),
        "slot_decay_per_second": limit["slot_decay_per_second"],
    }


def own_limit(deployment: UUID | str) -> str:
    """Return the name that Prefect gives to the limit of one deployment."""
    return f"deployment:{deployment}"


def _named(client: "SyncPrefectClient", wanted: Mapping[str, Any]) -> dict[str, Told]:
    """Return deployments by full name."""

    def ask(limit: int, offset: int) -> list[Told]:
        body = {"deployments": wanted, "sort": DeploymentSort.CREATED_DESC.value, "limit": limit, "offset": offset}
        answer: list[Told] = client.request("POST", "/deployments/filter", json=body).json()
        return answer

    flows: dict[str, str] = {}
    named = {}
    for theirs in all_pages(ask):
        flow = theirs["flow_id"]
        if flow not in flows:
            flows[flow] = client.read_flow(UUID(flow)).name
        named[f"{flows[flow]}/{theirs['name']}"] = theirs
    return named


def _line(theirs: Told) -> ScheduleLine:
    schedule = theirs["schedule"]
    line = ScheduleLine(
        slug=theirs["slug"] or "",
        rule="",
        zone=schedule.get("timezone") or "UTC",
        active=theirs["active"],
        parameters=theirs["parameters"],
        most=theirs["max_scheduled_runs"],
    )
    match schedule:
        case {"rrule": rule}:
            return replace(line, rule=rule)
        case {"interval": seconds, "anchor_date": anchor}:
            return replace(line, every=float(seconds), anchor=datetime.fromisoformat(anchor))
        case {"cron": cron}:  # somebody's own: never ours
            return replace(line, rule=f"cron {cron}")
        case _:
            return replace(line, rule=", ".join(schedule))


def as_automation(theirs: TheirAutomation) -> Automation:
    """Return an automation as the server tells of it."""
    return Automation(
        name=theirs.name,
        description=theirs.description,
        trigger=said(theirs.trigger.model_dump(mode="json")),
        actions=tuple(said(action.model_dump(mode="json")) for action in theirs.actions),
        enabled=theirs.enabled,
        at_trigger=tuple(said(action.model_dump(mode="json")) for action in theirs.actions_on_trigger),
        at_resolve=tuple(said(action.model_dump(mode="json")) for action in theirs.actions_on_resolve),
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
