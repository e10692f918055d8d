"""The Prefect server that the command starts for one run: it is told what every server of ours is told."""

import base64
import json
import os
import signal
import sqlite3
import stat
import subprocess
import sys
import time
import urllib.request
from contextlib import closing, suppress
from pathlib import Path
from typing import Any
from uuid import uuid4

import httpx
import pytest
from cryptography.fernet import Fernet
from prefect.client.orchestration import get_client

from deployments.server.health_checks import SETTING_RULES
from deployments.server.settings import build_environment
from flows.prefect_api.connection import START_TIMEOUT_SECONDS, EphemeralPrefectServer, find_server_fault
from flows.prefect_api.encryption_key import KEY_NAME
from flows.prefect_api.server_settings import BATCH_SETTINGS, RUN_SETTINGS, SettingTarget, may_name_server
from inventory.files.own_keys import ensure_key
from tests.support.environment import PYTHONPATH, without_ours
from tests.support.prefect_server import use_server
from tests.support.prefect_tables import TABLES_ARE_THERE, put_tables

OPEN = {
    "PREFECT_SERVER_API_CORS_ALLOWED_ORIGINS": "*",
    "PREFECT_SERVER_CORS_ALLOWED_ORIGINS": "*",
    "PREFECT_SERVER_API_CSRF_PROTECTION_ENABLED": "false",
    "PREFECT_SERVER_CSRF_PROTECTION_ENABLED": "false",
    "PREFECT_SERVER_UI_ENABLED": "true",
    "PREFECT_SERVER_EPHEMERAL_ENABLED": "true",
}
"""What would let web pages use a server."""
EVENTS = 1500
LOGIN = "PREFECT_SERVER_API_AUTH_STRING"
READERS = "PREFECT_SERVER_SERVICES_EVENT_PERSISTER_READ_BATCH_SIZE"


def at(settings: Any, path: str) -> object:
    """Return the value at a path of what the server tells of itself; None where there is none."""
    for word in path.split("."):
        settings = settings.get(word) if isinstance(settings, dict) else None
    return settings


def send_events(count: int) -> None:
    """Send events to the server of the settings, all at once: it is told to end while it still reads them."""
    body = [
        {
            "id": str(uuid4()),
            "event": "tested",
            "occurred": "2026-11-27T22:00:00Z",
            "resource": {"prefect.resource.id": "x"},
        }
        for _ in range(count)
    ]
    with get_client(sync_client=True) as client:
        client.request("POST", "/events", json=body)


