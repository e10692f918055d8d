"""Runs whose worker dies while their process starts: a real server, real workers, real processes, and no machine."""

import functools
import os
import signal
import subprocess
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any
from uuid import UUID

import pytest
import yaml
from prefect.client.orchestration import SyncPrefectClient
from prefect.client.schemas.filters import DeploymentFilter, DeploymentFilterId, FlowRunFilter, FlowRunFilterId
from prefect.client.schemas.objects import FlowRun, State, StateType
from prefect.states import Pending, Running, Suspended

from deployments.sync import builtin_deployments
from tasks.domain.model import RunInfo
from tasks.domain.states import WindowStatus
from tasks.records.queries.history import History
from tasks.records.setup import open_records
from tasks.records.window_claims import SqlWindowClaims
from tests.ci.tree import TOP
from tests.support.command import run_command
from tests.support.environment import PYTHONPATH
from tests.support.free_port import free_port
from tests.support.other_user import needs_another_user
from tests.support.patience import wait_until
from tests.support.prefect_server import PrefectServer, prefect_server

pytestmark = pytest.mark.slow

PATIENCE = 240.0  # seconds, on cores that others use
START_SECONDS = 30  # in place of two minutes; longer on busy cores: the processes must be there before
until = functools.partial(wait_until, seconds=PATIENCE)
ENDS = {StateType.CANCELLED, StateType.COMPLETED, StateType.CRASHED, StateType.FAILED}
SLOW_START = """
import os, sys, time
from pathlib import Path
if "deployments.worker.flow_process" in sys.orig_argv:
    here = Path(__file__).parent
    output = os.open(here / f"{os.environ['PREFECT__FLOW_RUN_ID']}.{os.getpid()}", os.O_WRONLY | os.O_CREAT)
    os.dup2(output, 1)  # the worker, which has the other end of the first output, may be dead
    os.dup2(output, 2)
    while not (here / f"go-{os.environ['PREFECT__FLOW_RUN_ID']}").exists():
        time.sleep(0.05)
"""


