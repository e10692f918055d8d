"""One fleet of two sites: a server, a database, and a worker for each site's pool. One worker is killed.

The server, the workers and the processes of the runs are real; the machines are simulated (served_on_fakes).
"""

import json
import os
import signal
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, suppress
from dataclasses import dataclass, field
from importlib.metadata import version
from pathlib import Path
from typing import Any
from uuid import UUID

import pytest
from prefect.client.orchestration import SyncPrefectClient
from prefect.client.schemas.actions import WorkPoolCreate
from prefect.client.schemas.filters import FlowRunFilter, FlowRunFilterTags
from prefect.client.schemas.objects import State
from sqlalchemy import update

from deployments.server.probe import probe_server
from flows.prefect_api.tags import build_fleet_tag, build_site_name, build_site_tag
from inventory.machine import DEFAULT_SITE
from inventory.sites import SITE_VARIABLE
from tasks.domain.model import RunInfo
from tasks.domain.states import UNFINISHED_RUN_STATES, OperationState
from tasks.records import schema
from tasks.records.queries.history import History
from tasks.records.setup import open_records
from tests.flows import served_on_fakes
from tests.flows.served_on_fakes import HERE, NAMES, PLACE, SITES, fleet, machines_at
from tests.support.fleet import SimFleet, outcome_of
from tests.support.prefect_server import PrefectServer, prefect_server

pytestmark = pytest.mark.slow

PATIENCE = 240.0
HAMBURG = "hamburg"
FIRST, SECOND, THIRD = NAMES


@dataclass
class TwoSites:
    """The fleet: the third machine is of the site hamburg."""

    home: Path
    server: PrefectServer
    client: SyncPrefectClient
    machines: SimFleet = field(default_factory=lambda: fleet(2.0))
    workers: "dict[str, subprocess.Popen[bytes]]" = field(default_factory=dict)

    @property
    def url(self) -> str:
        return f"sqlite:///{self.home / 'records.db'}"

    def deploy(self) -> None:
        request = SimFleet().request(minutes=60, waves={"size": 3, "at_once": 1}).model_dump(mode="json")
        for site in (DEFAULT_SITE, HAMBURG):
            self.client.create_work_pool(WorkPoolCreate(name=build_site_name("pool", site), type="process"))
            self.create("patch_fleet", "on-demand", site, {"request": request})
            self.create("resume_fleet", "on-demand", site)
            self.create("reconcile_fleet", "scheduled", site)

    def create(
        self, flow: str, name: str, site: str, parameters: dict[str, Any] | None = None, of: str | None = None
    ) -> UUID:
        return self.client.create_deployment(
            self.client.create_flow(getattr(served_on_fakes, flow)),
            build_site_name(name, site),
            entrypoint=f"{HERE}.{flow}",
            tags=["fleetpatch", build_fleet_tag("default"), build_site_tag(of or site)],
            parameters=parameters,
            work_pool_name=build_site_name("pool", site),
            pull_steps=[],
            job_variables={},
        )

    def start_worker(self, site: str) -> None:
        pool = build_site_name("pool", site)
        self.workers[site] = self.server.run(
            *("-P", "-m", "deployments.worker.bound_worker", str(os.getpid()), pool, f"worker of {site}"),
            log=self.home / f"{site}.log",
            FLEETPATCH_RECORDS_URL=self.url,
            PREFECT_WORKER_QUERY_SECONDS="1",
            XDG_DATA_HOME=str(self.home / "data"),
            **{PLACE: str(self.home / "machines"), SITES: json.dumps({THIRD: HAMBURG}), SITE_VARIABLE: site},
        )

    def kill_worker(self, site: str) -> None:
        """Kill the worker and the processes of its runs, which do nothing more."""
        worker = self.workers.pop(site)
        children = Path(f"/proc/{worker.pid}/task/{worker.pid}/children").read_text(encoding="ascii").split()
        worker.kill()
        worker.wait()
        for child in children:
            with suppress(ProcessLookupError):
                os.kill(int(child), signal.SIGKILL)

    def kill_workers(self) -> None:
        for site in list(self.workers):
            self.kill_worker(site)

    def start(self, deployment: str, **request: Any) -> UUID:
        found = self.client.read_deployment_by_name(deployment)
        parameters = {"request": {**found.parameters["request"], **request}} if request else None
        return self.client.create_flow_run_from_deployment(found.id, parameters=parameters).id

    def wait(self, flow_run: UUID) -> State[Any]:
        def find() -> State[Any] | None:
            state = self.client.read_flow_run(flow_run).state
            return state if state is not None and state.is_final() else None

        state: State[Any] = wait_until(find, "the end of a flow run")
        return state

    def read_newest_run(self) -> RunInfo:
        with open_records(self.url) as records:
            return History(records).read_runs()[0]

    def end_lease(self) -> None:
        """Let the lease of the dead process end now, and not within its minute."""
        with open_records(self.url) as records, records.database.begin_write("end") as connection:
            connection.execute(update(schema.leases).values(until=self.read_newest_run().started_at))


