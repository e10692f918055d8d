"""Asks a Prefect server how it stands. Changes nothing there."""

import asyncio
import logging
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from email.utils import parsedate_to_datetime
from typing import Any, Final, Literal, TypeVar

import httpx
import prefect
from prefect.client.orchestration import SyncPrefectClient, get_client
from prefect.exceptions import PrefectHTTPStatusError
from prefect.server.schemas.schedules import SCHEDULE_TYPES
from prefect.settings import PREFECT_CLIENT_MAX_RETRIES, get_current_settings, temporary_settings
from pydantic import BaseModel, TypeAdapter, ValidationError

from deployments.server.view import (
    Carried,
    DeploymentTold,
    PoolTold,
    RunningRun,
    RunTold,
    ScheduleTold,
    ServerView,
    Upcoming,
    WorkerTold,
)
from flows.cli.exits import CannotRun
from flows.server_settings import HEALTHY
from tasks.errors import RecordsError
from tasks.records.history import History
from tasks.records.occurrences import SqlOccurrences
from tasks.records.opening import open_records
from tasks.rules.admission import Occurrence, Standing

logger = logging.getLogger(__name__)

PAGE: Final = 200  # the most that the server gives at once
MOST_PAGES: Final = 50
ASK_SECONDS: Final = 15.0
LOOK_BACK: Final = timedelta(days=7)
HEARTBEATS_WITHIN: Final = timedelta(minutes=10)
_TOP_LEVEL = {"parent_task_run_id": {"is_null_": True}}
_SCHEDULES: TypeAdapter[SCHEDULE_TYPES] = TypeAdapter(SCHEDULE_TYPES)
_Told = TypeVar("_Told", bound=BaseModel)
_Filter = Literal[
    "/deployments/filter",
    "/flow_runs/filter",
    "/flows/filter",
    "/work_pools/filter",
    "/work_pools/{work_pool_name}/workers/filter",
]


class ServerAway(CannotRun):
    """The server can't be asked."""


@contextmanager
def client_of_server(retries: int = 0) -> Iterator[SyncPrefectClient]:
    """Give a client of the server that is configured; never of one that Prefect would start for us.

    Args:
        retries: how often it asks again when the server is busy or away.

    Raises:
        ServerAway: none is configured, it doesn't answer, refuses us, or answers what can't be understood.
    """
    settings = get_current_settings()
    if not settings.api.url:
        raise ServerAway(
            "PREFECT_API_URL is not set: it is not known which server to ask",
            hint="Start one with `fleetpatch server`; it says what to export.",
        )
    try:
        url = httpx.URL(str(settings.api.url))
    except httpx.InvalidURL as error:
        raise ServerAway(
            f"PREFECT_API_URL is no URL: {error}", hint="Write it as http://127.0.0.1:4200/api."
        ) from error
    shown = str(url.copy_with(userinfo=b"", query=None))
    try:
        with temporary_settings({PREFECT_CLIENT_MAX_RETRIES: retries}):
            client = get_client(httpx_settings={"timeout": ASK_SECONDS}, sync_client=True)
            with client:
                _check_health(client.request("GET", "/health"), shown)
                yield client
    except PrefectHTTPStatusError as error:
        raise _refused(shown, error) from error
    except httpx.HTTPError as error:
        raise ServerAway(
            f"the Prefect server at {shown} does not answer: {type(error).__name__}",
            hint="Start it (fleetpatch server), or correct PREFECT_API_URL.",
        ) from error
    except ValidationError as error:
        raise ServerAway(
            f"the Prefect server at {shown} answers what can't be understood: {error.errors()[0]['msg']}",
            hint="Is it of the same release as this one?",
        ) from error


def _check_health(answer: httpx.Response, url: str) -> None:
    """Refuse to go on with what is no Prefect server: a proxy's page, say, is answered with status 200 as well.

    Raises:
        ServerAway: it is none.
    """
    if answer.content.strip() != HEALTHY:
        kind = answer.headers.get("content-type", "nothing that has a type").partition(";")[0]
        raise ServerAway(
            f"what answers at {url} is no Prefect server: asked for its health it answers {kind:.100}",
            hint="Is PREFECT_API_URL right (…/api)? A proxy before the server has to pass on what is below /api.",
        )


