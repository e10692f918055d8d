"""The actual state: the objects in Prefect, converted into the types of model.py."""

from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import replace
from datetime import datetime
from typing import Any, Literal
from uuid import UUID

from prefect.client.orchestration import SyncPrefectClient
from prefect.client.schemas.filters import FlowFilter, FlowFilterId
from prefect.client.schemas.objects import WorkQueue
from prefect.client.schemas.sorting import AutomationSort, DeploymentSort, FlowRunSort, FlowSort
from prefect.events.actions import ActionTypes
from prefect.events.schemas.automations import Automation as TheirAutomation
from prefect.exceptions import ObjectNotFound

from deployments.configuration.prefect_names import ASSESSMENT_QUEUE
from deployments.sync.model import Automation, Deployment, DeploymentSet, ScheduleSpec, WaitingFlowRun, WorkPool
from flows.prefect_api.api_client import read_all_pages
from flows.prefect_api.tags import MANAGED_TAG, build_fleet_tag, build_limit_name, find_tagged_sites
from inventory.machine import DEFAULT_SITE

PrefectJson = dict[str, Any]
"""An object in the server's JSON."""


def read_actual_state(client: SyncPrefectClient, fleet: str, pool_names: Sequence[str]) -> DeploymentSet:
    """Return the Prefect objects of one fleet, with the pools of its sites."""
    read_pools = [_read_pool(client, pool_name) for pool_name in pool_names]
    default_queues = {queue for _, queue in read_pools if queue is not None}
    deployments_by_name = _read_deployments(client, {"tags": {"all_": [build_fleet_tag(fleet)]}})
    names = {row["id"]: name for name, row in deployments_by_name.items()}
    ids = {f"deployment {name}": deployment_id for deployment_id, name in names.items()}
    copies: dict[str, list[str]] = {}
    automations: list[Automation] = []
    for automation in read_all_pages(
        lambda limit, offset: client.read_automations(sort=AutomationSort.CREATED_DESC, limit=limit, offset=offset)
    ):
        name = automation.name
        if not name.startswith(build_automation_prefix(fleet)):
            continue
        if f"automation {name}" in ids:
            copies.setdefault(name, []).append(str(automation.id))
            continue
        ids[f"automation {name}"] = str(automation.id)
        automations.append(to_automation(automation))
    return DeploymentSet(
        deployments=tuple(
            to_deployment(row, name.partition("/")[0], default_queues) for name, row in deployments_by_name.items()
        ),
        automations=tuple(automations),
        pools=tuple(pool for pools, _ in read_pools for pool in pools),
        prefect_ids=ids,
        waiting_runs=tuple(read_waiting_runs(client, build_fleet_tag(fleet), names)),
        duplicate_automations={name: tuple(copy_ids) for name, copy_ids in copies.items()},
    )


def find_foreign_deployments(client: SyncPrefectClient, names: Collection[str], fleet: str) -> dict[str, Deployment]:
    """Return the deployments that have one of these names and do not belong to this fleet, by full name."""
    if not names:
        return {}
    name_filter = {"name": {"any_": sorted({name.partition("/")[2] for name in names})}}
    return {
        name: to_deployment(answer, name.partition("/")[0], ())
        for name, answer in _read_deployments(client, name_filter).items()
        if name in names and build_fleet_tag(fleet) not in answer["tags"]
    }


def find_foreign_sites(client: SyncPrefectClient, pools: Collection[str], fleet: str) -> dict[str, list[str]]:
    """Return the sites whose runs other fleets start in these work pools, by the name of the pool."""
    body = {
        "deployments": {"tags": {"all_": [MANAGED_TAG]}},
        "work_pools": {"name": {"any_": sorted(pools)}},
        "sort": DeploymentSort.CREATED_DESC.value,
    }
    sites_by_pool: dict[str, set[str]] = {}
    for deployment in _read_objects(client, "/deployments/filter", body):
        if build_fleet_tag(fleet) not in deployment["tags"]:
            sites = find_tagged_sites(deployment["tags"]) or [DEFAULT_SITE]
            sites_by_pool.setdefault(deployment["work_pool_name"], set()).update(sites)
    return {pool: sorted(sites) for pool, sites in sites_by_pool.items()}