def wait_until(look: Callable[[], Any], what: str) -> Any:
    end = time.monotonic() + PATIENCE
    while not (seen := look()):
        assert time.monotonic() < end, f"never seen: {what}"
        time.sleep(0.3)
    return seen


@pytest.fixture
def sites(tmp_path: Path) -> Iterator[TwoSites]:
    with ExitStack() as stack:
        server = stack.enter_context(prefect_server(tmp_path / "prefect"))
        made = TwoSites(tmp_path, server, stack.enter_context(server.client()))
        stack.enter_context(machines_at(tmp_path / "machines", made.machines))
        made.deploy()
        for site in (DEFAULT_SITE, HAMBURG):
            made.start_worker(site)
        stack.callback(made.kill_workers)  # before the server: a process of a run would wait for it
        yield made


def test_each_site_executes_its_runs_and_resumes_those_that_it_began(sites: TwoSites) -> None:
    third = sites.machines.machines[THIRD]
    whole = sites.start("patch-fleet/on-demand")
    wait_until(sites.machines.machines[FIRST].begun, "an installation at the default site")
    at_hamburg = sites.start("patch-fleet/on-demand-hamburg", scope=THIRD)
    wait_until(third.begun, "an installation at the site hamburg")
    sites.kill_worker(HAMBURG)

    assert sites.wait(whole).is_completed()
    before = sites.read_newest_run()
    assert (before.site, before.state, before.flow_run_id) == (HAMBURG, OperationState.IN_PROGRESS, str(at_hamburg))
    with open_records(sites.url) as records:
        whole_run = History(records).find_run_by_flow_run(str(whole))
        assert whole_run is not None
        report = History(records).read_report(whole_run.id)
    assert {outcome.machine: outcome.state for outcome in report.outcomes} == {
        FIRST: OperationState.SUCCEEDED,
        SECOND: OperationState.SUCCEEDED,
        THIRD: OperationState.NOT_STARTED,
    }
    assert "reached from the site hamburg only" in outcome_of(report, THIRD).reason

    sites.end_lease()
    assert sites.wait(sites.start("reconcile-fleet/scheduled")).is_completed()
    tag = FlowRunFilterTags(all_=[f"fleetpatch-run:{before.id}"])
    (resume,) = sites.client.read_flow_runs(flow_run_filter=FlowRunFilter(tags=tag))
    assert resume.work_pool_name == "pool-hamburg"
    assert sites.read_newest_run() == before

    wrong = sites.create("reconcile_fleet", "wrong", DEFAULT_SITE, of=HAMBURG)
    refused = sites.wait(sites.client.create_flow_run_from_deployment(wrong).id)
    assert refused.is_failed()
    assert "belongs to the site hamburg, and this worker to the site default" in str(refused.message)

    sites.kill_worker(DEFAULT_SITE)  # the site recovers its runs without it, and starts nothing twice
    sites.start_worker(HAMBURG)
    assert sites.wait(sites.start("reconcile-fleet/scheduled-hamburg")).is_completed()
    assert sites.client.read_flow_runs(flow_run_filter=FlowRunFilter(tags=tag)) == [
        sites.client.read_flow_run(resume.id)
    ]
    assert sites.wait(resume.id).is_completed()
    assert sites.read_newest_run().state not in UNFINISHED_RUN_STATES
    with open_records(sites.url) as records:
        report = History(records).read_report(before.id)
    assert [(outcome.machine, outcome.state) for outcome in report.outcomes] == [(THIRD, OperationState.SUCCEEDED)]
    assert report.run.site == HAMBURG
    runs = probe_server(sites.url).site_runs
    assert {site: (run.id, run.version) if run is not None else None for site, run in runs.items()} == {
        HAMBURG: (before.id, version("fleetpatch")),
        DEFAULT_SITE: (whole_run.id, version("fleetpatch")),
    }
