"""One fleet of two sites: a server, a database, and a worker for each site's pool. The processes of a run are killed.

The server, the workers and the processes of the runs are real; the machines are simulated (served_on_fakes).
"""

import functools
import json
import os
import signal
import subprocess
from collections.abc import Iterator
from contextlib import ExitStack, suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from importlib.metadata import version
from pathlib import Path
from typing import Any
from uuid import UUID

import pytest
from prefect.client.orchestration import SyncPrefectClient
from prefect.client.schemas.actions import WorkPoolCreate
from prefect.client.schemas.filters import (
    FlowFilter,
    FlowFilterName,
    FlowRunFilter,
    FlowRunFilterParentFlowRunId,
    FlowRunFilterTags,
)
from prefect.client.schemas.objects import FlowRun, State
from sqlalchemy import update

from deployments.server.probe import probe_server
from flows.prefect_api.tags import build_fleet_tag, build_site_name, build_site_tag
from inventory.machine import DEFAULT_SITE
from inventory.sites import SITE_VARIABLE
from tasks.domain.model import RunInfo, RunReport
from tasks.domain.states import OperationState, UpdateState
from tasks.records import schema
from tasks.records.queries.history import History
from tasks.records.queries.machines import read_last_runs
from tasks.records.queries.runs import RunFilter, read_run_rows
from tasks.records.setup import open_records
from tasks.rules.runs.shards import find_whole_run_id
from tests.flows import served_on_fakes
from tests.flows.served_on_fakes import HERE, NAMES, PLACE, SITES, fleet, machines_at
from tests.support import patience
from tests.support.fleet import SimFleet
from tests.support.prefect_server import PrefectServer, prefect_server

pytestmark = pytest.mark.slow

PATIENCE = 240.0
wait_until = functools.partial(patience.wait_until, seconds=PATIENCE)
HAMBURG = "hamburg"
FIRST, _, THIRD = NAMES


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
            self.create("assess_fleet", "on-demand", site, {"request": {"scope": "*"}})
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

    def find_shard(self, flow_run: UUID, site: str) -> RunInfo:
        """Return the run that carries out the wave of a run at a site."""

        def find() -> RunInfo | None:
            with open_records(self.url) as records:
                history = History(records)
                runs = (*history.read_runs(), *history.read_runs(kind="shard"))
            whole = [run.id for run in runs if run.flow_run_id == str(flow_run)]
            at_site = [run for run in runs if run.kind == "patch" and run.site == site]
            return next((run for run in at_site if find_whole_run_id(run.id) in whole), None)

        run: RunInfo = wait_until(find, f"a shard at {site}")
        return run

    def read_report(self, run_id: str) -> RunReport:
        with open_records(self.url) as records:
            return History(records).read_report(run_id)

    def kill_process(self, run_id: str) -> None:
        """Kill the process of a run, and let its lease end now, and not within its minute."""
        with open_records(self.url) as records:
            lease = records.leases.find_lease(run_id)
            assert lease is not None
            if lease.holder is not None and lease.is_held:
                with suppress(ProcessLookupError):
                    os.kill(lease.holder.pid, signal.SIGKILL)
            with records.database.begin_write("end") as connection:
                ended = update(schema.leases).where(schema.leases.c.run_id == run_id)
                connection.execute(ended.values(until=datetime.now(UTC) - timedelta(seconds=1)))

    def reconcile(self, run_id: str) -> FlowRun:
        """Let reconcile-fleet recover a run, and return the one flow run that resumes it."""
        assert self.wait(self.start("reconcile-fleet/scheduled")).is_completed()
        (resume,) = [flow_run for flow_run in self.read_resumes() if flow_run.parameters["run_id"] == run_id]
        return resume

    def read_resumes(self) -> list[FlowRun]:
        return self.client.read_flow_runs(flow_filter=FlowFilter(name=FlowFilterName(any_=["resume-fleet"])))


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


