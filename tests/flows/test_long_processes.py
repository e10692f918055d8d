"""SIGTERM ends each long process, whoever has started it: the parent here ignores SIGINT and SIGHUP, as scripts do.

tests/contract/test_server.py and tests/contract/web/test_command.py end Prefect's server and the pages in this way.
"""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Final

import pytest
from prefect.client.schemas.actions import WorkPoolCreate

from deployments.server.settings import CLOSED_JOB_TEMPLATE
from tests.support.free_port import free_port
from tests.support.prefect_forks import PARENT, ForkedServer
from tests.support.prefect_server import PrefectServer

PATIENCE_SECONDS: Final = 240.0
IGNORING: Final = "tests.support.ignoring_signals"
COMMAND: Final = "fleetpatch.cli.command"
SERVED_WORKER: Final = """
import pathlib, sys
from deployments.worker.worker_process import run_worker

sys.exit(run_worker("pool", pathlib.Path("fleet.yaml"), pathlib.Path("configurations")))
"""
WORKER: Final = ("worker", "start", "--pool", "pool", "--type", "process", "--name", "one")
MOMENTS: Final = (0.1, 0.8)
"""So many seconds of a processor after its start, which is not over then, a process gets its signal."""


class LongProcess:
    """A process whose parent ignores SIGINT and SIGHUP."""

    def __init__(self, process: "subprocess.Popen[bytes] | ForkedServer", log: Path) -> None:
        self.process, self.log = process, log

    def wait_for(self, text: str) -> None:
        self._wait(lambda: text in self.log.read_text())

    def wait_for_processor(self, seconds: float) -> None:
        """Wait until it has used so many seconds of a processor, or waits for a child."""
        ticks, folder = os.sysconf("SC_CLK_TCK") * seconds, Path(f"/proc/{self.process.pid}")
        children = folder / f"task/{self.process.pid}/children"

        def is_so_far() -> bool:
            used = sum(map(int, (folder / "stat").read_text().rpartition(")")[2].split()[11:13]))
            return used >= ticks or bool(children.read_text())

        self._wait(is_so_far)

    def end(self) -> str:
        """Send SIGTERM, and return what it has printed until its end."""
        self.process.send_signal(signal.SIGTERM)
        return self.wait_for_end()

    def wait_for_end(self) -> str:
        try:
            self.process.wait(PATIENCE_SECONDS)
        except subprocess.TimeoutExpired:
            pytest.fail(f"SIGTERM did not end it: {self.log.read_text()[-2000:]}")
        return self.log.read_text()

    def end_stopped(self) -> str:
        """Stop it, send SIGTERM, and let it go on, as ``kill %1; fg`` in a shell."""
        self.process.send_signal(signal.SIGSTOP)
        self.process.send_signal(signal.SIGTERM)
        assert self.process.poll() is None
        self.process.send_signal(signal.SIGCONT)
        return self.end()

    def _wait(self, condition: Callable[[], bool]) -> None:
        until = time.monotonic() + PATIENCE_SECONDS
        while not condition():
            assert self.process.poll() is None, self.log.read_text()
            assert time.monotonic() < until, self.log.read_text()
            time.sleep(0.05)


@pytest.fixture
def server(tmp_path: Path) -> Iterator[PrefectServer]:
    (tmp_path / "fleet.yaml").write_text("machines:\n  - name: web-1\n    address: 127.0.0.1\n")
    (tmp_path / "configurations").mkdir()
    made = PrefectServer(tmp_path, free_port())
    yield made
    made.remove()


def start(server: PrefectServer, name: str, *words: str) -> LongProcess:
    log = server.home / f"{name}.log"
    ignoring = ("env", "--ignore-signal=INT", "--ignore-signal=HUP", "--block-signal=INT")
    with log.open("wb") as out:
        process = subprocess.Popen(
            [*ignoring, sys.executable, "-P", *words],
            cwd=server.home,
            env=server.environment(FLEETPATCH_RECORDS_URL=f"sqlite:///{server.home}/records.db"),
            stdin=subprocess.DEVNULL,
            stdout=out,
            stderr=out,
            start_new_session=True,
        )
    server.others.append(process)
    return LongProcess(process, log)


def fork(server: PrefectServer, name: str, *words: str) -> LongProcess:
    log = server.home / f"{name}.log"
    quick = {"PREFECT_WORKER_QUERY_SECONDS": "1", "PREFECT_CLIENT_MAX_RETRIES": "0"}
    return LongProcess(server.fork(IGNORING, *words, log=log, **quick), log)


def test_a_start_is_ended_at_any_moment(server: PrefectServer) -> None:
    words = {
        "web": ("-m", COMMAND, "web", "--port", "0"),
        "events": ("-m", COMMAND, "events", "serve", "--port", "0"),
        "server": ("-m", COMMAND, "server", "--port", str(server.port), "--home", "server"),
        "deploy": ("-c", SERVED_WORKER),
        "worker": ("-m", COMMAND, "prefect", *WORKER),
    }
    for seconds in MOMENTS:
        starting = [start(server, f"{name} {seconds}", *command) for name, command in words.items()]
        for process in starting:
            process.wait_for_processor(seconds)
            process.process.send_signal(signal.SIGTERM)
        for process in starting:
            assert process.process.wait(PATIENCE_SECONDS) not in {1, 2, 5}, process.log.read_text()


def test_what_works_is_ended_in_a_poll_after_a_stop_and_without_prefect(server: PrefectServer) -> None:
    server.start()
    with server.client() as client:
        template = dict(CLOSED_JOB_TEMPLATE)
        client.create_work_pool(WorkPoolCreate(name="pool", type="process", base_job_template=template))
    events = start(server, "events", "-m", COMMAND, "events", "serve", "--port", "0")
    served = start(server, "served", "-c", SERVED_WORKER)
    bound, bound_alone = (
        fork(server, f"bound {case}", "deployments.worker.bound_worker", PARENT, "pool", case)
        for case in ("stopped", "alone")
    )
    started, started_alone = (
        fork(server, f"worker {case}", "deployments.worker.prefect_command", *WORKER) for case in ("polls", "alone")
    )
    for worker in (bound, bound_alone, started, started_alone, served):
        worker.wait_for("started!")
    events.wait_for("fleetpatch events: ")

    for said in (bound.end_stopped(), started.end(), served.end()):
        assert "stopped!" in said
        assert "Traceback" not in said
    assert "Traceback" not in events.end_stopped()
    server.kill()
    for worker in (bound_alone, started_alone):
        worker.wait_for("connect")  # a poll has failed
        worker.process.send_signal(signal.SIGTERM)
    for worker in (bound_alone, started_alone):
        assert "stopped!" in worker.wait_for_end()
