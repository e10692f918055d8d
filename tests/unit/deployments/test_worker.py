"""The worker beside `deploy --serve`: it ends when it is told to, and takes nothing once who has started it is gone."""

import asyncio
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast
from uuid import uuid4

import httpx
import pytest
from prefect.client.schemas.objects import FlowRun
from prefect.utilities.dispatch import lookup_type
from prefect.workers.base import BaseWorker
from prefect.workers.process import ProcessWorker

from deployments.server.settings import CLOSED_JOB_TEMPLATE
from deployments.worker.bound_worker import build_bound_worker
from deployments.worker.flow_worker import FlowWorker, RunConfiguration, ScheduledRunNames
from deployments.worker.worker_process import supervise_worker

DEAF = "import signal, time; signal.signal(signal.SIGTERM, signal.SIG_IGN); open('up', 'w').close(); time.sleep(600)"
POLITE = "import time; open('up', 'w').close(); time.sleep(600)"
WITH_A_CHILD = (
    f"import subprocess, sys; subprocess.Popen([sys.executable, '-c', 'import time; time.sleep(20)']); {DEAF}"
)
PATIENCE = 240.0


def until(what: Callable[[], object]) -> None:
    patience = time.monotonic() + PATIENCE
    while not what():
        assert time.monotonic() < patience
        time.sleep(0.05)


def told_to_end_when_up(folder: Path) -> None:
    def tell() -> None:
        until((folder / "up").exists)
        os.kill(os.getpid(), signal.SIGTERM)

    threading.Thread(target=tell, daemon=True).start()


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.mark.slow
@pytest.mark.parametrize(("program", "code"), [(POLITE, -signal.SIGTERM), (DEAF, 0)])
def test_a_worker_ends_in_time_when_this_process_is_told_to(here: Path, program: str, code: int) -> None:
    told_to_end_when_up(here)
    handler = signal.getsignal(signal.SIGTERM)

    assert (
        supervise_worker([sys.executable, "-c", program], os.environ, stop_seconds=1, stop_seconds_with_runs=300)
        == code
    )

    assert signal.getsignal(signal.SIGTERM) is handler


@pytest.mark.slow
def test_a_worker_that_carries_runs_is_given_longer(here: Path) -> None:
    told_to_end_when_up(here)
    begun = time.monotonic()

    assert (
        supervise_worker([sys.executable, "-c", WITH_A_CHILD], os.environ, stop_seconds=0, stop_seconds_with_runs=2)
        == 0
    )

    assert time.monotonic() - begun >= 2