def test_a_run_of_two_sites_survives_the_deaths_of_a_site_and_of_its_own_process(sites: TwoSites) -> None:
    third = sites.machines.machines[THIRD]
    whole = sites.start("patch-fleet/on-demand")
    wait_until(sites.machines.machines[FIRST].begun, "an installation at the default site")
    wait_until(third.begun, "an installation at the site hamburg")
    at_hamburg = sites.find_shard(whole, HAMBURG)
    whole_id = find_whole_run_id(at_hamburg.id)
    sites.kill_worker(HAMBURG)
    sites.kill_process(whole_id)
    at_default = sites.find_shard(whole, DEFAULT_SITE)
    wait_until(
        lambda: sites.read_report(at_default.id).run.state is OperationState.SUCCEEDED, "the end of the other shard"
    )

    resume_whole = sites.reconcile(whole_id)  # on quick cores the lease of the shard at hamburg is still valid
    assert resume_whole.work_pool_name == "pool"
    wait_until(lambda: len(sites.read_report(whole_id).outcomes) == 2, "the outcomes of the default site")
    assert sites.read_report(whole_id).run.state is OperationState.IN_PROGRESS
    sites.kill_process(at_hamburg.id)
    resume_shard = sites.reconcile(at_hamburg.id)
    assert resume_shard.work_pool_name == "pool-hamburg"

    wrong = sites.create("reconcile_fleet", "wrong", DEFAULT_SITE, of=HAMBURG)
    refused = sites.wait(sites.client.create_flow_run_from_deployment(wrong).id)
    assert refused.is_failed()
    assert "belongs to the site hamburg, and this worker to the site default" in str(refused.message)

    assessed = sites.start("assess-fleet/on-demand", scope="*")  # hamburg has no worker yet
    sites.start_worker(HAMBURG)
    assert sites.wait(sites.start("reconcile-fleet/scheduled-hamburg")).is_completed()
    assert {resume.id for resume in sites.read_resumes()} == {resume_whole.id, resume_shard.id}  # none twice
    assert sites.wait(resume_shard.id).is_completed()
    assert sites.wait(resume_whole.id).is_completed()
    report = sites.read_report(whole_id)
    assert report.run.state is OperationState.SUCCEEDED
    assert {outcome.machine: outcome.state for outcome in report.outcomes} == dict.fromkeys(
        NAMES, OperationState.SUCCEEDED
    )
    installed = [update.state for outcome in report.outcomes for update in outcome.updates]
    assert installed == [UpdateState.INSTALLED] * 6
    assert report.run.site == DEFAULT_SITE
    assert at_hamburg.site == HAMBURG
    assert_shards_are_subflows(sites, whole, whole_id)
    jobs = [(begun.job_id, begun.number) for begun in third.begun()]
    assert len(set(jobs)) == len(jobs)  # nothing was installed twice
    assert_both_sites_are_assessed(sites, assessed)
    with open_records(sites.url) as records:
        kinds = [row.kind for row in read_run_rows(records.database, RunFilter(kinds=("patch", "shard")), 0, 20)]
    assert kinds.count("patch") == 1
    assert kinds.count("shard") == 6
    runs = probe_server(sites.url).site_runs
    assert {site: run.version if run is not None else None for site, run in runs.items()} == dict.fromkeys(
        (DEFAULT_SITE, HAMBURG), version("fleetpatch")
    )


def assert_shards_are_subflows(sites: TwoSites, flow_run: UUID, run_id: str) -> None:
    """Assert that the page of a run shows its shards, and that one tag finds all of its flow runs."""
    under = FlowRunFilter(parent_flow_run_id=FlowRunFilterParentFlowRunId(any_=[flow_run]))
    children = {child.id: child for child in sites.client.read_flow_runs(flow_run_filter=under)}
    links = {child.parent_task_run_id: child for child in children.values()}
    shown = {
        str(link.name).partition(" for ")[0]: (link.state_name, links[link.id].state_name)
        for link in (sites.client.read_task_run(link_id) for link_id in links if link_id is not None)
    }
    assert shown == {
        f"{work} at site {site}": ("Completed", "Completed")
        for work in ("the plan", "wave 1")
        for site in (DEFAULT_SITE, HAMBURG)
    }
    tagged = FlowRunFilter(tags=FlowRunFilterTags(all_=[f"fleetpatch-run:{run_id}"]))
    found = {tagged_run.id for tagged_run in sites.client.read_flow_runs(flow_run_filter=tagged)}
    assert {flow_run, *children} <= found
    assert len(found) == len(children) + 2  # and the flow run that resumed it


def assert_both_sites_are_assessed(sites: TwoSites, flow_run: UUID) -> None:
    """Assert that an assessment has one answer, counted once, of runs of the deployments of both sites."""
    state = sites.wait(flow_run)
    assert state.is_completed(), state.message
    with open_records(sites.url) as records:
        history = History(records)
        whole = history.find_run_by_flow_run(str(flow_run))
        assert whole is not None
        report = history.read_report(whole.id)
        shards = [run for run in history.read_runs(kind="shard") if find_whole_run_id(run.id) == whole.id]
        last_runs = read_last_runs(records.database)
        assert [run.id for run in history.read_runs(kind="assess")] == [whole.id]
    assert {outcome.machine: outcome.state for outcome in report.outcomes} == dict.fromkeys(
        NAMES, OperationState.SUCCEEDED
    )
    assert sorted(assessment.machine for assessment in report.assessments) == sorted(NAMES)
    assert {(run.kind, run.site, run.state) for run in shards} == {
        ("assess", site, OperationState.SUCCEEDED) for site in (DEFAULT_SITE, HAMBURG)
    }
    names = {
        sites.client.read_deployment(flow_run.deployment_id).name
        for flow_run in (sites.client.read_flow_run(UUID(run.flow_run_id)) for run in shards)
        if flow_run.deployment_id is not None
    }
    assert names == {"on-demand", "on-demand-hamburg"}
    assert {last.kind for last in last_runs.values()} == {"patch"}  # an assessment changes no machine
