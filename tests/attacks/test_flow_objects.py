"""Attacks on a Prefect server that a Python program starts without knowing it: it has no password.

Where PREFECT_API_URL is not set, Prefect starts such a server for whatever asks for a client: a flow that is called,
served, deployed or bound, a task, an event, a block. It listens on the loopback, for each user and each web page.
"""

import json
import subprocess
import sys
from pathlib import Path
from typing import Final

import pytest

from tests.support.environment import PYTHONPATH, without_ours

pytestmark = pytest.mark.slow

WAYS: Final = """
import asyncio, contextlib, io, json, os, sys
from concurrent.futures import ThreadPoolExecutor

import prefect, prefect.flow_engine
from prefect import Flow, Task, flow, task
from prefect.blocks.system import Secret
from prefect.client.orchestration import get_client
from prefect.deployments import run_deployment
from prefect.events import emit_event
from prefect.events.clients import get_events_client, get_events_subscriber
from prefect.flows import bind_flow_to_infrastructure
from prefect.logging.clients import get_logs_subscriber
from prefect.task_runners import ThreadPoolTaskRunner
from prefect.task_worker import serve as serve_tasks
from prefect.workers.process import ProcessWorker

from flows.patch import patch_fleet
from flows.prefect_api import connected_flow

connected = []
connected_flow.connect_prefect = lambda: connected.append(True)  # it would start our own server, which has a password
started = []


def watch(event, arguments):
    if event == "subprocess.Popen" and "create_app" in str(arguments[1]):
        started.append(str(arguments[1]))
        raise RuntimeError("no server here")


sys.addaudithook(watch)
bound = bind_flow_to_infrastructure(patch_fleet, "pool", ProcessWorker)
doubled = task(lambda number: 2 * number)
around = Flow(lambda: patch_fleet(request={}), name="around")
wide = Flow(lambda: doubled.map([1, 2]).result(), name="wide", task_runner=ThreadPoolTaskRunner())
bare = Flow(patch_fleet.fn, name="bare")
WAYS = {
    "call": lambda: patch_fleet(request={}),
    "call, other options": lambda: patch_fleet.with_options(retries=0)(request={}),
    "call, other options twice": lambda: patch_fleet.with_options(retries=0).with_options(name="x")(request={}),
    "call, bound": lambda: bound(request={}),
    "call of a plain flow": lambda: bare(request={}),
    "call inside another flow": around,
    "call in a thread": lambda: ThreadPoolExecutor().submit(bare, request={}).result(),
    "run_flow": lambda: prefect.flow_engine.run_flow(patch_fleet, parameters={"request": {}}),
    "serve": lambda: patch_fleet.serve("x"),
    "serve several": lambda: prefect.serve(patch_fleet.to_deployment("x")),
    "deploy": lambda: patch_fleet.deploy("x", work_pool_name="pool", image="x", build=False, push=False),
    "deploy, asynchronous": lambda: asyncio.run(patch_fleet.adeploy("x", work_pool_name="pool", image="x")),
    "deploy several": lambda: prefect.deploy(patch_fleet.to_deployment("x"), work_pool_name="pool", image="x"),
    "apply": lambda: patch_fleet.to_deployment("x").apply(),
    "from_source": lambda: patch_fleet.from_source(TOP, "flows/patch.py:patch_fleet").serve("x"),
    "submit": lambda: bound.submit(request={}),
    "submit to a pool": lambda: bound.submit_to_work_pool(request={}),
    "retry": lambda: asyncio.run(bound.retry(None)),
    "run_deployment": lambda: run_deployment("patch-fleet/x"),
    "task": lambda: doubled(1),
    "tasks of a runner": wide,
    "task, delayed": lambda: doubled.delay(1),
    "tasks, served": lambda: serve_tasks(doubled),
    "worker": lambda: asyncio.run(ProcessWorker("pool").start(run_once=True)),
    "block": lambda: Secret.load("x"),
    "client": lambda: get_client(sync_client=True),
    "client, asynchronous": get_client,
    "event": lambda: emit_event("x", {"prefect.resource.id": "x"}),
    "client of events": get_events_client,
    "reader of events": get_events_subscriber,
    "reader of logs": get_logs_subscriber,
}
TOP = os.environ["TOP"]
found = {}
for name, go in WAYS.items():
    del started[:], connected[:]
    try:
        with contextlib.redirect_stdout(io.StringIO()):
            go()
        error = ""
    except BaseException as caught:
        error = repr(caught)
    found[name] = {"started": len(started), "connected": len(connected), "error": error}
inherited = [value for name, value in os.environ.items() if "EPHEMERAL_ENABLED" in name]
print(json.dumps([found, inherited]))
"""
DOORS: Final = {
    "flows first": "import flows",
    "prefect first": "import prefect, prefect.context",
    "settings replaced": """
import prefect
from prefect.settings import PREFECT_CLIENT_MAX_RETRIES, temporary_settings
replaced = temporary_settings({PREFECT_CLIENT_MAX_RETRIES: 0})
replaced.__enter__()
""",
}
CONNECTED: Final = {"call", "call, other options", "call, other options twice"}
"""The ways on which a flow has a server of its own before Prefect looks for one."""


@pytest.mark.parametrize("door", DOORS)
def test_no_use_of_a_flow_starts_a_server_without_a_password(door: str, tmp_path: Path) -> None:
    """Attacker: any local user, or a web page. Way: a program of the owner uses a flow where no server is configured,
    and even allows Prefect its own one. What must hold: on no way does Prefect start it. Calls of our flows start ours.
    """
    environment = {
        **without_ours(),
        "PREFECT_HOME": str(tmp_path / "home"),
        "PREFECT_SERVER_EPHEMERAL_ENABLED": "true",
        "PREFECT_SERVER_ALLOW_EPHEMERAL_MODE": "true",
        "FLEETPATCH_RECORDS_URL": f"sqlite:///{tmp_path}/records.db",
        "DO_NOT_TRACK": "1",
        "PYTHONPATH": PYTHONPATH,
        "TOP": PYTHONPATH.partition(":")[0],
    }
    program = tmp_path / "program.py"
    program.write_text(f"{DOORS[door]}\n{WAYS}")
    done = subprocess.run(
        [sys.executable, program.name], cwd=tmp_path, env=environment, capture_output=True, text=True, check=False,
        timeout=240,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    found, inherited = json.loads(done.stdout.splitlines()[-1])
    assert {way for way, each in found.items() if each["started"]} == set(), found
    assert {way for way, each in found.items() if each["connected"]} == CONNECTED
    assert inherited == ["false"]  # the processes of runs read it
