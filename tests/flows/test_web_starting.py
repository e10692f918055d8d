"""The page of a run that waits for its worker says why none takes it."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from uuid import uuid4

import pytest
from prefect.client.orchestration import SyncPrefectClient, get_client
from prefect.client.schemas.actions import WorkPoolCreate, WorkPoolUpdate
from prefect.settings import PREFECT_API_URL

from fleetpatch.acts import flow_runs
from flows.plan import plan_fleet
from tests.support.prefect_server import use_server
from tests.support.web_site import serve_site

POOL = "night"


def start(client: SyncPrefectClient) -> str:
    client.create_work_pool(WorkPoolCreate(name=POOL, type="process"))
    flow_id = client.create_flow(plan_fleet)
    deployment = client.create_deployment(flow_id, f"on-demand-{uuid4()}", work_pool_name=POOL)
    return str(client.create_flow_run_from_deployment(deployment, tags=[flow_runs.PAGES_TAG]).id)


@pytest.mark.usefixtures("prefect_server")
def test_a_paused_work_pool_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    url = PREFECT_API_URL.value()
    assert url is not None

    @contextmanager
    def open_client(retries: int = 0) -> Iterator[SyncPrefectClient]:
        """A thread of the pages does not see the settings of the test."""
        with use_server(url, tmp_path / "prefect"), get_client(sync_client=True) as client:
            yield client

    monkeypatch.setattr(flow_runs, "open_server_client", open_client)
    with open_client() as client, serve_site(tmp_path) as site:
        page = f"/starting/{start(client)}"
        assert "is paused" not in site.get(page).text
        client.update_work_pool(POOL, WorkPoolUpdate(is_paused=True))
        shown = site.get(page).text
        assert "The work pool night is paused" in shown
        assert "prefect work-pool resume night" in shown
        client.delete_work_pool(POOL)
        assert site.get(page).status_code == 200