def read_waiting_runs(client: SyncPrefectClient, tag: str, names: Mapping[str, str]) -> Iterator[WaitingFlowRun]:
    """Yield the flow runs of a fleet's deployments (full names by Prefect's id) that have not started."""
    body = {
        "deployments": {"tags": {"all_": [tag]}},
        "flow_runs": {"state": {"type": {"any_": ["SCHEDULED", "PENDING"]}}},
        "sort": FlowRunSort.ID_DESC.value,
    }
    for run in _read_objects(client, "/flow_runs/filter", body):
        expected_start = run["expected_start_time"] or run["next_scheduled_start_time"]
        # A run with run_count > 0 has started before and is a resumed run.
        if run["run_count"] == 0 and expected_start is not None and run["deployment_id"] in names:
            yield WaitingFlowRun(
                id=run["id"],
                name=run["name"],
                deployment=names[run["deployment_id"]],
                state=run["state_name"],
                expected_start=datetime.fromisoformat(expected_start),
                parameters=run["parameters"],
                is_scheduled=run["auto_scheduled"],
            )


def _read_pool(client: SyncPrefectClient, name: str) -> tuple[tuple[WorkPool, ...], str | None]:
    """Return the pool, if it exists, and the name of its default queue."""
    try:
        answer = client.read_work_pool(name)
        queue = client.read_work_queue(answer.default_queue_id)
    except ObjectNotFound:
        return (), None
    second = find_assessment_queue(client, name)
    pool = WorkPool(
        name=answer.name,
        kind=answer.type,
        paused=answer.is_paused,
        closed=answer.concurrency_limit == 0,
        queue_paused=queue.is_paused,
        queue_closed=queue.concurrency_limit == 0,
        has_assessment_queue=second is not None,
        assessments_paused=second is not None and second.is_paused,
        assessments_closed=second is not None and second.concurrency_limit == 0,
        windows_first=second is None or queue.priority < second.priority,
        template=answer.base_job_template,
    )
    return (pool,), str(queue.id)


def find_assessment_queue(client: SyncPrefectClient, pool: str) -> WorkQueue | None:
    """Return the second queue of a work pool, or None."""
    with suppress(ObjectNotFound):
        return client.read_work_queue_by_name(ASSESSMENT_QUEUE, work_pool_name=pool)
    return None


def build_automation_prefix(fleet: str) -> str:
    """Return the prefix of the names of a fleet's automations. Automations have no tags to filter by."""
    return f"{build_fleet_tag(fleet)}: "


def to_deployment(answer: PrefectJson, flow: str, default_queues: Collection[str]) -> Deployment:
    """Return a deployment from the server's answer.

    Prefect's own classes need seconds for some hundred deployments. A deployment in one of ``default_queues`` (ids of
    the pools' default queues) has an empty queue name.
    """
    limit = answer["global_concurrency_limit"]
    is_default_queue = answer["work_queue_id"] in default_queues
    return Deployment(
        flow=flow,
        name=answer["name"],
        entrypoint=answer["entrypoint"] or "",
        description=answer["description"] or "",
        tags=tuple(sorted(answer["tags"])),
        parameters=answer["parameters"],
        schema=answer["parameter_openapi_schema"] or {},
        schedules=tuple(
            sorted(
                (_to_deployment_schedule(schedule_row) for schedule_row in answer["schedules"]),
                key=lambda line: line.slug,
            )
        ),
        at_once=limit["limit"] if limit is not None else None,
        paused=answer["paused"],
        pool=answer["work_pool_name"] or "",
        queue="" if is_default_queue else answer["work_queue_name"] or "",
        start={
            "enforce_parameter_schema": answer["enforce_parameter_schema"],
            "infrastructure_document_id": answer["infrastructure_document_id"],
            "job_variables": answer["job_variables"],
            "path": answer["path"] or None,
            "pull_steps": answer["pull_steps"] or [],
            "storage_document_id": answer["storage_document_id"],
        },
        limit=_to_limit(answer),
    )


