"""`fleetpatch server` and `doctor --server` for real: a server process over SQLite and PostgreSQL, asked and ended.

On PostgreSQL it makes its tables itself; on SQLite they are there. Doctor is a process once.
"""

import json
import signal
import socket
import stat
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from prefect.client.orchestration import get_client
from prefect.client.schemas.actions import DeploymentScheduleCreate, WorkPoolCreate
from prefect.client.schemas.schedules import CronSchedule
from prefect.states import Running

from deployments.configuration.prefect_names import ASSESSMENT_QUEUE
from deployments.server.health_checks import run_server_checks
from deployments.server.probe import probe_server
from deployments.server.settings import CLOSED_JOB_TEMPLATE
from flows.prefect_api.server_login import describe_refused_login, ensure_login, find_login_path
from tests.contract.test_compose_roles import make_roles
from tests.contract.test_compose_roles import url as role_url
from tests.support import postgres
from tests.support.command import run_command
from tests.support.environment import without_ours
from tests.support.free_port import free_port
from tests.support.other_user import BECOME_NOBODY, needs_another_user
from tests.support.patience import wait_until
from tests.support.prefect_server import use_server
from tests.support.prefect_tables import put_tables

START_SECONDS = END_SECONDS = 240.0  # what others do on the same cores makes it slow
PASSWORD = "fleet:cd40b5f1ab9e8e7c0a3e"  # pragma: allowlist secret
IGNORING = ("env", "--ignore-signal=INT", "--ignore-signal=HUP")  # as the background of a script
COMMAND = (sys.executable, "-m", "fleetpatch.cli.command")
DOCTOR = ("doctor", "--server", "--json")

pytestmark = pytest.mark.slow


@dataclass
class Server:
    """A server that `fleetpatch server` became."""

    folder: Path
    port: int = field(default_factory=free_port)
    process: subprocess.Popen[bytes] | None = None

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}/api"

    @property
    def home(self) -> Path:
        return self.folder / "data" / "fleetpatch" / "prefect"

    @property
    def log(self) -> str:
        return (self.folder / "log").read_text()

    def environment(self, **more: str) -> dict[str, str]:
        kept = without_ours()
        records = f"sqlite:///{self.folder / 'records.db'}"
        return {**kept, "XDG_DATA_HOME": str(self.folder / "data"), "FLEETPATCH_RECORDS_URL": records, **more}

    def start(self, *words: str, **more: str) -> None:
        with (self.folder / "log").open("wb") as log:
            self.process = subprocess.Popen(
                [*IGNORING, *COMMAND, "server", "--port", str(self.port), *words],
                env=self.environment(**more),
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
            )
        until = time.monotonic() + START_SECONDS
        while not self.answers():
            assert self.process.poll() is None, self.log
            assert time.monotonic() < until, self.log
            time.sleep(0.2)

    def answers(self) -> bool:
        try:
            with urllib.request.urlopen(f"{self.url}/health", timeout=5):
                return True
        except OSError:
            return False

    def end(self, how: signal.Signals = signal.SIGTERM) -> int:
        assert self.process is not None
        self.process.send_signal(how)
        try:
            return self.process.wait(END_SECONDS)
        except subprocess.TimeoutExpired:
            self.process.kill()
            raise

    def doctor_as_process(self) -> tuple[int, dict[str, tuple[str, str]]]:
        """Ask doctor. Returns its exit code, and level and message by check."""
        environment = self.environment(PREFECT_API_URL=self.url, PREFECT_HOME=str(self.folder / "client"))
        words = [*COMMAND, *DOCTOR]
        return findings(subprocess.run(words, env=environment, capture_output=True, text=True, check=False))

    def doctor(self, password: str = "") -> tuple[int, dict[str, tuple[str, str]]]:
        """Ask doctor, in this process."""
        with asking(self, password):
            return findings(run_command(DOCTOR, self.environment(), self.folder))


def findings(done: "subprocess.CompletedProcess[str]") -> tuple[int, dict[str, tuple[str, str]]]:
    """Return the exit code of doctor, and level and message by check."""
    document: dict[str, Any] = json.loads(done.stdout)
    assert document["exitCode"] == done.returncode
    assert document["machines"] == []
    return done.returncode, {each["check"]: (each["level"], each["message"]) for each in document["server"]}


@pytest.fixture
def server(tmp_path: Path) -> Iterator[Server]:
    made = Server(tmp_path)
    yield made
    if made.process is not None and made.process.poll() is None:
        made.process.kill()
        made.process.wait()