@pytest.mark.slow
def test_a_signal_that_comes_before_the_worker_is_passed_on(here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    start = subprocess.Popen

    def told_first(*words: object, **more: object) -> object:
        os.kill(os.getpid(), signal.SIGTERM)
        return start(*words, **more)  # type: ignore[call-overload]

    monkeypatch.setattr("deployments.worker.worker_process.subprocess.Popen", told_first)

    assert supervise_worker([sys.executable, "-c", POLITE], os.environ) in {-signal.SIGTERM, 0}


def test_a_worker_takes_nothing_once_its_parent_is_gone(monkeypatch: pytest.MonkeyPatch) -> None:
    asked, ended = list[str](), list[int]()

    async def ask(self: ProcessWorker) -> list[Any]:
        asked.append("runs")
        return []

    monkeypatch.setattr(ProcessWorker, "get_and_submit_flow_runs", ask)
    monkeypatch.setattr("deployments.worker.flow_worker.os.kill", lambda _process, number: ended.append(number))
    bound, left = (build_bound_worker(parent, "pool", "name") for parent in (os.getppid(), 2**22 + 1))

    def turn(worker: ProcessWorker, carried: int) -> None:
        worker._limiter = cast("Any", SimpleNamespace(borrowed_tokens=carried))
        asyncio.run(worker.get_and_submit_flow_runs())

    turn(bound, 0)
    assert (asked, ended) == (["runs"], [])
    turn(left, 1)
    assert (asked, ended) == (["runs"], [])  # a run of it is not over
    turn(left, 0)
    assert (asked, ended) == (["runs"], [signal.SIGTERM])


@pytest.mark.parametrize("is_left", [False, True])
def test_runs_that_came_while_the_parent_ended_are_not_begun(monkeypatch: pytest.MonkeyPatch, is_left: bool) -> None:
    begun = list[Any]()
    a_run = SimpleNamespace(flow_run=SimpleNamespace(auto_scheduled=False))

    async def answer(self: ProcessWorker) -> list[Any]:
        if is_left:
            monkeypatch.setattr("deployments.worker.flow_worker.os.getppid", lambda: 1)
        return [a_run]

    async def begin(self: ProcessWorker, flow_run_response: list[Any]) -> list[Any]:
        begun.extend(flow_run_response)
        return []

    monkeypatch.setattr(ProcessWorker, "_get_scheduled_flow_runs", answer)
    monkeypatch.setattr(ProcessWorker, "_submit_scheduled_flow_runs", begin)
    worker = build_bound_worker(os.getppid(), "pool", "name")
    worker._has_successfully_synced = True
    worker._client = cast("Any", object())

    asyncio.run(worker.get_and_submit_flow_runs())
    assert begun == ([] if is_left else [a_run])


def test_prefects_worker_starts_a_run_at_once_and_safely() -> None:
    configuration = RunConfiguration(**CLOSED_JOB_TEMPLATE["job_configuration"])
    configuration.prepare_for_flow_run(FlowRun(flow_id=uuid4()))

    assert configuration.command == f"{sys.executable} -P -m deployments.worker.flow_process"
    assert configuration._command_configured, "it would start a program that fetches code first"
    assert lookup_type(BaseWorker, "process") is FlowWorker  # what `prefect worker start` takes


def test_the_process_of_a_run_has_a_session_of_its_own() -> None:
    program = """
import os, runpy
run, runpy.run_module = runpy.run_module, lambda name, **_: print(name, os.getsid(0) == os.getpid())
run("deployments.worker.flow_process", run_name="__main__")
"""
    ended = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert ended.stdout == "prefect.engine True\n"


def test_a_scheduled_run_is_named_before_the_worker_logs_it() -> None:
    renamed = dict[str, str]()

    class Client:
        async def read_deployment(self, deployment_id: str) -> Any:
            if deployment_id == "gone":
                raise httpx.ConnectError("away")
            return SimpleNamespace(
                name="web-weekly" if deployment_id == "web" else "every-10-minutes", flow_id=deployment_id
            )

        async def read_flow(self, flow_id: str) -> Any:
            return SimpleNamespace(name="patch-fleet" if flow_id == "web" else "reconcile-fleet")

        async def update_flow_run(self, flow_run_id: str, name: str) -> None:
            renamed[flow_run_id] = name

    def response(deployment: str, *, scheduled: bool = True) -> Any:
        due = datetime(2026, 11, 24, 22, tzinfo=UTC)
        run = SimpleNamespace(
            id=deployment, name="tacky-ape", deployment_id=deployment, auto_scheduled=scheduled, expected_start_time=due
        )
        return SimpleNamespace(flow_run=run)

    responses = [response("web"), response("reconcile"), response("gone"), response("by hand", scheduled=False)]
    names, client = ScheduledRunNames(), cast("Any", Client())
    asyncio.run(names.rename(client, responses))
    asyncio.run(names.rename(client, responses))
    shown = ["web-weekly 2026-11-24 22:00 UTC", "reconcile-fleet 2026-11-24 22:00 UTC", "tacky-ape", "tacky-ape"]
    assert [each.flow_run.name for each in responses] == shown
    assert renamed == {"web": shown[0], "reconcile": shown[1]}
