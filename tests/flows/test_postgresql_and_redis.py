"""The way beyond one machine: two databases of PostgreSQL (records, Prefect), messages in Redis. Both are restarted.

PostgreSQL, Redis, Prefect's server, its worker and the processes of the runs are real; the machines are simulated.
"""

import os
import signal
import time
from contextlib import ExitStack
from datetime import UTC, datetime, timedelta
from pathlib import Path
from uuid import UUID

import pytest
from prefect.client.orchestration import SyncPrefectClient
from prefect.client.schemas.actions import DeploymentScheduleCreate, WorkPoolCreate
from prefect.client.schemas.filters import DeploymentFilter, DeploymentFilterId
from prefect.client.schemas.objects import FlowRun
from prefect.client.schemas.schedules import IntervalSchedule
from prefect.client.schemas.sorting import FlowRunSort

from deployments.server.settings import DOCKET_URL_VARIABLE, REDIS_SETTINGS, REDIS_URL_VARIABLE
from flows.prefect_api.tags import build_fleet_tag
from tasks.domain.states import OperationState
from tasks.records.queries.history import History
from tasks.records.setup import open_records
from tests.flows import served_on_fakes
from tests.flows.served_on_fakes import HERE, NAMES, PLACE, fleet, machines_at
from tests.flows.test_two_sites_served import wait_until
from tests.support.environment import PYTHONPATH
from tests.support.fleet import SimFleet
from tests.support.free_port import free_port
from tests.support.postgres import own_server
from tests.support.prefect_forks import PARENT
from tests.support.prefect_server import PrefectServer
from tests.support.prefect_tables import make_postgres_database
from tests.support.redis import PREFECT_REDIS, redis_server

pytestmark = [pytest.mark.slow, pytest.mark.postgres]


def _find_end(client: SyncPrefectClient, flow_run: UUID) -> FlowRun:
    def find() -> FlowRun | None:
        run = client.read_flow_run(flow_run)
        return run if run.state is not None and run.state.is_final() else None

    ended: FlowRun = wait_until(find, "the end of a flow run")
    return ended


def _find_scheduled(client: SyncPrefectClient, deployment: UUID) -> FlowRun:
    mine = DeploymentFilter(id=DeploymentFilterId(any_=[deployment]))

    def find() -> FlowRun | None:
        runs = client.read_flow_runs(deployment_filter=mine, sort=FlowRunSort.EXPECTED_START_TIME_ASC)
        return runs[0] if runs else None

    run: FlowRun = wait_until(find, "a flow run of the schedule")
    return run


def test_runs_end_and_windows_open_though_both_are_restarted(tmp_path: Path) -> None:
    machines = fleet(2.0)
    request = SimFleet().request(minutes=60, waves={"size": 3, "at_once": 3}).model_dump(mode="json")
    with ExitStack() as stack:
        redis = stack.enter_context(redis_server(tmp_path / "redis"))
        postgres = stack.enter_context(own_server())
        settings = {
            **REDIS_SETTINGS,
            REDIS_URL_VARIABLE: redis.url,
            DOCKET_URL_VARIABLE: redis.url,
            "PYTHONPATH": os.pathsep.join((PYTHONPATH, str(PREFECT_REDIS))),
            "PREFECT_SERVER_SERVICES_SCHEDULER_RECENT_DEPLOYMENTS_LOOP_SECONDS": "1",
        }
        database = make_postgres_database(postgres)
        server = PrefectServer(tmp_path / "prefect", free_port(), database, settings=settings)
        stack.callback(server.remove)
        server.start()
        client = stack.enter_context(server.client())
        stack.enter_context(machines_at(tmp_path / "machines", machines))
        client.create_work_pool(WorkPoolCreate(name="pool", type="process"))

        def deploy(name: str, schedules: list[DeploymentScheduleCreate]) -> UUID:
            return client.create_deployment(
                client.create_flow(served_on_fakes.patch_fleet),
                name,
                entrypoint=f"{HERE}.patch_fleet",
                tags=["fleetpatch", build_fleet_tag("default")],
                parameters={"request": request},
                work_pool_name="pool",
                pull_steps=[],
                job_variables={},
                schedules=schedules,
            )

        worker = server.fork(
            "deployments.worker.bound_worker",
            *(PARENT, "pool", "worker"),
            log=tmp_path / "worker.log",
            FLEETPATCH_RECORDS_URL=postgres.url("fleetpatch"),
            PREFECT_WORKER_QUERY_SECONDS="3",
            XDG_DATA_HOME=str(tmp_path / "data"),
            **{PLACE: str(tmp_path / "machines")},
        )
        stack.callback(os.killpg, worker.pid, signal.SIGKILL)
        run = client.create_flow_run_from_deployment(deploy("on-demand", [])).id
        wait_until(machines.machines[NAMES[0]].begun, "an installation")
        assert redis.count_keys() > 0, "Prefect's server does not use Redis"
        redis.stop()
        postgres.stop()
        time.sleep(3)  # longer than all that a run asks of them: it must wait
        postgres.start()
        redis.start()
        assert _find_end(client, run).state_name == "Completed"

        # Prefect's schedulers begin again half a minute after Redis is back.
        soon = IntervalSchedule(interval=timedelta(days=1), anchor_date=datetime.now(UTC) + timedelta(seconds=75))
        windowed = deploy("windowed", [DeploymentScheduleCreate(schedule=soon, active=True)])
        opened = _find_scheduled(client, windowed)
        assert opened.auto_scheduled
        assert _find_end(client, opened.id).state_name == "Completed"

        with open_records(postgres.url("fleetpatch")) as records:
            for flow_run in (run, opened.id):
                recorded = History(records).find_run_by_flow_run(str(flow_run))
                assert recorded is not None
                report = History(records).read_report(recorded.id)
                assert {outcome.machine: outcome.state for outcome in report.outcomes} == dict.fromkeys(
                    NAMES, OperationState.SUCCEEDED
                )
