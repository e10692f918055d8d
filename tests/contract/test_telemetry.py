"""Nothing is sent to Prefect's makers: by no program of a user, by no command, and by no process that they start.

Prefect 3.8.8 sends events of its client (DO_NOT_TRACK) and a heartbeat of its server (its setting of analytics). And
its server reads lists of integrations from GitHub (prefect/server/api/collections.py).
"""

import ast
import os
import pty
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml

from deployments.server.settings import build_environment
from flows.prefect_api.server_settings import TELEMETRY_OFF, SettingTarget
from tests.ci.tree import TOP
from tests.support.environment import KEYS_VARIABLE, OWNERS_VARIABLE, PYTHONPATH
from tests.support.prefect_tables import TABLES_ARE_THERE, put_tables

COMMAND = ("-m", "fleetpatch.cli.command")
PROGRAM = """
from flows.prefect_api.connection import connect_prefect, stop_ephemeral_servers
from flows.patch import patch_fleet
from prefect._internal.analytics.enabled import is_telemetry_enabled
from prefect.client.orchestration import get_client
from prefect.settings import get_current_settings
assert not is_telemetry_enabled()
assert not get_current_settings().server.analytics_enabled
connect_prefect()
with get_client(sync_client=True) as client:
    assert not client.request("GET", "/admin/settings").json()["server"]["analytics_enabled"]
    assert "prefect" in client.request(
        "GET", "/collections/views/{view}", path_params={"view": "aggregate-worker-metadata"}
    ).json()
stop_ephemeral_servers()
"""
WATCH = """
import os, sys
def watch(event, words):
    if event == "socket.getaddrinfo":
        with open(os.environ["ASKED"], "a") as file:
            print(words[0], sys.orig_argv, file=file)
sys.addaudithook(watch)
"""
PROCESSES = {
    "tasks/records/backup/postgres_tools.py": "PostgreSQL's own programs",
    "tasks/machines/transport/ssh/host_key_trust.py": "OpenSSH's own programs",
    "tasks/machines/transport/local_channel.py": "a shell on this machine: a machine's script",
    "flows/hooks/command.py": "the owner's program",
    "tasks/machines/providers/command.py": "the owner's program",
    "flows/images/signatures.py": "gpgv",
    "flows/prefect_api/connection.py": "flows.prefect_api.application",
    "flows/report_process.py": "flows.report_process",
    "fleetpatch/cli/commands/server.py": "deployments.worker.prefect_command",
    "deployments/server/launch_plan.py": "flows.prefect_api.application",
    "deployments/worker/worker_process.py": "deployments.worker.bound_worker",
}
"""Each module that starts a process, and what that is: a module of a package that guards Prefect, or no Prefect."""
_STARTS = re.compile(
    r"subprocess\.\w+|os\.(exec|spawn|posix_spawn|fork|system|popen)\w*|asyncio\.create_subprocess_\w+"
)
_PACKAGES = ("inventory", "tasks", "flows", "deployments", "fleetpatch")


@pytest.mark.parametrize(
    "words",
    [("-c", PROGRAM), (*COMMAND, "prefect", "version"), (*COMMAND, "doctor", "--server")],
    ids=["python and its server", "prefect", "doctor"],
)
def test_a_person_at_a_terminal_has_sent_nothing(tmp_path: Path, words: tuple[str, ...]) -> None:
    kept = {name: os.environ[name] for name in ("PATH", KEYS_VARIABLE, OWNERS_VARIABLE) if name in os.environ}
    (tmp_path / "watch").mkdir()
    (tmp_path / "watch/sitecustomize.py").write_text(WATCH)
    put_tables(tmp_path / ".prefect")
    more = {"HOME": str(tmp_path), "PYTHONPATH": f"{tmp_path}/watch:{PYTHONPATH}", "ASKED": str(tmp_path / "asked")}
    ours, theirs = pty.openpty()  # without a terminal, Prefect doesn't say what it sends
    with os.fdopen(ours, "rb", buffering=0):
        subprocess.run(
            [sys.executable, *words], env={**kept, **TABLES_ARE_THERE, **more}, cwd=tmp_path,
            stdin=theirs, stdout=subprocess.DEVNULL, stderr=theirs, check=words[0] == "-c", timeout=300,
        )  # fmt: skip
        os.close(theirs)
    assert not list(tmp_path.rglob("notice_shown"))  # Prefect makes it before it sends the first event
    asked = (tmp_path / "asked").read_text().splitlines() if (tmp_path / "asked").exists() else []
    assert [line for line in asked if not re.match(r"'?(127\.0\.0\.1|localhost|None)\b", line)] == []


def _list_starts() -> Iterator[str]:
    for path in sorted(path for package in _PACKAGES for path in (TOP / package).rglob("*.py")):
        calls = [node.func for node in ast.walk(ast.parse(path.read_text())) if isinstance(node, ast.Call)]
        if any(_STARTS.fullmatch(ast.unparse(call)) for call in calls):
            yield str(path.relative_to(TOP))


def test_every_process_that_fleetpatch_starts_is_known_and_guards_prefect() -> None:
    assert sorted(_list_starts()) == sorted(
        PROCESSES
    )  # a new one needs a row: is it one of ours, or none with Prefect?
    modules = [process for process in PROCESSES.values() if (TOP / f"{process.replace('.', '/')}.py").exists()]
    assert len(modules) == 5
    assert {module.partition(".")[0] for module in modules} == {"flows", "deployments"}
    programs = [
        path for package in _PACKAGES for path in (TOP / package).rglob("*.py") if "__main__" in path.read_text()
    ]
    assert {path.relative_to(TOP).parts[0] for path in programs} == {"fleetpatch", "flows", "deployments"}


@pytest.mark.parametrize("package", ["fleetpatch", "flows", "deployments"])
def test_whatever_of_ours_is_loaded_switches_telemetry_off_before_prefect_is_loaded(package: str) -> None:
    program = f"import {package}, os, sys; assert 'prefect' not in sys.modules; print(*os.environ)"
    environment = {"PYTHONPATH": PYTHONPATH, "PREFECT_SERVER_ANALYTICS_ENABLED": ""}  # empty: as if it were not there
    done = subprocess.run([sys.executable, "-c", program], env=environment, capture_output=True, text=True, check=True)
    assert set(TELEMETRY_OFF) <= set(done.stdout.split())


def test_units_and_containers_that_start_prefect_themselves_switch_it_off() -> None:
    assert TELEMETRY_OFF.items() <= build_environment(SettingTarget.BOTH).items()
    for path in (TOP / "deployments/units").glob("*.service"):
        text = path.read_text()
        if re.search(r"(?m)^Exec\w+=\S+/prefect ", text):
            assert {f"Environment={name}={value}" for name, value in TELEMETRY_OFF.items()} <= set(text.splitlines())
    services = yaml.safe_load((TOP / "deployments/compose/compose.yaml").read_text())["services"]
    others = {name for name, service in services.items() if "fleetpatch" not in str(service.get("image"))}
    assert others == {"postgres", "redis"}
    assert TELEMETRY_OFF.items() <= services["worker"]["environment"].items()
    assert TELEMETRY_OFF.items() <= services["web"]["environment"].items()
