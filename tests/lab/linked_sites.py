"""A fleet of two sites with all that it has in production: links that can be cut, a worker at each end, one center.

The center has Prefect's server, its messages in Redis, and the two databases in PostgreSQL. Each site has a Prefect
worker in its own namespace, and hosts that nobody else reaches (site_links).
"""

import os
import subprocess
import sys
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from uuid import UUID

import yaml
from prefect.client.orchestration import SyncPrefectClient
from prefect.client.schemas.filters import FlowFilter, FlowFilterName, LogFilter, LogFilterFlowRunId
from prefect.client.schemas.objects import FlowRun
from sqlalchemy import update

from deployments.server.settings import DOCKET_URL_VARIABLE, REDIS_SETTINGS, REDIS_URL_VARIABLE
from flows.prefect_api.tags import build_site_name
from inventory.machine import DEFAULT_SITE
from inventory.sites import SITE_VARIABLE
from tasks.domain.model import RunInfo, RunReport
from tasks.domain.protocols.leases import LeaseStatus
from tasks.records import schema
from tasks.records.queries.history import History
from tasks.records.setup import open_records
from tasks.rules.runs.shards import find_whole_run_id
from tests.ci.tree import TOP
from tests.flows.reconciled_here import reconcile_here
from tests.lab.engine import Fleet
from tests.lab.fleet import BootHosts, LabHost
from tests.lab.killing import wait_for
from tests.lab.site_links import Link, link_sites
from tests.support.command import run_command
from tests.support.environment import PYTHONPATH
from tests.support.free_port import free_port
from tests.support.postgres import Server as Postgres
from tests.support.postgres import own_server
from tests.support.prefect_forks import ForkedServer
from tests.support.prefect_server import PrefectServer, use_server
from tests.support.prefect_tables import make_postgres_database
from tests.support.redis import PREFECT_REDIS, Redis, redis_server

AWAY_SECONDS = 2.0  # of a server that restarts: longer than all that is asked of it at that moment
HAMBURG = "hamburg"
RUN_TAG = "fleetpatch-run:"
SITES = (DEFAULT_SITE, HAMBURG)
REQUEST: Mapping[str, Any] = {
    "scope": "*",
    "updates": {"classifications": [], "include": ["lab-slow", "lab-plain"]},
    "window": {"minutes": 30},
    "waves": {"percent": 100, "failure_budget_count": 3},
    "reboot_reserve_minutes": 0.5,
    "settle_seconds": 0,
    "come_back_seconds": 2,
    "stage": False,
}