@pytest.mark.slow
def test_it_writes_in_batches_unless_the_user_says_otherwise_and_lets_no_page_in(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in [name for name in os.environ if name.startswith("PREFECT")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("PREFECT_HOME", str(tmp_path))
    monkeypatch.setenv(READERS, "50")
    for name, value in OPEN.items():
        monkeypatch.setenv(name, value)
    server = EphemeralPrefectServer()
    try:
        client = server.open()
        server.start()
        server.wait_until_healthy()
        login = base64.b64encode(client["PREFECT_API_AUTH_STRING"].encode()).decode()
        request = urllib.request.Request(
            f"{client['PREFECT_API_URL']}/admin/settings", headers={"Authorization": f"Basic {login}"}
        )
        with urllib.request.urlopen(request, timeout=240) as answer:
            told = json.load(answer)
        assert server.process_id
        os.kill(server.process_id, signal.SIGTERM)  # meant for the run: its server is there until the run ends it
        with use_server(client["PREFECT_API_URL"], tmp_path, client["PREFECT_API_AUTH_STRING"]):
            send_events(EVENTS)
    finally:
        server.stop()

    with closing(sqlite3.connect(tmp_path / "prefect.db")) as database:
        assert database.execute("SELECT count(*) FROM events WHERE event = 'tested'").fetchone() == (EVENTS,)
    assert stat.S_IMODE((tmp_path / "prefect.db").stat().st_mode) == 0o600
    absent = {"server.events.stream_out_enabled", "server.register_blocks_on_start"}
    assert {path: at(told, path) for path in absent} == dict.fromkeys(absent, False)
    assert at(told, "server.services.event_persister.enabled") is True
    closed = {"api.cors_allowed_origins": "", "api.csrf_protection_enabled": True, "ui.enabled": False}
    assert {path: at(told, f"server.{path}") for path in closed} == closed
    assert at(told, "server.ephemeral.enabled") is False
    found = {each.name: _setting(told, each.name) for each in BATCH_SETTINGS}
    own = {each.name: each.value for each in (*BATCH_SETTINGS, *RUN_SETTINGS)}
    assert found == {each.name: 50.0 if each.name == READERS else float(own[each.name]) for each in BATCH_SETTINGS}
    batched = [each.path for each in SETTING_RULES if each.message.startswith(("task runs", "automations read"))]
    assert batched
    assert not [path for path in batched if next(w for w in SETTING_RULES if w.path == path).is_wrong(at(told, path))]


RUN = """
import os, sys
from flows.prefect_api.connection import connect_prefect
connect_prefect()
from prefect.blocks.system import Secret
Secret(value="geheim").save("sudo")
print(os.environ["PREFECT_API_URL"], flush=True)
sys.stdin.read()
"""


@pytest.mark.slow
def test_it_ends_with_its_run_however_that_ends_and_encrypts_with_the_key_of_the_server(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FLEETPATCH_KEYS", str(tmp_path / "keys"))
    key = ensure_key(KEY_NAME, Fernet.generate_key)
    put_tables(tmp_path)
    environment = {**without_ours(), "PREFECT_HOME": str(tmp_path), "FLEETPATCH_KEYS": str(tmp_path / "keys")}
    environment |= TABLES_ARE_THERE
    with subprocess.Popen(
        [sys.executable, "-c", RUN],
        env={**environment, "PYTHONPATH": PYTHONPATH}, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
    ) as run:  # fmt: skip
        assert run.stdout is not None
        url = run.stdout.readline().strip()
        assert url, "it ended"
        assert find_server_fault(url) == ""
        run.kill()
    until = time.monotonic() + START_TIMEOUT_SECONDS
    while not find_server_fault(url):
        assert time.monotonic() < until, "the server is still there"
        time.sleep(0.2)
    with closing(sqlite3.connect(tmp_path / "prefect.db")) as database:
        (token,) = database.execute("SELECT data FROM block_document WHERE name = 'sudo'").fetchone()
    assert json.loads(Fernet(key).decrypt(json.loads(token)))["value"] == "geheim"


@pytest.mark.slow
@pytest.mark.parametrize("loss", ["emptied", "deleted"])
def test_it_ends_with_one_line_when_its_database_is_lost(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, loss: str
) -> None:
    """Prefect's own goes on: it is healthy, writes a traceback each second, or writes into a file that is gone."""
    file = tmp_path / "prefect.db"
    put_tables(tmp_path)
    for name, value in {**TABLES_ARE_THERE, "PREFECT_HOME": str(tmp_path)}.items():
        monkeypatch.setenv(name, value)
    server = EphemeralPrefectServer()
    server.open()
    server.start()
    try:
        server.wait_until_healthy()
        assert server._process
        assert server._log
        if loss == "deleted":
            file.unlink()
        else:
            with closing(sqlite3.connect(file, timeout=60)) as database, database:
                for (name,) in database.execute("SELECT name FROM sqlite_master WHERE type = 'table'").fetchall():
                    if not name.startswith("sqlite"):
                        database.execute(f'DROP TABLE "{name}"')
            with suppress(httpx.HTTPError), use_server(server._url, tmp_path, server._environment[LOGIN]):
                send_events(1)  # its services may have noticed it before
        assert server._process.wait(START_TIMEOUT_SECONDS) == 1
        said = server._log.read_text()
        assert said.count("fleetpatch server: its database was emptied or replaced (") == 1, said
        assert "Traceback" not in said, said
    finally:
        server.stop()


def _setting(told: Any, name: str) -> float:
    """Return a setting by the name of its variable: services have a section each."""
    services = told["server"]["services"]
    (section,) = [key for key in services if name.startswith(f"PREFECT_SERVER_SERVICES_{key.upper()}_")]
    return float(services[section][name.removeprefix(f"PREFECT_SERVER_SERVICES_{section.upper()}_").lower()])


def test_one_table_has_them() -> None:
    assert {each.name: each.value for each in BATCH_SETTINGS}.items() <= build_environment(SettingTarget.SERVER).items()


@pytest.mark.parametrize("name", ["PREFECT_API_URL", "prefect_api_url", "Prefect_Profile", "prefect_home"])
def test_a_server_that_the_environment_names_in_any_case_is_asked_for(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, name: str
) -> None:
    monkeypatch.delitem(sys.modules, "prefect.context", raising=False)
    monkeypatch.chdir(tmp_path)
    home = {"PREFECT_HOME": str(tmp_path)} if name != "prefect_home" else {}
    assert may_name_server({**home, name: "x"})
    assert not may_name_server({"PREFECT_HOME": str(tmp_path), name: ""})
