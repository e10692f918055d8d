"""A fleet of several sites on this machine: recorded machines behind SSH, its deployments, a worker for each site."""

import subprocess
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final
from uuid import UUID, uuid4

import yaml
from prefect.client.orchestration import SyncPrefectClient

from deployments.server.settings import build_environment
from flows.prefect_api.server_settings import SettingTarget
from flows.prefect_api.tags import build_site_name
from inventory.machine import DEFAULT_SITE
from inventory.sites import SITE_VARIABLE
from tasks.domain.model import RunReport
from tasks.records.queries.history import History
from tasks.records.setup import open_records
from tasks.rules.runs.shards import find_whole_run_id
from tests.bench.answering.server import USER, list_addresses
from tests.ci.tree import TOP
from tests.support.free_port import free_port
from tests.support.postgres import Server as Postgres
from tests.support.prefect_server import PrefectServer
from tests.support.ssh_server import new_key

START_SECONDS: Final = 120.0
POOL: Final = "fleetpatch"


class Shares:
    """Weights of processes and of all their children, as systemd gives them to units: groups of cgroup v1 or v2."""

    def __init__(self) -> None:
        groups = dict(
            line.split(":")[1:] for line in Path("/proc/self/cgroup").read_text(encoding="ascii").splitlines()
        )
        first = Path("/sys/fs/cgroup/cpu")
        self._file = "cpu.shares" if first.is_dir() else "cpu.weight"
        own = groups.get("cpu", groups.get("", "/")).lstrip("/")
        self._top = (first if first.is_dir() else first.parent) / own
        self._groups: list[Path] = []

    def set_weight(self, process_id: int, weight: int) -> None:
        """Set it; 100 is the usual one. OSError: this needs root, and a machine whose groups may be made here."""
        group = self._top / f"fp-bench-{process_id}"
        group.mkdir()
        self._groups.append(group)
        (group / self._file).write_text(str(weight * 1024 // 100 if self._file == "cpu.shares" else weight))
        (group / "cgroup.procs").write_text(str(process_id))

    def lift(self) -> None:
        """Give all processes the usual weight, so that they end soon."""
        for group in self._groups:
            (group / self._file).write_text("1024" if self._file == "cpu.shares" else "100")

    def remove(self) -> None:
        """Remove the groups. Their processes have ended."""
        for group in self._groups:
            group.rmdir()
        self._groups.clear()


def write_fleet(home: Path, count: int, sites: Sequence[str]) -> int:
    """Write the keys and the inventory of machines that answer at a port, and return the port."""
    host_key, port = new_key(home / "host_key"), free_port()
    new_key(home / "user_key")
    addresses = list(list_addresses(count))
    known = (f"[{address}]:{port} {host_key.get_name()} {host_key.get_base64()}\n" for address in addresses)
    (home / "known_hosts").write_text("".join(known), encoding="utf-8")
    machines = [
        {"name": f"m{number:05}", "address": address, "site": sites[number % len(sites)]}
        for number, address in enumerate(addresses, start=1)
    ]
    inventory = {
        "host_keys": {"policy": "pinned", "known_hosts": "known_hosts"},
        "defaults": {"user": USER, "port": port, "credential": f"key:{home / 'user_key'}"},
        "machines": machines,
    }
    (home / "fleet.yaml").write_text(yaml.safe_dump(inventory), encoding="utf-8")
    return port


@dataclass
class Fleet:
    """A fleet of several sites in a folder: its inventory, its records, its workers, and the server of its machines."""

    home: Path
    server: PrefectServer
    postgres: Postgres
    machines: int
    site_count: int
    job_seconds: float = 1.0
    workers: "list[subprocess.Popen[bytes]]" = field(default_factory=list)
    database: str = field(default_factory=lambda: f"fleet_{uuid4().hex}")
    port: int = 0
    shares: Shares = field(default_factory=Shares)

    @property
    def sites(self) -> Sequence[str]:
        """The names of the sites."""
        return [DEFAULT_SITE, *(f"site{number}" for number in range(2, self.site_count + 1))]

    @property
    def worker_weight(self) -> int:
        """The weight of a worker and its runs, as its unit has it."""
        unit = (TOP / "deployments/units/fleetpatch-worker@.service").read_text(encoding="utf-8")
        return int(unit.partition("\nCPUWeight=")[2].partition("\n")[0])

    @property
    def logs(self) -> Sequence[Path]:
        """What the workers and the processes of their runs print."""
        return [self.home / f"{build_site_name(POOL, site)}.log" for site in self.sites]

    @property
    def records_url(self) -> str:
        """Where the records are."""
        return self.postgres.url(self.database)

    def write(self) -> None:
        """Make the database, the keys and the inventory."""
        self.home.mkdir(mode=0o700)
        self.postgres.execute(f"CREATE DATABASE {self.database} ENCODING 'UTF8' LOCALE 'C' TEMPLATE template0")
        self.port = write_fleet(self.home, self.machines, self.sites)
        window = {"start": "2099-01-01 22:00", "length": "03:00", "zone": "UTC"}
        later = {"name": "later", "scope": "*", "window": window}
        (self.home / "later.yaml").write_text(
            yaml.safe_dump(later), encoding="utf-8"
        )  # nothing is deployed without one

    def environment(self, **more: str) -> dict[str, str]:
        """Return what the processes of the fleet have beside Prefect's URL.

        Without the tests' setting of the garbage collector.
        """
        return {
            **build_environment(SettingTarget.WORKER),
            "PYTHONPATH": str(TOP),
            "HOME": str(self.home),
            "FLEETPATCH_RECORDS_URL": self.records_url,
            "FLEETPATCH_INVENTORY": str(self.home / "fleet.yaml"),
            **more,
        }

    @contextmanager
    def open(self) -> Iterator[None]:
        """Let its machines answer, deploy it, and let a worker of each site work, until the end of the block."""
        words = (str(self.home), str(self.port), str(self.machines), str(self.job_seconds))
        log = self.home / "machines.log"
        answering = self.server.run("-m", "tests.bench.answering.server", *words, log=log)
        self.shares.set_weight(answering.pid, 1)  # real machines take nothing from the controller
        wait_for(lambda: "ready" in log.read_text(), answering, log)
        self._run("deploy", "--yes", str(self.home / "later.yaml"))
        for site, log in zip(self.sites, self.logs, strict=True):
            pool = build_site_name(POOL, site)
            command = ("-P", "-m", "deployments.worker.prefect_command", "worker", "start", "--pool", pool)
            environment = self.environment(**{SITE_VARIABLE: site})
            self.workers.append(self.server.run(*command, "--type", "process", log=log, **environment))
            self.shares.set_weight(self.workers[-1].pid, self.worker_weight)
            wait_for(lambda log=log: "started" in log.read_text(), self.workers[-1], log)
        try:
            yield
        finally:
            self.shares.lift()
            for process in (*self.workers, answering):
                process.terminate()
            for process in (*self.workers, answering):
                process.wait(START_SECONDS)
            self.shares.remove()

    def _run(self, *words: str) -> None:
        log = self.home / "command.log"
        if self.server.run("-m", "fleetpatch.cli.command", *words, log=log, **self.environment()).wait() != 0:
            raise RuntimeError(log.read_text()[-3000:])

    def start(self, client: SyncPrefectClient, at_once: int) -> UUID:
        """Start a run of all machines by its deployment."""
        request = {
            "scope": "*",
            "window": {"minutes": 120},
            "waves": {"percent": 25, "at_once": at_once},
            "assess_at_once": at_once,
            "settle_seconds": 0,
            "come_back_seconds": 0,
            "reboot": "Never",
        }
        deployment = client.read_deployment_by_name("patch-fleet/on-demand")
        return client.create_flow_run_from_deployment(deployment.id, parameters={"request": request}).id

    def read_reports(self, flow_run: UUID) -> tuple[RunReport, list[RunReport]]:
        """Return the report of the whole run, and those of its shards that patch."""
        with open_records(self.records_url) as records:
            history = History(records)
            (whole,) = [run for run in history.read_runs(limit=100) if run.flow_run_id == str(flow_run)]
            shards = [run for run in history.read_runs(kind="shard", limit=1000) if run.kind == "patch"]
            mine = [run for run in shards if find_whole_run_id(run.id) == whole.id and run.may_change_machines]
            return history.read_report(whole.id), [history.read_report(run.id) for run in mine]


def wait_for(look: Any, process: "subprocess.Popen[bytes]", log: Path, seconds: float = START_SECONDS) -> None:
    """Wait until something is seen. RuntimeError: the process has ended, or the time is over."""
    until = time.monotonic() + seconds
    while not look():
        if process.poll() is not None or time.monotonic() > until:
            raise RuntimeError(log.read_text()[-3000:])
        time.sleep(0.2)
