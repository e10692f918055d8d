"""doctor --server: reads a snapshot from a Prefect server and checks it. It changes nothing there."""

import asyncio
import logging
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from email.utils import parsedate_to_datetime
from importlib.metadata import version
from typing import Any, Final, Literal, TypeVar

import prefect
from prefect.client.orchestration import SyncPrefectClient
from prefect.client.schemas.sorting import DeploymentSort, FlowRunSort
from prefect.exceptions import PrefectHTTPStatusError
from prefect.server.schemas.schedules import SCHEDULE_TYPES
from pydantic import BaseModel, TypeAdapter

from deployments.server.client import ServerUnavailable, open_server_client
from deployments.server.health_checks import run_server_checks
from deployments.server.snapshot import (
    REFRESH_FLOW,
    DeploymentInfo,
    FlowRunInfo,
    RunLeaseState,
    RunningFlowRun,
    ScheduleInfo,
    ScheduleStatus,
    ServerSnapshot,
    WorkerInfo,
    WorkPoolInfo,
    WorkQueueInfo,
)
from flows.prefect_api.api_client import read_all_pages
from flows.prefect_api.tags import find_tagged_sites, serves_fleet
from flows.recovery.flow_runs import RUN_FLOW_NAMES
from flows.recovery.unfinished_runs import find_run_of_flow_run
from inventory.machine import DEFAULT_SITE
from tasks.domain.errors import RecordsError
from tasks.domain.model import Finding, RunInfo
from tasks.domain.states import UNFINISHED_RUN_STATES, FindingLevel, OperationState, WindowStatus
from tasks.records.fleets import find_fleet
from tasks.records.maintenance import SqlMaintenance
from tasks.records.setup import open_records
from tasks.records.sql_records import SqlRecords
from tasks.records.window_claims import SqlWindowClaims
from tasks.rules.timing.admission import WindowClaim

logger = logging.getLogger(__name__)

LOOKBACK_PERIOD: Final = timedelta(days=7)
_NEWEST_FLOW_RUNS: Final = 20
"""So many flow runs of a site are looked up in the records. One that failed before its run began is not there."""
HEARTBEAT_PERIOD: Final = timedelta(minutes=10)
_FOREIGN_NAME: Final = "rebound.invalid"  # no server can have this name: RFC 2606
_IN_ORDER = {"sort": DeploymentSort.CREATED_DESC.value}  # by default the server sorts by names, which are not unique
_SCHEDULE_ADAPTER: TypeAdapter[SCHEDULE_TYPES] = TypeAdapter(SCHEDULE_TYPES)
_InfoType = TypeVar("_InfoType", bound=BaseModel)
_FilterPath = Literal[
    "/deployments/filter",
    "/flow_runs/filter",
    "/flows/filter",
    "/work_pools/filter",
    "/work_pools/{work_pool_name}/queues/filter",
    "/work_pools/{work_pool_name}/workers/filter",
]


def check_server(records_url: str | None = None, *, sites: Collection[str] = ()) -> tuple[Finding, ...]:
    """Return the findings of all checks of the configured server; one blocking finding if it does not answer."""
    try:
        return run_server_checks(replace(probe_server(records_url), inventory_sites=frozenset(sites)))
    except ServerUnavailable as error:
        return (Finding("server", FindingLevel.BLOCK, error.message, error.hint),)


