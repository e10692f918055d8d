"""Two sites with equal paths and names on one Prefect server and one PostgreSQL, and a worker of each; one is killed.

The server, the workers and the processes of the runs are real; the machines are simulated (served_on_fakes).
"""

import functools
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from uuid import UUID

import pytest
from prefect.client.orchestration import SyncPrefectClient
from prefect.client.schemas.actions import WorkPoolCreate
from prefect.client.schemas.filters import FlowFilter, FlowFilterName, FlowRunFilter, FlowRunFilterTags
from prefect.client.schemas.objects import State
from sqlalchemy import update

from flows.prefect_api.tags import build_deployment_name, build_fleet_tag
from tasks.domain.model import RunInfo
from tasks.domain.states import UNFINISHED_RUN_STATES, OperationState
from tasks.records import schema
from tasks.records.queries.history import History
from tasks.records.setup import open_records
from tests.contract.records_subjects import new_database
from tests.flows import served_on_fakes
from tests.flows.reconciled_here import reconcile_here
from tests.flows.served_on_fakes import HERE, NAMES, PLACE, fleet, machines_at
from tests.support.fleet import SimFleet
from tests.support.patience import wait_until
from tests.support.prefect_forks import PARENT, ForkedServer
from tests.support.prefect_server import PrefectServer, prefect_server

pytestmark = [pytest.mark.slow, pytest.mark.postgres]

PATIENCE = 240.0
_wait_until = functools.partial(wait_until, seconds=PATIENCE)
UPDATE_SECONDS = 2.0
SOUTH, NORTH = "south", "north"


@dataclass
class Site:
    """A fleet with its machines and its worker."""

    name: str
    home: Path
    server: PrefectServer
    url: str
    machines: SimFleet = field(default_factory=lambda: fleet(UPDATE_SECONDS, 4))
    worker: ForkedServer | None = None

    def deploy(self, client: SyncPrefectClient) -> None:
        client.create_work_pool(WorkPoolCreate(name=self.name, type="process"))
        request = SimFleet().request(minutes=60, waves={"size": 1, "at_once": 1}).model_dump(mode="json")
        self.create(client, "patch_fleet", "on-demand", {"request": request})
        self.create(client, "resume_fleet", "on-demand")

    def create(
        self, client: SyncPrefectClient, flow: str, name: str, parameters: dict[str, Any] | None = None, of: str = ""
    ) -> UUID:
        return client.create_deployment(
            client.create_flow(getattr(served_on_fakes, flow)),
            build_deployment_name(name, self.name),
            entrypoint=f"{HERE}.{flow}",
            tags=["fleetpatch", build_fleet_tag(of or self.name)],
            parameters=parameters,
            work_pool_name=self.name,
            pull_steps=[],
            job_variables={},
        )

    @property
    def environment(self) -> dict[str, str]:
        return {"FLEETPATCH_FLEET": self.name, "FLEETPATCH_RECORDS_URL": self.url}

    def start_worker(self) -> None:
        self.worker = self.server.fork(
            "deployments.worker.bound_worker",
            *(PARENT, self.name, f"worker of {self.name}"),
            log=self.home / f"{self.name}.log",
            **self.environment,
            PREFECT_WORKER_QUERY_SECONDS="3",
            XDG_DATA_HOME=str(self.home / "data"),
            **{PLACE: str(self.home / f"machines-{self.name}")},
        )

    def kill_worker(self) -> None:
        """Kill the worker and the processes of its runs, which do nothing more."""
        assert self.worker is not None
        self.worker.kill_with_runs()

    def start(self, client: SyncPrefectClient, deployment: str) -> UUID:
        found = client.read_deployment_by_name(build_deployment_name(deployment, self.name))
        return client.create_flow_run_from_deployment(found.id).id

    def reconcile(self) -> list[str]:
        return reconcile_here(self.server, **self.environment)

    def is_installing(self) -> bool:
        return any(each.begun() for each in self.machines.machines.values())

    def read_run(self) -> RunInfo:
        with open_records(self.url, fleet=self.name) as records:
            (run,) = History(records).read_runs()
            return run

    def end_lease(self) -> None:
        """Let the lease of the dead process end now, and not within its minute."""
        with open_records(self.url, fleet=self.name) as records, records.database.begin_write("end") as connection:
            long_ago = self.read_run().started_at
            connection.execute(update(schema.leases).values(until=long_ago))


def _wait_for_end(client: SyncPrefectClient, flow_run: UUID) -> State[Any]:
    def find() -> State[Any] | None:
        state = client.read_flow_run(flow_run).state
        return state if state is not None and state.is_final() else None

    state: State[Any] = _wait_until(find, "the end of a flow run")
    return state


@pytest.fixture
def sites(tmp_path: Path) -> Iterator[tuple[Site, Site, SyncPrefectClient]]:
    with ExitStack() as stack:
        url = stack.enter_context(new_database("postgres", tmp_path))
        server = stack.enter_context(prefect_server(tmp_path / "prefect"))
        client = stack.enter_context(server.client())
        south, north = (Site(name, tmp_path, server, url) for name in (SOUTH, NORTH))
        for site in (south, north):
            stack.enter_context(machines_at(tmp_path / f"machines-{site.name}", site.machines))
            site.deploy(client)
            site.start_worker()
            stack.callback(site.kill_worker)  # before the server: a process of a run would wait for it
        yield south, north, client


def test_the_run_of_a_killed_site_waits_for_that_site(sites: tuple[Site, Site, SyncPrefectClient]) -> None:
    south, north, client = sites
    south.start(client, "patch-fleet/on-demand")
    _wait_until(south.is_installing, "an installation")
    south.kill_worker()
    south.end_lease()
    before = south.read_run()

    assert north.reconcile() == []

    resumed = FlowRunFilter(tags=FlowRunFilterTags(all_=[f"fleetpatch-run:{before.id}"]))
    of_resumes = FlowFilter(name=FlowFilterName(any_=["resume-fleet"]))
    assert client.read_flow_runs(flow_filter=of_resumes, flow_run_filter=resumed) == []
    assert south.read_run() == before
    assert before.state is OperationState.IN_PROGRESS
    assert not north.is_installing()

    wrong = north.create(client, "reconcile_fleet", "wrong", of=SOUTH)
    state = _wait_for_end(client, client.create_flow_run_from_deployment(wrong).id)
    assert state.is_failed()
    assert "belongs to the fleet south, and this worker to the fleet north" in str(state.message)

    south.start_worker()
    assert south.reconcile() == [before.id]
    _wait_until(lambda: south.read_run().state not in UNFINISHED_RUN_STATES, "the end of the run")
    assert south.read_run().state is OperationState.SUCCEEDED
    with open_records(south.url, fleet=SOUTH) as records:
        report = History(records).read_report(before.id)
    assert {each.machine: each.state for each in report.outcomes} == dict.fromkeys(NAMES, OperationState.SUCCEEDED)
    assert not north.is_installing()