@contextmanager
def asking(server: Server, password: str = "") -> Iterator[None]:
    """Let this process's client talk to the server, with the password that it has made itself or another."""
    login = password or ensure_login()
    with use_server(server.url, server.folder / "client", login):
        yield


def deploy(server: Server, pool: str = "fleetpatch", password: str = "") -> str:
    """Put a pool with its two queues and a deployment with a schedule there. Returns the deployment's id."""
    with asking(server, password), get_client(sync_client=True) as client:
        client.create_work_pool(WorkPoolCreate(name=pool, type="process", base_job_template=dict(CLOSED_JOB_TEMPLATE)))
        client.create_work_queue(ASSESSMENT_QUEUE, work_pool_name=pool, priority=2)
        flow = client.create_flow_from_name("patch-fleet")
        schedule = DeploymentScheduleCreate(
            schedule=CronSchedule(cron="0 22 * * *", timezone="Europe/Berlin"), active=True
        )
        made = client.create_deployment(
            flow, "nightly", tags=["fleetpatch"], work_pool_name=pool, schedules=[schedule], entrypoint="nowhere.py:f"
        )
        return str(made)


@contextmanager
def worker(server: Server, pool: str = "fleetpatch") -> Iterator[None]:
    """Run a real worker."""
    environment = server.environment(PREFECT_API_URL=server.url, PREFECT_HOME=str(server.folder / "worker"))
    words = [*COMMAND, "prefect", "worker", "start", "--pool", pool, "--name", "tested"]
    path = server.folder / "worker.log"
    with path.open("wb") as log:
        process = subprocess.Popen(words, env=environment, stdin=subprocess.DEVNULL, stdout=log, stderr=log)
    try:
        wait_until(lambda: "started!" in path.read_text(), "the worker", START_SECONDS, path.read_text)
        yield
    finally:
        process.kill()  # it has nothing to do; how it ends otherwise is not asked here
        process.wait()


def until(server: Server, check: str, wanted: tuple[str, str]) -> tuple[int, dict[str, tuple[str, str]]]:
    """Ask doctor, in this process, until a check says what is wanted, or it has had time enough."""
    over = time.monotonic() + START_SECONDS
    while True:
        code, found = server.doctor()
        if found[check] == wanted or time.monotonic() > over:
            return code, found
        time.sleep(2.0)  # a look asks for all that doctor knows: half a second of a processor


def list_bad_checks(found: dict[str, tuple[str, str]]) -> set[str]:
    return {check for check, (level, _) in found.items() if level != "good"}


def test_on_sqlite_from_its_start_to_its_end(server: Server) -> None:
    put_tables(server.home)
    server.start()
    assert f"UI        http://127.0.0.1:{server.port}\n" in server.log
    assert f"\ncat {find_login_path()}\n" in server.log
    assert stat.S_IMODE(find_login_path().stat().st_mode) == 0o600
    with urllib.request.urlopen(f"http://127.0.0.1:{server.port}/", timeout=240) as page:
        assert b"<html" in page.read()
    code, found = server.doctor_as_process()
    assert code == 3
    assert list_bad_checks(found) == {"deployments"}
    assert found["database"][1].startswith("SQLite")

    deployment = deploy(server)
    ahead = ("good", "1 active schedules have runs")
    code, found = until(server, "scheduler", ahead)  # it looks at new deployments every five seconds
    assert found["scheduler"] == ahead
    assert (code, found["pool fleetpatch"][0]) == (5, "block")
    with worker(server):
        code, found = until(server, "pool fleetpatch", ("good", "online: tested"))
    assert found["pool fleetpatch"] == ("good", "online: tested")
    assert code == 0, found
    assert_runs_that_nobody_carries_out_are_seen(server, deployment)

    assert server.process is not None
    assert "Umask:\t0077\n" in Path(f"/proc/{server.process.pid}/status").read_text()  # for its database and key
    assert any((server.home / "ui").iterdir())
    server.process.send_signal(signal.SIGSTOP)
    server.process.send_signal(signal.SIGTERM)
    assert server.end(signal.SIGCONT) in {0, -signal.SIGTERM}
    assert not server.answers()
    assert server.doctor()[1]["server"][0] == "block"