def probe_server(records_url: str | None = None, *, now: datetime | None = None) -> ServerSnapshot:
    """Read everything that doctor checks. Raise ServerUnavailable if the server can't be used."""
    with open_server_client() as client:
        skew, server_version = _read_clock_and_version(client)
        now = now or datetime.now(UTC)
        deployments = tuple(_read_objects(client, "/deployments/filter", _IN_ORDER, DeploymentInfo))
        names = {flow_row["id"]: str(flow_row["name"]) for flow_row in _read_rows(client, "/flows/filter", {})}
        pools = tuple(_read_objects(client, "/work_pools/filter", {}, WorkPoolInfo))
        workers_path: _FilterPath = "/work_pools/{work_pool_name}/workers/filter"
        queues_path: _FilterPath = "/work_pools/{work_pool_name}/queues/filter"
        managed_ids = {flow_row.id for flow_row in deployments if flow_row.is_managed}
        return ServerSnapshot(
            now=now,
            url=str(client.api_url),
            version=server_version,
            client_version=prefect.__version__,
            clock_skew=skew,
            settings=_read_settings(client),
            answers_anyone=_is_answered(client, "/admin/version", {"Authorization": ""}),
            answers_any_name=_is_answered(client, "/health", {"Host": _FOREIGN_NAME}),
            deployments=deployments,
            schedule_statuses=tuple(_find_schedule_statuses(client, deployments, now)),
            pools=pools,
            workers={
                pool.name: tuple(_read_objects(client, workers_path, {}, WorkerInfo, work_pool_name=pool.name))
                for pool in pools
            },
            queues={
                pool.name: tuple(_read_objects(client, queues_path, {}, WorkQueueInfo, work_pool_name=pool.name))
                for pool in pools
            },
            running_runs=_read_running_runs(client, managed_ids, now, records_url),
            pending_runs=_read_runs(client, managed_ids, {"state": {"type": {"any_": ["PENDING"]}}}),
            late_runs=_read_runs(client, managed_ids, {"state": {"name": {"any_": ["Late"]}}}),
            runs_over_limit=_read_runs_over_limit(client, managed_ids, now),
            missed_windows=_read_missed_windows(now, records_url),
            held_looks=_read_held_looks(records_url),
            own_version=version("fleetpatch"),
            site_runs=_read_site_runs(client, deployments, names, now, records_url),
            flow_names=names,
            refreshed_at=dict(
                _read_refreshes(client, [d for d in deployments if names.get(d.flow_id) == REFRESH_FLOW])
            ),
        )


def _read_refreshes(client: SyncPrefectClient, deployments: Sequence[DeploymentInfo]) -> Iterator[tuple[str, datetime]]:
    """Yield the id of each deployment of refresh-schedules that completed, and when it did so last."""
    for deployment in deployments:
        body = {
            "deployments": {"id": {"any_": [deployment.id]}},
            "flow_runs": {"state": {"type": {"any_": ["COMPLETED"]}}},
            "sort": FlowRunSort.END_TIME_DESC.value,
            "limit": 1,
        }
        for row in client.request("POST", "/flow_runs/filter", json=body).json():
            yield deployment.id, FlowRunInfo.model_validate(row).state.timestamp


def _read_site_runs(
    client: SyncPrefectClient,
    deployments: Sequence[DeploymentInfo],
    flow_names: Mapping[str, str],
    now: datetime,
    records_url: str | None,
) -> dict[str, RunInfo | None]:
    """Return the newest run that workers executed, by each site of this fleet; None if the records have none.

    If the records can't be read, each site has None; another check of doctor reports why.
    """
    ids_by_site: dict[str, set[str]] = {}
    for deployment in deployments:
        if deployment.is_managed and serves_fleet(deployment.tags, find_fleet()):
            for site in find_tagged_sites(deployment.tags) or [DEFAULT_SITE]:
                ids = ids_by_site.setdefault(site, set())
                ids |= {deployment.id} if flow_names.get(deployment.flow_id) in RUN_FLOW_NAMES else set()
    newest_runs: dict[str, RunInfo | None] = dict.fromkeys(ids_by_site)
    try:
        with open_records(records_url) as records:
            for site, ids in ids_by_site.items():
                body = {
                    "deployments": {"id": {"any_": sorted(ids)}},
                    "flow_runs": {"start_time": {"after_": (now - LOOKBACK_PERIOD).isoformat()}},
                    "sort": FlowRunSort.START_TIME_DESC.value,
                    "limit": _NEWEST_FLOW_RUNS,
                }
                rows = client.request("POST", "/flow_runs/filter", json=body).json() if ids else []
                runs = (_find_run(records, FlowRunInfo.model_validate(row)) for row in rows)
                newest_runs[site] = next((run for run in runs if run is not None and _tells_version(run, site)), None)
    except RecordsError as error:
        logger.info("our records can't be asked: %s", error.message)
    return newest_runs


def _tells_version(run: RunInfo, site: str) -> bool:
    """Return whether a run tells which version executes a site's runs. An older fleetpatch wrote none: unknown."""
    return run.site == site and (run.version != "" or run.state is not OperationState.NOT_STARTED)