def look_at_server(records_url: str | None = None, *, now: datetime | None = None) -> ServerView:
    """Ask the server everything that doctor judges.

    Args:
        records_url: where our own runs are remembered; None: as usual.
        now: our clock.

    Raises:
        ServerAway: it can't be asked.
    """
    with client_of_server() as client:
        skew, version = _clock_and_version(client)
        now = now or datetime.now(UTC)
        deployments = tuple(_all(client, "/deployments/filter", {}, DeploymentTold))
        names = {each["id"]: str(each["name"]) for each in _rows(client, "/flows/filter", {})}
        pools = tuple(_all(client, "/work_pools/filter", {}, PoolTold))
        ours = {each.id for each in deployments if each.ours}
        return ServerView(
            now=now,
            url=str(client.api_url),
            version=version,
            our_version=prefect.__version__,
            skew=skew,
            settings=_settings(client),
            deployments=deployments,
            upcoming=tuple(_upcoming(client, deployments, now)),
            pools=pools,
            workers={each.name: _workers(client, each.name) for each in pools},
            running=_running(client, ours, now, records_url),
            pending=_runs(client, ours, {"state": {"type": {"any_": ["PENDING"]}}}),
            late=_runs(client, ours, {"state": {"name": {"any_": ["Late"]}}}),
            limited=_limited(client, ours, now),
            missed=_missed(now, records_url),
            names=names,
        )


def _refused(url: str, error: PrefectHTTPStatusError) -> ServerAway:
    status = error.response.status_code
    if status in {401, 403}:
        return ServerAway(
            f"the Prefect server at {url} asks for a password, and ours is not the right one",
            hint="Set PREFECT_API_AUTH_STRING=user:password to what the server has as PREFECT_SERVER_API_AUTH_STRING.",
        )
    if status in {409, 422}:
        return ServerAway(
            f"the Prefect server at {url} refuses what it was told (status {status}): {error.response.text[:500]}",
            hint="Is it of the same release as this one?",
        )
    if status >= 500:
        return ServerAway(
            f"the Prefect server at {url} fails (status {status})",
            hint="Its log says why. A busy SQLite database is the usual reason: take PostgreSQL (docs/server.md).",
        )
    return ServerAway(
        f"the Prefect server at {url} answers with status {status}", hint="Is PREFECT_API_URL right (…/api)?"
    )


def _clock_and_version(client: SyncPrefectClient) -> tuple[timedelta | None, str]:
    """Return how far its clock is ahead of ours, to a second, and its version."""
    before = datetime.now(UTC)
    answer = client.request("GET", "/admin/version")
    middle = before + (datetime.now(UTC) - before) / 2
    version = str(answer.json())
    date = answer.headers.get("date")
    if date is None:
        return None, version
    told = parsedate_to_datetime(date)
    # The header is cut to whole seconds: half a second is what is lost on the average.
    return told + timedelta(seconds=0.5) - middle, version


def _settings(client: SyncPrefectClient) -> Mapping[str, Any] | None:
    try:
        answer = client.request("GET", "/admin/settings").json()
    except PrefectHTTPStatusError as error:
        logger.info("the server does not tell its settings: status %d", error.response.status_code)
        return None
    return answer if isinstance(answer, dict) else None


def _rows(client: SyncPrefectClient, path: _Filter, body: Mapping[str, Any], **place: str) -> Iterator[dict[str, Any]]:
    """Yield everything that a filter finds."""
    for page in range(MOST_PAGES):
        rows = client.request(
            "POST", path, path_params=place, json={**body, "limit": PAGE, "offset": page * PAGE}
        ).json()
        yield from rows
        if len(rows) < PAGE:
            return


def _all(
    client: SyncPrefectClient, path: _Filter, body: Mapping[str, Any], kind: type[_Told], **place: str
) -> Iterator[_Told]:
    for row in _rows(client, path, body, **place):
        yield kind.model_validate(row)


def _runs(client: SyncPrefectClient, deployments: set[str], wanted: Mapping[str, Any]) -> tuple[RunTold, ...]:
    """Return flow runs of some deployments."""
    if not deployments:
        return ()
    body = {"flow_runs": wanted, "deployments": {"id": {"any_": sorted(deployments)}}}
    return tuple(_all(client, "/flow_runs/filter", body, RunTold))