def _to_limit(answer: PrefectJson) -> dict[str, object]:
    """Return the settings of a deployment's concurrency limit; an empty dict if it has none."""
    limit, options = answer["global_concurrency_limit"], answer["concurrency_options"] or {}
    if limit is None:
        return {}
    return {
        "active": limit["active"],
        "collision_strategy": options.get("collision_strategy"),
        "grace_period_seconds": options.get("grace_period_seconds"),
        "own": limit["name"] == build_limit_name(answer["id"]),
        "slot_decay_per_second": limit["slot_decay_per_second"],
    }


def _read_deployments(client: SyncPrefectClient, deployment_filter: Mapping[str, Any]) -> dict[str, PrefectJson]:
    """Return deployments by full name."""
    body = {"deployments": deployment_filter, "sort": DeploymentSort.CREATED_DESC.value}
    deployments = list(_read_objects(client, "/deployments/filter", body))
    flow_names = _read_flow_names(client, {deployment["flow_id"] for deployment in deployments})
    return {
        f"{flow_names[deployment['flow_id']]}/{deployment['name']}": deployment
        for deployment in deployments
        if deployment["flow_id"] in flow_names  # a flow that is deleted meanwhile takes its deployments with it
    }


def _read_flow_names(client: SyncPrefectClient, flow_ids: Collection[str]) -> dict[str, str]:
    """Return the names of flows by their ids: of all in one request."""
    if not flow_ids:
        return {}
    flow_filter = FlowFilter(id=FlowFilterId(any_=[UUID(flow_id) for flow_id in sorted(flow_ids)]))
    flows = read_all_pages(
        lambda limit, offset: client.read_flows(
            flow_filter=flow_filter, sort=FlowSort.NAME_ASC, limit=limit, offset=offset
        )
    )
    return {str(flow.id): flow.name for flow in flows}


def _read_objects(
    client: SyncPrefectClient, path: Literal["/deployments/filter", "/flow_runs/filter"], body: Mapping[str, Any]
) -> Iterator[PrefectJson]:
    """Return all objects that match a filter. The filter gives their order."""

    def read_page(limit: int, offset: int) -> list[PrefectJson]:
        answer: list[PrefectJson] = client.request("POST", path, json={**body, "limit": limit, "offset": offset}).json()
        return answer

    return read_all_pages(read_page)


def _to_deployment_schedule(answer: PrefectJson) -> ScheduleSpec:
    schedule = answer["schedule"]
    deployment_schedule = ScheduleSpec(
        slug=answer["slug"] or "",
        rule="",
        zone=schedule.get("timezone") or "UTC",
        active=answer["active"],
        parameters=answer["parameters"],
        most=answer["max_scheduled_runs"],
    )
    match schedule:
        case {"rrule": rule}:
            return replace(deployment_schedule, rule=rule)
        case {"interval": seconds, "anchor_date": anchor}:
            return replace(deployment_schedule, every=float(seconds), anchor=datetime.fromisoformat(anchor))
        case {"cron": cron}:  # a schedule that a person made: fleetpatch makes no cron schedules
            return replace(deployment_schedule, rule=f"cron {cron}")
        case _:
            return replace(deployment_schedule, rule=", ".join(schedule))


def to_automation(answer: TheirAutomation) -> Automation:
    """Return an automation from the server's answer."""

    def normalize(actions: Sequence[ActionTypes]) -> tuple[dict[str, object], ...]:
        return tuple(normalize_automation_part(action.model_dump(mode="json")) for action in actions)

    return Automation(
        name=answer.name,
        description=answer.description,
        trigger=normalize_automation_part(answer.trigger.model_dump(mode="json")),
        actions=normalize(answer.actions),
        enabled=answer.enabled,
        at_trigger=normalize(answer.actions_on_trigger),
        at_resolve=normalize(answer.actions_on_resolve),
    )


def normalize_automation_part(document: Mapping[str, Any]) -> dict[str, object]:
    """Return a part of an automation without ids and empty values, and with sorted sets."""
    values: dict[str, object] = {}
    for key, value in document.items():
        if key == "id" or value in (None, {}, []):
            continue
        if isinstance(value, Mapping):
            inner = normalize_automation_part(value)
            if inner:
                values[key] = inner
        elif isinstance(value, list) and all(isinstance(element, str) for element in value):
            values[key] = sorted(value)
        elif isinstance(value, list):
            values[key] = [
                normalize_automation_part(element) if isinstance(element, Mapping) else element for element in value
            ]
        else:
            values[key] = value
    return values
