"""Windows as people have them: configurations in files, a real Prefect server, a real worker, real machines."""

import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from uuid import UUID

import pytest
import yaml
from prefect.client.orchestration import SyncPrefectClient
from prefect.client.schemas.filters import DeploymentFilter, DeploymentFilterId
from prefect.client.schemas.objects import FlowRun
from prefect.states import Cancelling

from tasks.domain.model import RunReport
from tasks.domain.protocols.records import JournalMark
from tasks.domain.states import OperationState, WindowStatus
from tasks.records.queries.history import History
from tasks.records.setup import open_records
from tasks.records.window_claims import SqlWindowClaims
from tests.ci.tree import TOP
from tests.lab.engine import Fleet, configured_times
from tests.lab.fleet import LabHost
from tests.lab.killing import set_slow
from tests.support.patience import wait_until
from tests.support.postgres import own_server
from tests.support.prefect_server import PrefectServer, prefect_server
from tests.support.prefect_tables import make_postgres_database

pytestmark = pytest.mark.slow

PATIENCE = 400.0  # seconds: a busy machine takes a minute to start a flow run's process
Boot = Callable[[int], list[LabHost]]


@dataclass
class Planned:
    """A fleet, a folder of configurations for it, a server, and workers that come and go."""

    fleet: Fleet
    server: PrefectServer
    client: SyncPrefectClient
    records_url: str
    workers: list["subprocess.Popen[bytes]"] = field(default_factory=list)

    @property
    def folder(self) -> Path:
        return self.fleet.place / "configurations"

    def configure(self, name: str, host: LabHost, start: datetime, *masks: str, minutes: int = 20, **more: Any) -> None:
        """Write a configuration whose one window opens then, on one host, for these updates."""
        self.folder.mkdir(exist_ok=True)
        document = {
            "name": name,
            "machines": [host.name],
            "inventory": str(self.fleet.inventory),
            "updates": {"classifications": [], "include": list(masks)},
            "window": {"start": f"{start:%Y-%m-%d %H:%M}", "length": minutes, "zone": "UTC"},
            "reboot_reserve_minutes": 0.5,
            "settle_seconds": 0,
            "come_back_seconds": 15,
            "stage": False,
            **more,
        }
        (self.folder / f"{name}.yaml").write_text(yaml.safe_dump(document))

    def deploy(self) -> None:
        """As a person does."""
        done = subprocess.run(
            [sys.executable, "-m", "fleetpatch.cli.command", "deploy", str(self.folder), "--yes"],
            env=self.environment(),
            cwd=TOP,
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 0, done.stdout + done.stderr

    def work(self) -> "subprocess.Popen[bytes]":
        """Start a worker: ``fleetpatch deploy --serve``, with nothing left to deploy."""
        log = self.fleet.place / f"worker-{len(self.workers)}.log"
        worker = self.server.run(
            "-m",
            "fleetpatch.cli.command",
            "deploy",
            str(self.folder),
            "--yes",
            "--serve",
            log=log,
            **self.surroundings(),
        )
        self.workers.append(worker)
        return worker

    def surroundings(self) -> dict[str, str]:
        return {"FLEETPATCH_RECORDS_URL": self.records_url, "XDG_DATA_HOME": str(self.fleet.place / "data")}

    def environment(self) -> dict[str, str]:
        return self.server.environment(**self.surroundings())

    # ---- what came of it

    def flow_runs(self, name: str) -> list[FlowRun]:
        deployment = self.client.read_deployment_by_name(f"patch-fleet/{name}")
        return self.client.read_flow_runs(
            deployment_filter=DeploymentFilter(id=DeploymentFilterId(any_=[deployment.id]))
        )

    def flow_run(self, name: str) -> FlowRun:
        """The one flow run of a configuration, once its schedule has made it."""
        runs: list[FlowRun] = self.until(lambda: self.flow_runs(name), f"a flow run of {name}")
        return runs[0]

    def state(self, flow_run: UUID) -> str:
        state = self.client.read_flow_run(flow_run).state
        return str(state.name) if state is not None else ""

    def ended(self, name: str) -> str:
        """Wait until a configuration's flow run is over by Prefect; return its state."""
        run = self.flow_run(name)
        self.until(
            lambda: (state := self.client.read_flow_run(run.id).state) is not None and state.is_final(),
            f"the end of {name}",
        )
        return self.state(run.id)

    def report(self, name: str) -> RunReport | None:
        """What the records know of a configuration's newest run."""
        with open_records(self.records_url) as records:
            history = History(records)
            for run in history.read_runs(50, kind="patch"):
                if run.request.get("configuration") == name:
                    return history.read_report(run.id)
        return None

    def installing(self, name: str) -> bool:
        """Whether a run of a configuration has begun to install something."""
        report = self.report(name)
        if report is None:
            return False
        with open_records(self.records_url) as records:
            return any(
                entry.act == "install" and entry.mark is JournalMark.BEFORE
                for entry in records.read_entries(report.run.id)
            )

    def standing(self, name: str, start: datetime) -> WindowStatus | None:
        with open_records(self.records_url) as records:
            found = SqlWindowClaims(records.database).find_claims_between(start, start + timedelta(seconds=1), name)
        return found[0].status if found else None

    def until(self, seen: Callable[[], Any], what: str, seconds: float = PATIENCE) -> Any:
        return wait_until(seen, what, seconds)


@contextmanager
def planned(hosts: Boot, count: int, place: Path, databases: tuple[str, str]) -> Iterator[Planned]:
    fleet = Fleet(hosts(count), place)
    fleet.describe()
    with prefect_server(place / "prefect", databases[0]) as server, server.client() as client:
        yield Planned(fleet, server, client, databases[1])


def whole_minute(ahead: float) -> datetime:
    """The first whole minute that is at least so many seconds away: configurations are written to the minute."""
    moment = datetime.now(UTC) + timedelta(seconds=ahead)
    return (moment + timedelta(minutes=1)).replace(second=0, microsecond=0)


@pytest.mark.postgres
def test_a_worker_that_was_down_patches_in_what_is_left_and_never_beyond(hosts: Boot, tmp_path: Path) -> None:
    """Nobody works when the windows open; then a worker comes, and is killed in the middle, and another comes."""
    with own_server() as postgres:
        databases = make_postgres_database(postgres), postgres.url("fleetpatch")
        with planned(hosts, 4, tmp_path, databases) as plan:
            late, missed, both, stopped = plan.fleet.hosts
            set_slow([both, stopped], 30)
            start = whole_minute(120)  # on busy cores `deploy` takes long, and Prefect makes no run for what is past
            plan.configure("late", late, start, "lab-plain")
            plan.configure("missed", missed, start, "lab-plain", minutes=1, reboot="Never")
            plan.configure("one", both, start, "lab-slow")
            plan.configure("other", both, start, "lab-slow")
            plan.configure("stopped", stopped, start, "lab-slow", "lab-plain")
            plan.deploy()
            plan.until(lambda: datetime.now(UTC) >= start + timedelta(seconds=61), "the end of the short window")

            worker = plan.work()

            plan.until(lambda: " upgrade lab-slow" in stopped.dpkg_log(), "what the cancelled run installs")
            plan.client.set_flow_run_state(plan.flow_run("stopped").id, Cancelling())
            plan.until(lambda: plan.installing("one") or plan.installing("other"), "the installation of one")
            worker.kill()  # -9; the processes that it has started go on
            worker.wait()
            plan.work()

            _patched_in_what_was_left(plan, late, start)
            _missed(plan, missed, start)
            _patched_by_one(plan, both)
            _stopped_in_the_middle(plan, stopped)


def _patched_in_what_was_left(plan: Planned, host: LabHost, start: datetime) -> None:
    assert plan.ended("late") == "Completed"
    report = plan.report("late")
    assert report is not None
    assert report.run.window is not None
    assert report.run.window.start == start  # by its schedule, not from when it came to it
    assert report.run.started_at > start + timedelta(seconds=60)
    assert plan.standing("late", start) is WindowStatus.CLAIMED
    assert [outcome.state for outcome in report.outcomes] == [OperationState.SUCCEEDED]
    assert host.package_versions("lab-plain") == {"lab-plain": "2.0"}


def _missed(plan: Planned, host: LabHost, start: datetime) -> None:
    assert plan.ended("missed") == "Cancelled"
    assert plan.standing("missed", start) is WindowStatus.MISSED
    report = plan.report("missed")
    assert report is not None
    assert report.run.state is OperationState.NOT_STARTED
    assert "missed" in report.run.message
    assert host.package_versions("lab-plain") == {"lab-plain": "1.0"}


def _patched_by_one(plan: Planned, host: LabHost) -> None:
    ends = sorted((plan.ended("one"), plan.ended("other")))
    reports = [report for name in ("one", "other") if (report := plan.report(name)) is not None]
    outcomes = [outcome for report in reports for outcome in report.outcomes]
    states = [outcome.state for outcome in outcomes]
    assert states.count(OperationState.SUCCEEDED) >= 1, (ends, outcomes)
    assert configured_times(host, "lab-slow", "2.0") == 1
    assert host.package_versions("lab-slow") == {"lab-slow": "2.0"}
    for outcome in outcomes:
        if outcome.state is not OperationState.SUCCEEDED:
            other = next(report.run.id for report in reports if report.run.id != outcome.run_id)
            assert other in outcome.reason  # whose the machine is


def _stopped_in_the_middle(plan: Planned, host: LabHost) -> None:
    assert plan.ended("stopped") == "Cancelled"
    over = lambda: (report := plan.report("stopped")) is not None and report.run.ended_at is not None  # noqa: E731
    plan.until(over, "the end of the record of what was cancelled")
    report = plan.report("stopped")
    assert report is not None
    (outcome,) = report.outcomes
    there = host.package_versions("lab-slow", "lab-plain")
    assert there["lab-slow"] == "2.0"  # what was begun was let end
    assert configured_times(host, "lab-slow", "2.0") == 1
    told = {result.update.name: result.version_after for result in outcome.updates if result.version_after}
    assert {name: there[name] for name in told} == told