def _find_run(records: SqlRecords, flow_run: FlowRunInfo) -> RunInfo | None:
    """Return the run that a flow run has begun or resumed; None if the records have none."""
    return find_run_of_flow_run(records, str(flow_run.parameters.get("run_id") or flow_run.id), flow_run.id)


def _read_clock_and_version(client: SyncPrefectClient) -> tuple[timedelta | None, str]:
    """Return how far the server's clock is ahead of the controller's, to one second, and the server's version."""
    before = datetime.now(UTC)
    answer = client.request("GET", "/admin/version")
    middle = before + (datetime.now(UTC) - before) / 2
    version = str(answer.json())
    date = answer.headers.get("date")
    if date is None:
        return None, version
    server_time = parsedate_to_datetime(date)
    # The Date header has whole seconds. On average, half a second is lost.
    return server_time + timedelta(seconds=0.5) - middle, version


def _read_settings(client: SyncPrefectClient) -> Mapping[str, Any] | None:
    try:
        answer = client.request("GET", "/admin/settings").json()
    except PrefectHTTPStatusError as error:
        logger.info("the server does not tell its settings: status %d", error.response.status_code)
        return None
    return answer if isinstance(answer, dict) else None


def _is_answered(
    client: SyncPrefectClient, path: Literal["/admin/version", "/health"], headers: Mapping[str, str]
) -> bool:
    """Return whether the server, and not a proxy's page, answers a request with other headers."""
    try:
        answer = client.request("GET", path, headers=dict(headers))
    except PrefectHTTPStatusError:
        return False
    return bool(answer.headers.get("content-type", "").startswith("application/json"))


def _read_rows(
    client: SyncPrefectClient, path: _FilterPath, body: Mapping[str, Any], **path_params: str
) -> Iterator[dict[str, Any]]:
    """Return all objects that match a filter."""

    def read_page(limit: int, offset: int) -> list[dict[str, Any]]:
        page = {**body, "limit": limit, "offset": offset}
        rows: list[dict[str, Any]] = client.request("POST", path, path_params=path_params, json=page).json()
        return rows

    return read_all_pages(read_page)


def _read_objects(
    client: SyncPrefectClient,
    path: _FilterPath,
    body: Mapping[str, Any],
    info_class: type[_InfoType],
    **path_params: str,
) -> Iterator[_InfoType]:
    for row in _read_rows(client, path, body, **path_params):
        yield info_class.model_validate(row)


def _read_runs(
    client: SyncPrefectClient, deployment_ids: set[str], run_filter: Mapping[str, Any]
) -> tuple[FlowRunInfo, ...]:
    """Return the flow runs of these deployments."""
    if not deployment_ids:
        return ()
    body = {"flow_runs": run_filter, "deployments": {"id": {"any_": sorted(deployment_ids)}}}
    return tuple(_read_objects(client, "/flow_runs/filter", body, FlowRunInfo))


def _read_runs_of_commands(client: SyncPrefectClient, run_filter: Mapping[str, Any]) -> Iterator[FlowRunInfo]:
    """Return the flow runs that commands and Python programs have begun: they have no deployment."""
    body = {
        "flow_runs": {**run_filter, "deployment_id": {"is_null_": True}},
        "flows": {"name": {"any_": list(RUN_FLOW_NAMES)}},
    }
    return _read_objects(client, "/flow_runs/filter", body, FlowRunInfo)


def _find_schedule_statuses(
    client: SyncPrefectClient, deployments: Sequence[DeploymentInfo], now: datetime
) -> Iterator[ScheduleStatus]:
    for deployment in deployments:
        if not deployment.active_schedules:
            continue
        future_filter = {"state": {"type": {"any_": ["SCHEDULED"]}}, "expected_start_time": {"after_": now.isoformat()}}
        runs = _read_runs(client, {deployment.id}, future_filter)
        creator_ids = [run.created_by.get("id") for run in runs if run.created_by is not None]
        for schedule in deployment.active_schedules:
            run_count = creator_ids.count(schedule.id)
            date, fault = (None, "") if run_count else compute_next_date(schedule, now)
            yield ScheduleStatus(deployment, schedule, run_count, date, fault)


def compute_next_date(schedule: ScheduleInfo, now: datetime) -> tuple[datetime | None, str]:
    """Return the next date of a schedule, computed with Prefect's code. On an error, return None and its message."""
    try:
        rule = _SCHEDULE_ADAPTER.validate_python(dict(schedule.schedule))
        dates = asyncio.run(rule.get_dates(n=1, start=now))
    except (ValueError, TypeError) as error:  # a ValidationError is a ValueError
        return None, f"its schedule can't be read: {str(error).splitlines()[0]}"
    return (dates[0] if dates else None), ""