@dataclass
class Site:
    """A server with deployments, and workers whose runs start slowly: each process waits in ``slow``."""

    server: PrefectServer
    client: SyncPrefectClient
    folder: Path
    start_seconds: float
    """How long a process may need until it begins: the cores' own pace is in it."""

    @property
    def records_url(self) -> str:
        return f"sqlite:///{self.folder / 'records.db'}"

    @property
    def environment(self) -> dict[str, str]:
        return self.server.environment(
            FLEETPATCH_RECORDS_URL=self.records_url,
            FLEETPATCH_CONFIGURATIONS=str(self.folder / "configurations"),
            PREFECT_WORKER_QUERY_SECONDS="3",
            PYTHONPATH=os.pathsep.join((str(self.folder / "slow"), PYTHONPATH)),
        )

    def configure(self, name: str, opened: datetime) -> None:
        document = {
            "name": name,
            "scope": "*",
            "inventory": str(self.folder / "fleet.yaml"),
            "window": {"start": f"{opened:%Y-%m-%d %H:%M}", "length": "2h", "zone": "UTC", "recurrence": "Day"},
            "stage": False,
        }
        (self.folder / "configurations" / f"{name}.yaml").write_text(yaml.safe_dump(document))

    def deploy(self) -> None:
        done = run_command(["deploy", str(self.folder / "configurations"), "--yes"], self.environment, TOP)
        assert done.returncode == 0, done.stdout + done.stderr

    def schedule(self, name: str, opened: datetime) -> FlowRun:
        """Let Prefect make the run of a window that is open already, as if it had made it long ago.

        The server takes a run's events in their order: one waits for that of the state before, unless five minutes are
        between them. But its scheduler tells of no run that it makes. So this does.
        """
        deployment = self.client.read_deployment_by_name(f"patch-fleet/{name}")
        span = {"start_time": (opened - timedelta(minutes=1)).isoformat(), "max_runs": 1}
        self.client.request("POST", "/deployments/{id}/schedule", path_params={"id": deployment.id}, json=span)
        runs = self.client.read_flow_runs(
            deployment_filter=DeploymentFilter(id=DeploymentFilterId(any_=[deployment.id]))
        )
        (run,) = [run for run in runs if run.expected_start_time == opened]
        assert run.state_id is not None
        made = {
            "id": str(run.state_id),
            "event": "prefect.flow-run.Scheduled",
            "occurred": datetime.now(UTC).isoformat(),
        }
        event = {
            **made,
            "resource": {"prefect.resource.id": f"prefect.flow-run.{run.id}"},
            "related": [],
            "payload": {},
        }
        self.client.request("POST", "/events", json=[event])
        return run

    def work(self, log: str) -> "subprocess.Popen[bytes]":
        words = (
            "-P",
            "-m",
            "deployments.worker.prefect_command",
            "worker",
            "start",
            "--pool",
            "fleetpatch",
            "--type",
            "process",
        )
        return self.server.run(*words, log=self.folder / log, **self.environment)

    def processes(self, run: FlowRun) -> dict[int, str]:
        """Return the processes that were started for a flow run, with what they printed."""
        return {int(path.suffix[1:]): path.read_text() for path in (self.folder / "slow").glob(f"{run.id}.*")}

    def let_go(self, run: FlowRun) -> None:
        """Let the processes of a flow run come to life, all at the same moment."""
        (self.folder / "slow" / f"go-{run.id}").touch()

    def have_states(self, runs: Sequence[FlowRun], state: StateType) -> bool:
        """Whether all these runs have this state."""
        ids = [run.id for run in runs]
        read = self.client.read_flow_runs(flow_run_filter=FlowRunFilter(id=FlowRunFilterId(any_=ids)))
        return {run.state_type for run in read} == {state}

    def state(self, run: FlowRun) -> StateType | None:
        return self.client.read_flow_run(run.id).state_type

    def recorded(self, run: FlowRun) -> list[RunInfo]:
        with open_records(self.records_url) as records:
            return [each for each in History(records).read_runs(100) if each.flow_run_id == str(run.id)]


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    folder = tmp_path_factory.mktemp("starts")
    for name in ("configurations", "slow"):
        (folder / name).mkdir()
    (folder / "slow" / "sitecustomize.py").write_text(SLOW_START)
    machine = {"name": "gone", "address": "127.0.0.1", "port": free_port(), "user": "nobody"}
    (folder / "fleet.yaml").write_text(yaml.safe_dump({"machines": [machine]}))
    began = time.monotonic()
    with prefect_server(folder / "prefect") as server, server.client() as client:
        site = Site(server, client, folder, min(120.0, START_SECONDS + 2 * (time.monotonic() - began)))
        site.configure("silent", datetime.now(UTC) + timedelta(days=1))
        site.deploy()
        yield site
        for path in (folder / "slow").glob("*-*.*"):  # of a test that failed, a process may still wait
            (folder / "slow" / f"go-{path.stem}").touch()


