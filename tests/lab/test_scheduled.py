"""Windows as people have them: configurations in files, a real Prefect server, real workers, real machines.

All is one story with one server, and every flow run of it tells something: each is a process that takes long to start.
"""

import subprocess
import time
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
from prefect.client.schemas.objects import FlowRun, State
from prefect.client.schemas.sorting import FlowRunSort
from prefect.states import Cancelled, Cancelling, Scheduled

from flows.approval.decisions import approve_run, find_waiting_runs
from tasks.model import RunReport
from tasks.protocols.records import JournalMark
from tasks.records.queries.history import History
from tasks.records.setup import open_records
from tasks.records.window_claims import SqlWindowClaims
from tasks.rules.timing.admission import WindowClaim, WindowStatus
from tasks.states import OperationState
from tests.lab.engine import Fleet, configured_times
from tests.lab.fleet import LabHost
from tests.lab.killing import set_slow
from tests.support.command import run_command
from tests.support.postgres import fresh_database
from tests.support.prefect_server import PrefectServer, prefect_server

pytestmark = pytest.mark.slow

PATIENCE = 240.0  # seconds: a busy machine takes half a minute to start a flow run's process
FREEZE = {"start": "2020-01-01", "end": "2998-12-31", "reason": "release"}
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
            "settle_seconds": 15,
            "stage": False,
            **more,
        }
        (self.folder / f"{name}.yaml").write_text(yaml.safe_dump(document))

    def change(self, name: str, **fields: object) -> None:
        """Write other values of some keys."""
        path = self.folder / f"{name}.yaml"
        path.write_text(yaml.safe_dump(yaml.safe_load(path.read_text()) | fields))

    def deploy(self) -> None:
        """As a person does."""
        words = ["deploy", str(self.folder), "--yes"]
        done = run_command(words, self.server.environment(**self.surroundings()), self.fleet.place)
        assert done.returncode == 0, done.stdout + done.stderr

    def work(self) -> "subprocess.Popen[bytes]":
        """Start a worker: ``fleetpatch deploy --serve``, with nothing left to deploy."""
        log = self.fleet.place / f"worker-{len(self.workers)}.log"
        worker = self.server.run(
            "-m", "deployments.command", "deploy", str(self.folder), "--yes", "--serve", log=log, **self.surroundings()
        )
        self.workers.append(worker)
        return worker

    def surroundings(self) -> dict[str, str]:
        return {"FLEETPATCH_RECORDS_URL": self.records_url, "XDG_DATA_HOME": str(self.fleet.place / "data")}

    # ---- what came of it

    def flow_runs(self, name: str) -> list[FlowRun]:
        deployment = self.client.read_deployment_by_name(f"patch-fleet/{name}")
        mine = DeploymentFilter(id=DeploymentFilterId(any_=[deployment.id]))
        return self.client.read_flow_runs(deployment_filter=mine, sort=FlowRunSort.EXPECTED_START_TIME_ASC)

    def flow_run(self, name: str) -> FlowRun:
        """The first flow run of a configuration, once its schedule has made it."""
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

    def known(self, name: str) -> tuple[WindowClaim, ...]:
        """What the records know of a configuration's windows of these days."""
        now = datetime.now(UTC)
        with open_records(self.records_url) as records:
            claims = SqlWindowClaims(records.database)
            return claims.find_claims_between(now - timedelta(days=1), now + timedelta(days=1), name)

    def standing(self, name: str) -> WindowStatus | None:
        """The standing of a configuration's one window."""
        found = self.known(name)
        assert len(found) < 2
        return found[0].status if found else None

    def until(self, seen: Callable[[], Any], what: str, seconds: float = PATIENCE) -> Any:
        end = time.monotonic() + seconds
        while not (found := seen()):
            assert time.monotonic() < end, f"never seen: {what}"
            time.sleep(1)  # each look costs the server as much as us
        return found


@contextmanager
def planned(hosts: Boot, count: int, place: Path) -> Iterator[Planned]:
    fleet = Fleet(hosts(count), place)
    fleet.describe()
    with (
        fresh_database() as records_url,
        prefect_server(place / "prefect") as server,
        server.client() as client,
    ):
        yield Planned(fleet, server, client, records_url)


def whole_minute(ahead: float) -> datetime:
    """The first whole minute that is at least so many seconds away: configurations are written to the minute."""
    moment = datetime.now(UTC) + timedelta(seconds=ahead)
    return (moment + timedelta(minutes=1)).replace(second=0, microsecond=0)


@pytest.mark.postgres
def test_windows_are_kept_whatever_comes_between(hosts: Boot, tmp_path: Path) -> None:
    """Nobody works when the first windows open; a worker comes, is killed in the middle, and another comes.

    Beside that a freeze before an approval, a download as far ahead as windows recur, and runs that are cancelled.
    """
    with planned(hosts, 4, tmp_path) as plan:
        both, stopped, nightly, untouched = plan.fleet.hosts
        set_slow([both, stopped], 30)
        start = whole_minute(25)
        soon = start + timedelta(minutes=2)  # its runs are due a minute before
        _configured(plan, start, soon)
        plan.deploy()
        _cancelled_before_they_begin(plan, soon)
        plan.until(lambda: datetime.now(UTC) >= start + timedelta(seconds=61), "the end of the short window")

        worker = plan.work()

        plan.until(lambda: " upgrade lab-slow" in stopped.dpkg_log(), "an installation")
        plan.client.set_flow_run_state(plan.flow_run("stopped").id, Cancelling())
        plan.until(lambda: plan.installing("one") or plan.installing("other"), "the installation of one")
        worker.kill()  # -9; the processes that it has started go on
        worker.wait()
        plan.work()
        _reconciled_now(plan)
        (waiting,) = plan.until(lambda: find_waiting_runs(plan.records_url), "the run that is to be frozen")
        plan.change("frozen", freezes=[FREEZE])
        plan.deploy()
        approve_run(waiting.run.id, "anne", records_url=plan.records_url)

        _patched_by_one(plan, both, start)
        _stopped_in_the_middle(plan, stopped)
        _missed(plan)
        _frozen_before_its_approval(plan)
        _patched_beside_its_download(plan, nightly, soon)
        _cancelled_by_the_limit(plan)
        _never_begun(plan)
        assert untouched.package_versions("lab-plain") == {"lab-plain": "1.0"}