def _read_runs_over_limit(
    client: SyncPrefectClient, deployment_ids: set[str], now: datetime
) -> tuple[FlowRunInfo, ...]:
    since = {"after_": (now - LOOKBACK_PERIOD).isoformat()}
    run_filter = {"state": {"type": {"any_": ["CANCELLED"]}}, "expected_start_time": since}
    return tuple(
        run
        for run in _read_runs(client, deployment_ids, run_filter)
        if "concurrency limit" in (run.state.message or "").lower()
    )


def _read_missed_windows(now: datetime, records_url: str | None) -> tuple[WindowClaim, ...]:
    """Return the windows of the last days without a run. If the records can't be read, return none."""
    try:
        with open_records(records_url) as records:
            claims_between = SqlWindowClaims(records.database).find_claims_between(now - LOOKBACK_PERIOD, now)
    except RecordsError as error:
        logger.info("our records can't be asked: %s", error.message)
        return ()
    return tuple(claim for claim in claims_between if claim.status is WindowStatus.MISSED)


def _read_held_looks(records_url: str | None) -> Mapping[str, datetime | None] | None:
    """Return when maintenance control last looked at each group, by its name. If the records can't be read: None."""
    try:
        with open_records(records_url) as records:
            groups = SqlMaintenance(records.database).read_groups()
    except RecordsError as error:
        logger.info("our records can't be asked: %s", error.message)
        return None
    return {name: group.state.looked_at for name, group in groups.items() if group.removed_at is None}


def _read_running_runs(
    client: SyncPrefectClient, deployment_ids: set[str], now: datetime, records_url: str | None
) -> tuple[RunningFlowRun, ...]:
    running = {"state": {"type": {"any_": ["RUNNING", "CANCELLING"]}}}
    runs = (*_read_runs(client, deployment_ids, running), *_read_runs_of_commands(client, running))
    lease_states = _find_lease_states(runs, records_url)
    return tuple(
        RunningFlowRun(
            run, state, None if state is RunLeaseState.HELD else _has_recent_heartbeat(client, run.id, now), run_id
        )
        for run in runs
        for state, run_id in [lease_states.get(run.id, (RunLeaseState.UNKNOWN, ""))]
    )


def _find_lease_states(
    flow_runs: Sequence[FlowRunInfo], records_url: str | None
) -> dict[str, tuple[RunLeaseState, str]]:
    """Return the lease state of each run. Without records, it is unknown; another check of doctor reports that."""
    if not flow_runs:
        return {}
    states = {}
    try:
        with open_records(records_url) as records:
            abandoned_ids = {leaseless_run.run_id for leaseless_run in records.leases.find_leaseless_runs()}
            for flow_run in flow_runs:
                run = _find_run(records, flow_run)
                if run is None:
                    continue
                if run.state not in UNFINISHED_RUN_STATES:
                    states[flow_run.id] = (RunLeaseState.ENDED, run.id)
                    continue
                if not run.may_change_machines:
                    continue
                lease = records.leases.find_lease(run.id)
                is_held = lease is not None and lease.is_held
                state = (
                    RunLeaseState.HELD
                    if is_held
                    else RunLeaseState.ABANDONED
                    if run.id in abandoned_ids
                    else RunLeaseState.ENDED
                )
                states[flow_run.id] = (state, run.id)
    except RecordsError as error:
        logger.info("our records can't be asked: %s", error.message)
    return states


def _has_recent_heartbeat(client: SyncPrefectClient, flow_run_id: str, now: datetime) -> bool:
    """Return whether a flow run sent a heartbeat recently."""
    since, until = now - HEARTBEAT_PERIOD, now + timedelta(minutes=1)
    event_filter = {
        "occurred": {"since": since.isoformat(), "until": until.isoformat()},
        "event": {"name": ["prefect.flow-run.heartbeat"]},
        "resource": {"id": [f"prefect.flow-run.{flow_run_id}"]},
    }
    return bool(client.request("POST", "/events/filter", json={"filter": event_filter, "limit": 1}).json()["events"])