@dataclass
class LinkedSites:
    """The fleet, and the processes of its center and its sites.

    Attributes:
        hosts: those of each site.
        links: that of each site.
    """

    place: Path
    hosts: Mapping[str, Sequence[LabHost]]
    links: Mapping[str, Link]
    center: str
    server: PrefectServer
    client: SyncPrefectClient
    postgres: Postgres
    redis: Redis
    workers: dict[str, ForkedServer] = field(default_factory=dict)

    @property
    def all_hosts(self) -> list[LabHost]:
        return [host for at_site in self.hosts.values() for host in at_site]

    @property
    def inventory(self) -> Path:
        return self.place / "fleet.yaml"

    @property
    def own_url(self) -> str:
        """The records for the test itself: no cut can keep it away."""
        return self.postgres.url("fleetpatch")

    def surroundings(self, site: str) -> dict[str, str]:
        return {
            "FLEETPATCH_RECORDS_URL": f"postgresql://postgres@{self.center}/fleetpatch",
            "FLEETPATCH_INVENTORY": str(self.inventory),
            "XDG_DATA_HOME": str(self.place / "data"),
            "PREFECT_WORKER_QUERY_SECONDS": "2",
            SITE_VARIABLE: site,
        }

    def describe(self, sets: Sequence[dict[str, Any]] = ()) -> None:
        """Write the inventory."""
        fleet = Fleet(self.all_hosts, self.place)
        there = {host.name.replace("-", "_"): {"site": HAMBURG} for host in self.hosts[HAMBURG]}
        fleet.describe(sets, **there)

    def deploy(self) -> None:
        """As a person does, with one configuration whose windows stay closed."""
        folder = self.place / "configurations"
        folder.mkdir()
        document = {
            "name": "closed",
            "enabled": False,
            "scope": "*",
            "window": {"start": "2030-01-01 22:00", "length": 60, "zone": "UTC"},
        }
        (folder / "closed.yaml").write_text(yaml.safe_dump(document))
        environment = self.server.environment(**self.surroundings(DEFAULT_SITE))
        with use_server(self.server.url, self.server.home):
            done = run_command(["deploy", str(folder), "--yes"], environment, TOP)
        assert done.returncode == 0, done.stdout + done.stderr
        # A test says when: one that begins as the database restarts keeps its place for minutes. And each run of a
        # schedule is a process.
        for deployment in self.client.read_deployments():
            if deployment.schedules and not deployment.paused:
                self.client.pause_deployment(deployment.id)

    def start_worker(self, site: str) -> None:
        """Start it in its site: what the command of its unit becomes."""
        name = f"{site}-{len(self.server.others)}"
        words = ("worker", "start", "--pool", build_site_name("fleetpatch", site), "--type", "process")
        self.workers[site] = self.server.fork(
            "deployments.worker.prefect_command",
            *(*words, "--name", name),
            log=self.place / f"worker-{name}.log",
            network=self.links[site].network,
            **self.surroundings(site),
        )

    def kill_worker(self, site: str) -> None:
        """Kill the worker, and with it the processes of its runs, as the kernel or a reboot does."""
        self.workers.pop(site).kill_with_runs()

    def restart_redis(self) -> None:
        self.redis.stop()
        time.sleep(AWAY_SECONDS)
        self.redis.start()

    def restart_postgres(self) -> None:
        self.postgres.stop()
        time.sleep(AWAY_SECONDS)
        self.postgres.start()

    def restart_server(self) -> None:
        self.server.kill()
        time.sleep(AWAY_SECONDS)
        self.server.start()

    def end_leases(self, run_ids: Iterable[str]) -> None:
        """Spare the minute after which the lease of a run ends that is dead or cut off."""
        ended = update(schema.leases).where(schema.leases.c.run_id.in_(list(run_ids)))
        with open_records(self.own_url) as records, records.database.begin_write("end") as connection:
            connection.execute(ended.values(until=datetime.now(UTC) - timedelta(seconds=1)))

    def start(self, deployment: str, **changes: Any) -> UUID:
        """Start a flow run."""
        found = self.client.read_deployment_by_name(deployment)
        parameters = None
        if deployment.startswith("patch-fleet"):
            parameters = {"request": {**REQUEST, "inventory": str(self.inventory), **changes}}
        return self.client.create_flow_run_from_deployment(found.id, parameters=parameters).id

    def reconcile(self, site: str) -> None:
        """Let reconcile-fleet look for runs without a process."""
        reconcile_here(self.server, **self.surroundings(site))

    def wait_end(self, flow_run: UUID, seconds: float = 300.0) -> FlowRun:
        """Wait for the end of a flow run."""
        ends: list[FlowRun] = []

        def look() -> bool:
            run = self.client.read_flow_run(flow_run)
            ends[:] = [run]
            return run.state is not None and run.state.is_final()

        wait_for(look, f"the end of {flow_run}", seconds)
        return ends[0]

    def find_runs(self, flow_run: UUID) -> dict[str, RunInfo]:
        """The whole run of a flow run, under "", and the shard of each site that patches."""
        with open_records(self.own_url) as records:
            history = History(records)
            runs = (*history.read_runs(), *history.read_runs(kind="shard"))
        whole = {run.id for run in runs if run.flow_run_id == str(flow_run)}
        shards = {run.site: run for run in runs if run.kind == "patch" and find_whole_run_id(run.id) in whole}
        return shards | {"": run for run in runs if run.id in whole}  # noqa: B035 - one at most

    def find_lease(self, run_id: str) -> LeaseStatus | None:
        with open_records(self.own_url) as records:
            return records.leases.find_lease(run_id)

    def read_report(self, run_id: str) -> RunReport:
        with open_records(self.own_url) as records:
            return History(records).read_report(run_id)

    def read_messages(self, flow_run: UUID) -> list[str]:
        """What Prefect has of the log of a flow run, oldest first."""
        logs = LogFilter(flow_run_id=LogFilterFlowRunId(any_=[flow_run]))
        return [f"{log.timestamp:%H:%M:%S} {log.message}" for log in self.client.read_logs(logs, limit=200)]

    def find_resumes(self) -> dict[str, UUID]:
        """The flow runs that resume runs, by the id of the run."""
        resumes = self.client.read_flow_runs(flow_filter=FlowFilter(name=FlowFilterName(any_=["resume-fleet"])))
        return {_find_run_id(resume): resume.id for resume in resumes}


def _find_run_id(resume: FlowRun) -> str:
    (run_id,) = [tag.removeprefix(RUN_TAG) for tag in resume.tags if tag.startswith(RUN_TAG)]
    return run_id


def can_connect(network: str, address: str, port: int) -> str:
    """Return the error with which a connection from a namespace fails; "" if it does not."""
    code = f"import socket; socket.create_connection(({address!r}, {port}), 3).close()"
    done = subprocess.run(
        ["nsenter", f"--net=/run/netns/{network}", sys.executable, "-c", code],
        capture_output=True,
        text=True,
        check=False,
    )
    return done.stderr.strip().rpartition("\n")[2]


@contextmanager
def linked_sites(hosts: BootHosts, place: Path, count: int = 2) -> Iterator[LinkedSites]:
    """Give two sites with so many hosts each, deployed, with a worker at each."""
    with ExitStack() as stack:
        redis = stack.enter_context(redis_server(place / "redis"))
        machines = hosts(2 * count)
        at_sites = dict(zip(SITES, (machines[:count], machines[count:]), strict=True))
        links = stack.enter_context(link_sites(*at_sites.values()))
        postgres = stack.enter_context(own_server(links.center))
        settings = {
            **REDIS_SETTINGS,
            REDIS_URL_VARIABLE: redis.url,
            DOCKET_URL_VARIABLE: redis.url,
            "PYTHONPATH": os.pathsep.join((PYTHONPATH, str(PREFECT_REDIS))),
        }
        database = make_postgres_database(postgres)
        server = PrefectServer(place / "prefect", free_port(), database, settings=settings, host=links.center)
        stack.callback(server.remove)
        server.start()
        client = stack.enter_context(server.client())
        made = LinkedSites(
            place, at_sites, dict(zip(SITES, links.sites, strict=True)), links.center, server, client, postgres, redis
        )
        made.describe()
        made.deploy()
        for site in SITES:
            made.start_worker(site)
        yield made
