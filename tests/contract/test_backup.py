"""Databases and keys are lost: with the commands of docs/how-to/backup.md a real server has its secrets again."""

import json
import shutil
import signal
import sqlite3
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from contextlib import ExitStack, closing, contextmanager
from pathlib import Path

import pytest
from prefect.blocks.system import Secret
from pydantic import SecretStr

from tests.support import postgres
from tests.support.backup import BackupCommands
from tests.support.command import run_command
from tests.support.environment import PYTHONPATH, without_ours
from tests.support.free_port import free_port
from tests.support.prefect_server import use_server
from tests.support.prefect_tables import TABLES_ARE_THERE, make_postgres_database, put_tables

pytestmark = pytest.mark.slow

SECONDS = 240.0
LOGIN = "fleet:cd40b5f1ab9e8e7c0a3e"  # pragma: allowlist secret
SECRET = "what sudo asks for"  # pragma: allowlist secret


class Controller:
    """The data, the databases and the server of a controller."""

    def __init__(self, folder: Path, server: postgres.Server | None) -> None:
        self.folder = folder
        self.data = folder / "data/fleetpatch"
        self.postgres = server
        self.records = f"sqlite:///{self.data / 'records.db'}" if server is None else server.url("fleetpatch")
        self.prefect = None if server is None else server.url("prefect")
        self.port = free_port()

    @property
    def commands(self) -> BackupCommands:
        if self.postgres is None:
            return BackupCommands(self.folder, self.data)
        return BackupCommands(self.folder, self.data, self.prefect, self.records, self.postgres.binaries)

    def environment(self) -> dict[str, str]:
        return {
            **without_ours(),
            **TABLES_ARE_THERE,
            "PYTHONPATH": PYTHONPATH,
            "XDG_DATA_HOME": str(self.folder / "data"),
            "FLEETPATCH_KEYS": str(self.data / "keys"),
            "FLEETPATCH_RECORDS_URL": self.records,
            "PREFECT_SERVER_API_AUTH_STRING": LOGIN,
        }

    @contextmanager
    def serving(self) -> Iterator[None]:
        """Start the server, and let this process's client talk to it."""
        words = ["server", "--port", str(self.port), *(["--database", self.prefect] if self.prefect else [])]
        with (self.folder / "log").open("wb") as log:
            process = subprocess.Popen(
                [sys.executable, "-m", "fleetpatch.cli.command", *words],
                env=self.environment(), stdin=subprocess.DEVNULL, stdout=log, stderr=log,
            )  # fmt: skip
        try:
            until = time.monotonic() + SECONDS
            while not self._answers():
                assert process.poll() is None, (self.folder / "log").read_text()
                assert time.monotonic() < until, (self.folder / "log").read_text()
                time.sleep(0.2)
            with use_server(f"http://127.0.0.1:{self.port}/api", self.folder / "client", LOGIN):
                yield
        finally:
            process.send_signal(signal.SIGTERM)
            process.wait(SECONDS)

    def _answers(self) -> bool:
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{self.port}/api/health", timeout=5):
                return True
        except OSError:
            return False

    def assess(self) -> str:
        """Assess a simulated fleet. Return the id of the run."""
        command = [sys.executable, "-m", "tests.flows.cli_on_fakes", "assess", "first", "--json"]
        done = subprocess.run(
            command, cwd=self.folder, env=self.environment(), capture_output=True, text=True, check=False
        )
        assert done.returncode == 0, done.stderr
        return str(json.loads(done.stdout)["run"]["maintenanceRunId"])

    def show_newest(self) -> str:
        """Return the id of the newest run, as `fleetpatch show` has it."""
        done = run_command(["show", "last", "--json"], self.environment(), self.folder)
        assert done.returncode == 0, done.stderr
        return str(json.loads(done.stdout)["run"]["maintenanceRunId"])

    def lose(self) -> None:
        shutil.rmtree(self.data)
        if self.postgres is not None:
            for name in ("prefect", "fleetpatch"):
                self.postgres.execute(f"DROP DATABASE {name} WITH (FORCE)")
                self.postgres.execute(f"CREATE DATABASE {name} ENCODING 'UTF8' LOCALE 'C' TEMPLATE template0")


@pytest.fixture(params=["sqlite", pytest.param("postgres", marks=pytest.mark.postgres)])
def controller(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Controller]:
    with ExitStack() as stack:
        server = stack.enter_context(postgres.own_server()) if request.param == "postgres" else None
        made = Controller(tmp_path, server)
        made.data.mkdir(parents=True, mode=0o700)
        if server is None:
            put_tables(made.data / "prefect")
        else:
            make_postgres_database(server)
        yield made


def _read_backup(folder: Path) -> bytes:
    return b"".join(path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file())


def test_secrets_and_history_are_there_again_and_the_backup_alone_opens_no_secret(controller: Controller) -> None:
    with controller.serving():
        Secret(value=SecretStr(SECRET)).save("sudo")
        run = controller.assess()
        controller.commands.back_up()  # while the server works
    key = (controller.data / "keys/prefect-encryption").read_bytes().strip()
    backup = _read_backup(controller.folder / "backup")
    assert len(backup) > 100_000
    assert key not in backup
    assert SECRET.encode() not in backup
    if controller.postgres is None:
        with closing(sqlite3.connect(controller.folder / "backup/fleetpatch/prefect.db")) as copy:
            assert copy.execute("SELECT count(*) FROM block_document").fetchone()[0] > 0
            assert copy.execute("SELECT * FROM configuration WHERE key = 'ENCRYPTION_KEY'").fetchall() == []

    controller.lose()
    controller.commands.restore()
    assert controller.show_newest() == run
    keys = controller.data / "keys"
    (keys / "prefect-encryption").rename(keys / "prefect-encryption-previous")  # rotated in the same go
    with controller.serving():
        (keys / "prefect-encryption-previous").unlink()
        assert (keys / "prefect-encryption").read_bytes().strip() != key
        assert Secret.load("sudo").get() == SECRET  # type: ignore[union-attr]
