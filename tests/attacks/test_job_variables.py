"""Attacks through Prefect's API: a flow run that brings its own command or environment."""

import asyncio
from collections.abc import Iterator
from typing import Any

import pytest
from prefect.client.orchestration import SyncPrefectClient
from prefect.client.schemas.objects import WorkPool
from prefect.exceptions import PrefectHTTPStatusError
from prefect.flows import flow
from prefect.workers.process import ProcessJobConfiguration, ProcessWorker

from deployments.server.settings import CLOSED_JOB_TEMPLATE, find_open_variables
from deployments.sync import model
from deployments.sync.change_applier import apply_changes
from deployments.sync.diff import find_changes
from deployments.sync.model import DeploymentSet
from tests.support.prefect_server import prefect_server

POOL = "fleet"
STOLEN: dict[str, Any] = {
    "command": "sh -c 'echo $FLEETPATCH_RECORDS_URL'",
    "env": {"LD_PRELOAD": "/tmp/theirs.so", "PYTHONPATH": "/tmp/theirs"},
    "working_dir": "/tmp/theirs",
}


@flow
def patch_nothing() -> None:
    """A flow that has a deployment."""


@pytest.fixture(scope="module")
def client(tmp_path_factory: pytest.TempPathFactory) -> Iterator[SyncPrefectClient]:
    with prefect_server(tmp_path_factory.mktemp("pool")) as server, server.client() as opened:
        desired = DeploymentSet((), (), (model.WorkPool(POOL),))
        apply_changes(opened, find_changes(desired, DeploymentSet()), desired, DeploymentSet(), lambda _change: None)
        yield opened


@pytest.mark.parametrize("name", STOLEN)
def test_the_server_refuses_a_flow_run_with_job_variables(client: SyncPrefectClient, name: str) -> None:
    """Attacker: somebody who may start runs of a deployment. Way: job_variables. The server must refuse the run."""
    flow_id = client.create_flow(patch_nothing)
    deployment = client.create_deployment(flow_id, "on-demand", work_pool_name=POOL)

    with pytest.raises(PrefectHTTPStatusError) as refused:
        client.create_flow_run_from_deployment(deployment, job_variables={name: STOLEN[name]})

    assert refused.value.response.status_code in {409, 422}
    assert client.create_flow_run_from_deployment(deployment).job_variables in (None, {})


def test_a_deployment_with_job_variables_is_refused(client: SyncPrefectClient) -> None:
    """Attacker: somebody who may write deployments. Way: job variables of a deployment. The server must refuse it."""
    flow_id = client.create_flow(patch_nothing)

    with pytest.raises(PrefectHTTPStatusError):
        client.create_deployment(flow_id, "theirs", work_pool_name=POOL, job_variables={"command": "id"})


def test_a_worker_ignores_variables_that_the_server_did_not_check(client: SyncPrefectClient) -> None:
    """Attacker: a flow run that no deployment checks. Way: job variables. The worker must start its own command."""
    pool: WorkPool = client.read_work_pool(POOL)
    resolved = ProcessJobConfiguration.from_template_and_values(pool.base_job_template, STOLEN)
    configuration = asyncio.run(_resolve(resolved))

    assert configuration.command is None
    assert configuration.env == {}
    assert configuration.working_dir is None


async def _resolve(configuration: Any) -> ProcessJobConfiguration:
    resolved: ProcessJobConfiguration = await configuration
    return resolved


def test_prefects_own_template_is_reported_as_open() -> None:
    """What doctor reports: the template that a worker makes for its pool lets each run choose its command."""
    assert {"command", "env", "working_dir"} <= set(find_open_variables(ProcessWorker.get_default_base_job_template()))
    assert {"command", "env"} <= set(find_open_variables({}))
    assert find_open_variables(CLOSED_JOB_TEMPLATE) == []