def test_a_run_whose_process_never_began_starts_again_and_two_processes_are_one_run(
    site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of one run the process dies. Of two it lives: one begins while its run is scheduled, one beside a second."""
    monkeypatch.setattr(builtin_deployments, "MAX_START_SECONDS", site.start_seconds)
    opened = (datetime.now(UTC) - timedelta(minutes=3)).replace(second=0, microsecond=0)
    names = ("dies", "alone", "beside")
    for name in names:
        site.configure(name, opened)
    site.deploy()
    dies, alone, beside = runs = [site.schedule(name, opened) for name in names]
    worker = site.work("worker-1.log")
    until(lambda: all(site.processes(run) for run in runs), "the first processes")
    assert site.have_states(runs, StateType.PENDING)

    worker.kill()
    worker.wait()
    os.kill(next(iter(site.processes(dies))), signal.SIGKILL)
    until(lambda: site.have_states(runs, StateType.SCHEDULED), "that they are scheduled again")
    for run in runs:
        again = site.client.read_flow_run(run.id)
        assert again.expected_start_time == opened  # the window is the same
        assert again.state is not None
        assert "its process did not start within two minutes" in (again.state.message or "")

    site.let_go(alone)
    until(lambda: site.state(alone) is StateType.RUNNING, "that the slow process begins")
    second_worker = site.work("worker-2.log")
    until(lambda: all(len(site.processes(run)) >= 2 for run in (dies, beside)), "the second processes")
    for run in (dies, beside):
        site.let_go(run)
    ended = "this process ends and changes nothing"
    until(lambda: any(ended in text for text in site.processes(beside).values()), "that one of the two ends")
    until(
        lambda: site.have_states(runs, StateType.FAILED),
        "ends: the machine is not there",
        describe=lambda: [(site.client.read_flow_run_states(run.id), site.processes(run)) for run in runs],
    )
    second_worker.kill()
    second_worker.wait()
    assert len(site.processes(alone)) == 1
    with open_records(site.records_url) as records:
        claims = SqlWindowClaims(records.database).find_claims_between(opened, opened + timedelta(seconds=1))
    for run, name in zip(runs, names, strict=True):
        (recorded,) = site.recorded(run)
        (claim,) = [each for each in claims if each.configuration == name]
        assert (claim.status, claim.run_id) == (WindowStatus.CLAIMED, recorded.id)
        assert recorded.window is not None
        assert recorded.window.start == opened
        begun = [text for text in site.processes(run).values() if f"run {recorded.id}: 1 machine in scope" in text]
        states = [state.type for state in site.client.read_flow_run_states(run.id)]
        assert len(begun) == 1
        assert [state for state in states if state in ENDS] == [StateType.FAILED]  # and none by another one


def test_a_running_run_without_a_heartbeat_gives_its_place_back(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its process and its worker were killed before the first heartbeat; each later run was cancelled for good."""
    monkeypatch.setattr(builtin_deployments, "MAX_SILENT_SECONDS", START_SECONDS)
    site.deploy()
    client = site.client
    limited, free = (client.read_deployment_by_name(f"patch-fleet/{name}").id for name in ("silent", "on-demand"))

    def start(deployment: UUID, *states: State[Any]) -> FlowRun:
        run = client.create_flow_run_from_deployment(deployment, parameters={"request": {"scope": "*"}})
        for state in states:
            client.set_flow_run_state(run.id, state)
            time.sleep(1)  # the server takes events at the same time: two of one moment may change places
        return run

    suspended = start(free, Pending(), Running(), Suspended())  # it has no process, and a person may resume it
    silent = start(limited, Pending(), Running())
    assert site.state(start(limited, Pending())) is StateType.CANCELLED
    until(lambda: site.state(silent) is StateType.CRASHED, "that it is marked as crashed")
    assert site.state(start(limited, Pending())) is StateType.PENDING
    assert site.state(suspended) is StateType.PAUSED


def _read_start(log: Path) -> str:
    """Return what a worker has printed, once it has started or failed."""
    text = log.read_text()
    return text if "started!" in text or "Error" in text else ""


@needs_another_user
def test_workers_of_two_users_of_one_host_begin_whatever_a_third_put_into_its_temporary_folder(site: Site) -> None:
    """Prefect keeps the code of runs in one folder of all users of a host: who made it first had it alone."""
    third = 65532
    workers = {
        65533: ("deployments.worker.bound_worker", str(os.getpid()), "fleetpatch", "second"),
        65534: ("fleetpatch.cli.command", "prefect", "worker", "start", "--pool", "fleetpatch", "--type", "process"),
    }
    with TemporaryDirectory(prefix="fleetpatch-users-") as name:
        Path(name).chmod(0o755)
        homes = {user: Path(name, str(user)) for user in (third, *workers)}
        for user, home in homes.items():
            home.mkdir(0o700)
            os.chown(home, user, user)
        shared = Path(name, "tmp")
        shared.mkdir()
        shared.chmod(0o1777)
        (shared / "runner_storage").symlink_to(
            homes[third]
        )  # what others put there would be the third user's to replace
        os.lchown(shared / "runner_storage", third, third)
        for user, words in workers.items():
            log = Path(name, f"{user}.log")
            site.server.run_as(user, *words, home=homes[user], log=log, TMPDIR=str(shared))
            text = until(functools.partial(_read_start, log), "its start")
            assert "Error" not in text, text
        folders = [path.stat() for path in shared.iterdir() if not path.is_symlink()]
        assert {(each.st_uid, each.st_mode & 0o777) for each in folders} == {(user, 0o700) for user in workers}
        site.server.stop_others()
        assert [path.name for path in shared.iterdir()] == ["runner_storage"]
        assert list(homes[third].iterdir()) == []