def _configured(plan: Planned, start: datetime, soon: datetime) -> None:
    both, stopped, nightly, untouched = plan.fleet.hosts
    plan.configure("one", both, start, "lab-slow")
    plan.configure("other", both, start, "lab-slow")
    plan.configure("stopped", stopped, start, "lab-slow", "lab-plain")
    plan.configure("missed", untouched, start, "lab-plain", reboot="Never")
    plan.configure("nightly", nightly, soon, "lab-plain", lead=1, stage=True, stage_ahead="1d")
    for name, opens, length in (("missed", start, 1), ("nightly", soon, 20)):
        daily = {"start": f"{opens:%Y-%m-%d %H:%M}", "length": length, "zone": "UTC", "recurrence": "1Day"}
        plan.change(name, window=daily)
    plan.configure("frozen", untouched, soon, "lab-plain", lead=1, approval={"required": True})
    plan.configure("limited", untouched, start + timedelta(minutes=30), "lab-plain", lead=29)
    plan.configure("dropped", untouched, soon, "lab-plain")


def _cancelled_before_they_begin(plan: Planned, soon: datetime) -> None:
    dropped, limited = plan.flow_run("dropped"), plan.flow_run("limited")
    assert dropped.auto_scheduled
    assert dropped.expected_start_time == soon
    by_person: State[Any] = Cancelled(message="not tonight")
    by_limit: State[Any] = Cancelled(message="Deployment concurrency limit reached.")
    plan.client.set_flow_run_state(dropped.id, by_person, force=True)
    plan.client.set_flow_run_state(limited.id, by_limit, force=True)


def _reconciled_now(plan: Planned) -> None:
    """Have the next reconciliation at once: it comes every five minutes."""
    reconcile = plan.client.read_deployment_by_name("reconcile-fleet/scheduled")
    mine = DeploymentFilter(id=DeploymentFilterId(any_=[reconcile.id]))
    runs = plan.client.read_flow_runs(deployment_filter=mine, sort=FlowRunSort.EXPECTED_START_TIME_ASC)
    following = next(run for run in runs if run.state is not None and run.state.name == "Scheduled")
    plan.client.set_flow_run_state(following.id, Scheduled(scheduled_time=datetime.now(UTC)), force=True)


def _patched_by_one(plan: Planned, host: LabHost, start: datetime) -> None:
    """What two runs want is done by one of them, late, in what was left of the window."""
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
    for report in reports:
        assert report.run.window is not None
        assert report.run.window.start == start  # by its schedule, not from when it came to it
        assert report.run.started_at > start + timedelta(seconds=60)
        assert plan.standing(str(report.run.request["configuration"])) is WindowStatus.CLAIMED


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


def _missed(plan: Planned) -> None:
    assert plan.ended("missed") == "Cancelled"
    assert plan.standing("missed") is WindowStatus.MISSED
    report = plan.report("missed")
    assert report is not None
    assert report.run.state is OperationState.NOT_STARTED
    assert "missed" in report.run.message


def _frozen_before_its_approval(plan: Planned) -> None:
    assert plan.ended("frozen") == "Completed"
    report = plan.report("frozen")
    assert report is not None
    (outcome,) = report.outcomes
    assert outcome.state is OperationState.NOT_STARTED
    assert outcome.reason.startswith("frozen: release, from 2020-01-01")


def _patched_beside_its_download(plan: Planned, host: LabHost, start: datetime) -> None:
    name, due = "nightly", start - timedelta(minutes=1)
    (run,) = [each for each in plan.flow_runs(name) if each.expected_start_time == due]
    plan.until(lambda: plan.state(run.id) == "Completed", "the end of the run whose window another download meets")
    assert host.package_versions("lab-plain") == {"lab-plain": "2.0"}
    report = plan.report(name)
    assert report is not None
    assert report.run.window is not None
    assert report.run.window.start == start
    assert [outcome.state for outcome in report.outcomes] == [OperationState.SUCCEEDED]
    kept = plan.until(lambda: plan.known(f"{name} (download)"), "the window of the download")
    assert [(each.status, each.starts_at) for each in kept] == [(WindowStatus.CLAIMED, start)]
    (own,) = plan.known(name)
    assert (own.status, own.run_id) == (WindowStatus.CLAIMED, report.run.id)
    assert kept[0].run_id != own.run_id


def _cancelled_by_the_limit(plan: Planned) -> None:
    (missed,) = plan.until(lambda: plan.known("limited"), "the record of a window without a run")
    assert missed.status is WindowStatus.MISSED
    assert "Prefect cancelled flow run" in missed.reason
    with open_records(plan.records_url) as records:
        run = History(records).find_run(missed.run_id)
    assert (run.state, run.message) == (OperationState.NOT_STARTED, missed.reason)


def _never_begun(plan: Planned) -> None:
    """What a person cancelled before its start was never begun, here or there."""
    assert plan.state(plan.flow_run("dropped").id) == "Cancelled"
    report = plan.report("dropped")
    assert report is None or report.run.state is OperationState.NOT_STARTED
    assert plan.standing("dropped") in (None, WindowStatus.MISSED)