def _workers(client: SyncPrefectClient, pool: str) -> tuple[WorkerTold, ...]:
    return tuple(_all(client, "/work_pools/{work_pool_name}/workers/filter", {}, WorkerTold, work_pool_name=pool))


def _upcoming(client: SyncPrefectClient, deployments: Sequence[DeploymentTold], now: datetime) -> Iterator[Upcoming]:
    for deployment in deployments:
        if not deployment.active:
            continue
        ahead = {"state": {"type": {"any_": ["SCHEDULED"]}}, "expected_start_time": {"after_": now.isoformat()}}
        made_by = [run.created_by.id for run in _runs(client, {deployment.id}, ahead) if run.created_by is not None]
        for schedule in deployment.active:
            runs = made_by.count(schedule.id)
            date, fault = (None, "") if runs else next_date(schedule, now)
            yield Upcoming(deployment, schedule, runs, date, fault)


def next_date(schedule: ScheduleTold, now: datetime) -> tuple[datetime | None, str]:
    """Return a schedule's next date by Prefect's own arithmetic, and why it can't be told when it can't."""
    try:
        rule = _SCHEDULES.validate_python(dict(schedule.schedule))
        dates = asyncio.run(rule.get_dates(n=1, start=now))
    except (ValueError, TypeError) as error:  # a ValidationError is a ValueError
        return None, f"its schedule can't be read: {str(error).splitlines()[0]}"
    return (dates[0] if dates else None), ""


def _limited(client: SyncPrefectClient, deployments: set[str], now: datetime) -> tuple[RunTold, ...]:
    since = {"after_": (now - LOOK_BACK).isoformat()}
    wanted = {"state": {"type": {"any_": ["CANCELLED"]}}, "expected_start_time": since}
    return tuple(
        run for run in _runs(client, deployments, wanted) if "concurrency limit" in (run.state.message or "").lower()
    )


def _missed(now: datetime, records_url: str | None) -> tuple[Occurrence, ...]:
    """Return the windows of the last days that no run had. Where the records can't be read nothing is known."""
    try:
        with open_records(records_url) as records:
            known = SqlOccurrences(records.database).between(now - LOOK_BACK, now)
    except RecordsError as error:
        logger.info("our records can't be asked: %s", error.message)
        return ()
    return tuple(each for each in known if each.what is Standing.MISSED)


def _running(
    client: SyncPrefectClient, deployments: set[str], now: datetime, records_url: str | None
) -> tuple[RunningRun, ...]:
    runs = _runs(client, deployments, {"state": {"type": {"any_": ["RUNNING"]}}, **_TOP_LEVEL})
    carried = _carried([run.id for run in runs], records_url)
    return tuple(
        RunningRun(run, who, None if who is Carried.HELD else _heartbeat(client, run.id, now), ours)
        for run in runs
        for who, ours in [carried.get(run.id, (Carried.UNTOLD, ""))]
    )


def _carried(flow_runs: Sequence[str], records_url: str | None) -> dict[str, tuple[Carried, str]]:
    """Return who carries each, by our own records. Where they can't be read nothing is known: doctor says so itself."""
    if not flow_runs:
        return {}
    found = {}
    try:
        with open_records(records_url) as records:
            history, left = History(records), {each.run_id for each in records.leases.abandoned()}
            for each in flow_runs:
                run = history.run_of_flow(each)
                if run is None or not run.claims_machines:
                    continue
                lease = records.leases.lease(run.id)
                held = lease is not None and lease.held
                who = Carried.HELD if held else Carried.LEFT if run.id in left else Carried.OVER
                found[each] = (who, run.id)
    except RecordsError as error:
        logger.info("our records can't be asked: %s", error.message)
    return found


def _heartbeat(client: SyncPrefectClient, flow_run: str, now: datetime) -> bool:
    """Return whether a flow run has given a sign of life lately."""
    since, until = now - HEARTBEATS_WITHIN, now + timedelta(minutes=1)
    wanted = {
        "occurred": {"since": since.isoformat(), "until": until.isoformat()},
        "event": {"name": ["prefect.flow-run.heartbeat"]},
        "resource": {"id": [f"prefect.flow-run.{flow_run}"]},
    }
    return bool(client.request("POST", "/events/filter", json={"filter": wanted, "limit": 1}).json()["events"])