def assert_runs_that_nobody_carries_out_are_seen(server: Server, deployment: str) -> None:
    with asking(server), get_client(sync_client=True) as client:
        run = client.create_flow_run_from_deployment(deployment)  # type: ignore[arg-type]  # an id as text does
        client.set_flow_run_state(run.id, Running(), force=True)
        stuck = client.create_flow_run_from_deployment(deployment)  # type: ignore[arg-type]
        client.request(
            "POST",
            "/flow_runs/{id}/set_state",
            path_params={"id": stuck.id},
            json={"state": {"type": "PENDING"}, "force": True},
        )
        now = {each.check: each for each in run_server_checks(probe_server())}
        later = {
            each.check: each for each in run_server_checks(probe_server(now=datetime.now(UTC) + timedelta(minutes=20)))
        }
    assert now["running"].level == "good"  # it may have begun this moment
    assert later["running"].level == "block"
    assert run.name in later["running"].message
    assert later["pending"].level == "block"
    assert stuck.name in later["pending"].message


@pytest.mark.postgres
def test_on_postgresql_with_a_password_and_no_scheduler_until_ctrl_c(server: Server) -> None:
    secret = server.folder / "auth"
    secret.write_text(PASSWORD + "\n")
    secret.chmod(0o600)
    with postgres.own_server() as database:
        make_roles(database)
        url = role_url(database, "prefect", "prefect")  # no superuser: what compose gives the server is enough
        words = ("--database", url, "--auth", f"file:{secret}", "--public-url", "https://fleet.example.org")
        server.start(*words, PREFECT_SERVER_SERVICES_SCHEDULER_ENABLED="false")
        assert "UI        https://fleet.example.org\n" in server.log
        code, found = server.doctor()
        assert code == 5
        assert "password" in found["server"][1]
        code, found = server.doctor(PASSWORD)
        assert code == 5
        assert list_bad_checks(found) == {"deployments", "settings"}
        assert found["database"] == ("good", "PostgreSQL")
        assert found["settings"] == ("block", "the scheduler is off: no window opens")
        assert_a_schedule_without_runs_is_seen(server)
        assert server.process is not None
        told = Path(f"/proc/{server.process.pid}/cmdline").read_text() + server.log
        assert "given to the server" in server.log
        assert PASSWORD.partition(":")[2] not in told
        assert server.home.stat().st_mode & 0o077 == 0  # which it has made itself
        assert server.end(signal.SIGINT) == 130  # Ctrl-C
        assert "Traceback" not in server.log
        assert server.log.endswith("fleetpatch server: stopped\n")
        assert not server.answers()


def assert_a_schedule_without_runs_is_seen(server: Server) -> None:
    deploy(server, password=PASSWORD)
    with asking(server, PASSWORD):
        view = probe_server(now=datetime.now(UTC) + timedelta(minutes=5))
    (scheduler,) = (each for each in run_server_checks(view) if each.check == "scheduler")
    assert scheduler.level == "block"
    assert "patch-fleet/nightly" in scheduler.message


def test_a_taken_port_ends_with_an_error(server: Server) -> None:
    with socket.socket() as holder:
        holder.bind(("127.0.0.1", server.port))
        holder.listen()
        words = [*COMMAND, "server", "--port", str(server.port)]
        done = subprocess.run(words, env=server.environment(), capture_output=True, text=True, check=False, timeout=120)
    assert done.returncode == 5
    assert f"port {server.port} of 127.0.0.1 is already in use" in done.stderr
    assert "user" not in done.stderr  # it is our own
    assert "--port" in done.stderr
    assert done.stdout == "", "an address that is not ours must not be there to be copied"


@needs_another_user
def test_a_port_of_another_user_is_told_as_theirs(server: Server, tmp_path: Path) -> None:
    holding = (
        "import socket, sys; s = socket.create_server(('127.0.0.1', int(sys.argv[1]))); print(flush=True); input()"
    )
    words = [*BECOME_NOBODY, "/usr/bin/python3", "-I", "-c", holding, str(server.port)]
    with subprocess.Popen(words, cwd="/", stdin=subprocess.PIPE, stdout=subprocess.PIPE) as holder:
        assert holder.stdout is not None
        holder.stdout.readline()
        done = run_command(("server", "--port", str(server.port)), server.environment(), tmp_path)
        pages = run_command(("web", "--port", str(server.port)), server.environment(), tmp_path)
        refused = describe_refused_login(server.url)
        holder.communicate(b"\n")
    assert (done.returncode, pages.returncode) == (5, 5)
    assert f"port {server.port} of 127.0.0.1 is already in use by user nobody" in done.stderr
    assert "the port is used by user nobody" in pages.stderr
    assert refused.endswith("needs a password, and ours is missing or wrong: it is run by user nobody")
