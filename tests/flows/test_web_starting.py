"""The page of a run that waits for its worker says why none takes it."""

from collections.abc import Iterator
from pathlib import Path
from uuid import uuid4

import pytest
from prefect.client.orchestration import SyncPrefectClient
from prefect.client.schemas.actions import WorkPoolCreate, WorkPoolUpdate

from fleetpatch.acts import flow_runs
from flows.plan import plan_fleet
from tests.support.prefect_server import PrefectServer, prefect_server
from tests.support.web_site import serve_site

POOL = "night"


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[PrefectServer]:
    with prefect_server(tmp_path_factory.mktemp("starting")) as made:
        yield made


def start(client: SyncPrefectClient) -> str:
    client.create_work_pool(WorkPoolCreate(name=POOL, type="process"))
    flow_id = client.create_flow(plan_fleet)
    deployment = client.create_deployment(flow_id, f"on-demand-{uuid4()}", work_pool_name=POOL)
    return str(client.create_flow_run_from_deployment(deployment, tags=[flow_runs.PAGES_TAG]).id)


def test_a_paused_work_pool_is_named(server: PrefectServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(flow_runs, "open_server_client", lambda retries=0: server.client())
    with server.client() as client, serve_site(tmp_path) as site:
        page = f"/starting/{start(client)}"
        assert "is paused" not in site.get(page).text
        client.update_work_pool(POOL, WorkPoolUpdate(is_paused=True))
        shown = site.get(page).text
        assert "The work pool night is paused" in shown
        assert "prefect work-pool resume night" in shown
        client.delete_work_pool(POOL)
        assert site.get(page).status_code == 200
