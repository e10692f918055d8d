"""Attacks on Prefect's servers: the one of `fleetpatch server`, and the one that a run starts for itself.

Who can use such a server can start shell commands as the worker, which is root on the fleet's machines, and read the
credentials in its Secret blocks. Servers that do not start at all: test_open_servers.py.
"""

import json
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager, suppress
from dataclasses import dataclass
from http.client import HTTPConnection, HTTPException
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, Final

import httpx
import pytest
from playwright.sync_api import Browser, BrowserContext, Page
from prefect.blocks.system import Secret
from prefect.client.orchestration import SyncPrefectClient, get_client
from pydantic import SecretStr

from flows.prefect_api.connection import find_server_fault
from flows.prefect_api.server_login import ensure_login, find_login, find_login_path
from tests.support.browser import browser_of_all_names, open_prefect
from tests.support.environment import PYTHONPATH, without_ours
from tests.support.free_port import free_port
from tests.support.other_user import needs_another_user, run_as_nobody
from tests.support.prefect_server import use_server
from tests.support.prefect_tables import TABLES_ARE_THERE, put_tables

__all__ = ["browser_of_all_names"]

pytestmark = pytest.mark.slow

START_SECONDS: Final = 240.0
SECRET: Final = "geheim-4711"
BLOCK: Final = "door"
FORGED: Final = "forged"

ASK: Final = """
import json, sys, urllib.error, urllib.request
for method, path, headers in json.loads(sys.argv[2]):
    body = b'{"include_secrets": true, "name": "forged"}' if method == "POST" else None
    asked = urllib.request.Request(sys.argv[1] + path, body, headers, method=method)
    try:
        with urllib.request.urlopen(asked, timeout=60) as answer:
            print(answer.status, path, answer.read().decode())
    except urllib.error.HTTPError as error:
        print(error.code, path, error.read().decode())
"""
READ: Final = """
import json, sys
for path in json.loads(sys.argv[1]):
    try:
        print("read", path, open(path, "rb").read(100))
    except OSError as error:
        print("refused", path)
"""
GUESS: Final = {"Authorization": "Basic ZmxlZXQ6ZmxlZXQ="}  # fleet:fleet
TOKEN: Final = {"Prefect-Csrf-Token": "guessed", "Prefect-Csrf-Client": "guessed"}
QUESTIONS: Final = [
    ("GET", "/admin/settings", {}),
    ("GET", "/admin/settings", GUESS),
    ("GET", "/csrf-token?client=nobody", {}),
    ("POST", "/block_documents/filter", {}),
    ("POST", "/block_documents/filter", {**GUESS, **TOKEN, "Content-Type": "application/json"}),
    ("POST", "/flows/", {}),
    ("POST", "/flows/", {**TOKEN, "Content-Type": "application/json"}),
]


@dataclass
class Door:
    """A server that is attacked, and what its owner has of it."""

    url: str
    home: Path
    process: int
    login: str

    @contextmanager
    def client(self) -> Iterator[SyncPrefectClient]:
        """Give a client of its owner."""
        with use_server(self.url, self.home, self.login), get_client(sync_client=True) as client:
            yield client

    def count_forged(self) -> int:
        """Return how many flows there are with the attacker's name."""
        with self.client() as client:
            return sum(flow.name == FORGED for flow in client.read_flows())


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Door]:
    """`fleetpatch server` as anybody starts it, with a secret in it."""
    folder, port = tmp_path_factory.mktemp("server"), free_port()
    home = folder / "data" / "fleetpatch" / "prefect"
    put_tables(home)
    (home / "prefect.db").chmod(0o644)  # as a server with the usual umask has left it
    with (folder / "log").open("wb") as log:
        process = subprocess.Popen(
            [sys.executable, "-m", "fleetpatch.cli.command", "server", "--port", str(port)],
            env={**without_ours(), **TABLES_ARE_THERE, "XDG_DATA_HOME": str(folder / "data"), "PYTHONPATH": PYTHONPATH},
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
        )
    try:
        url, until = f"http://127.0.0.1:{port}/api", time.monotonic() + START_SECONDS
        while find_server_fault(url):
            assert process.poll() is None, (folder / "log").read_text()
            assert time.monotonic() < until, (folder / "log").read_text()
            time.sleep(0.2)
        door = Door(url, home, process.pid, ensure_login())
        with door.client():
            Secret[str](value=SecretStr(SECRET)).save(BLOCK)
        yield door
    finally:
        process.terminate()
        process.wait()


OWN_SERVER: Final = f"""
import os, sys
from flows.composition import read_prefect_secret
from flows.prefect_api.connection import connect_prefect
connect_prefect()
from prefect.blocks.system import Secret
Secret(value={SECRET!r}).save({BLOCK!r})
assert read_prefect_secret({BLOCK!r}) == {SECRET!r}
print(os.environ["PREFECT_API_URL"], flush=True)
sys.stdin.read()
"""


@pytest.fixture(scope="module")
def own_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Door]:
    """The server of a process that reads a `prefect:` credential, where none is configured."""
    home = tmp_path_factory.mktemp("own")
    put_tables(home)
    environment = {**without_ours(), **TABLES_ARE_THERE, "PREFECT_HOME": str(home), "PYTHONPATH": PYTHONPATH}
    environment["PREFECT_SERVER_API_CORS_ALLOWED_ORIGINS"] = "*"  # which another server of the owner has
    process = subprocess.Popen(
        [sys.executable, "-c", OWN_SERVER], env=environment, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    with process:
        assert process.stdout is not None
        url = process.stdout.readline().strip()
        assert url, "it ended"
        yield Door(url, home, process.pid, "")


@pytest.fixture(params=["server", "own_server"])
def door(request: pytest.FixtureRequest) -> Door:
    """Either of the two."""
    found: Door = request.getfixturevalue(request.param)
    return found


def list_processes(process: int) -> list[int]:
    """Return a process and its children."""
    children = Path(f"/proc/{process}/task/{process}/children").read_text().split()
    return [process, *map(int, children)]


# ---------------------------------------------------------------- another user of the machine


@needs_another_user
def test_another_user_gets_no_credential(door: Door) -> None:
    """Attacker: a user of the same machine without rights. Way: ask the server for its Secret blocks, or for a token
    to change something, without a password or with a guessed one. What must hold: each question is refused."""
    told = run_as_nobody(ASK, door.url, json.dumps(QUESTIONS)).splitlines()
    assert len(told) == len(QUESTIONS)
    assert [line for line in told if not line.startswith(("401 ", "403 "))] == []
    assert SECRET not in "".join(told)


@needs_another_user
def test_another_user_reads_no_file_of_the_server(door: Door) -> None:
    """Attacker: the same. Way: read the password where it lies: its file, the environment and arguments of processes,
    the database with the blocks and their key, the log. What must hold: only the arguments are readable, and the
    password is not in them."""
    processes = list_processes(door.process)
    files = [find_login_path(), *door.home.glob("prefect.db*"), *Path("/tmp").glob("fleetpatch-prefect-*.log")]
    files += [Path(f"/proc/{process}/environ") for process in processes]
    assert len(files) >= 3
    for file in files[1:]:
        assert file.stat().st_mode & 0o077 == 0, file  # not only the folder above it is closed
    told = run_as_nobody(READ, json.dumps([str(file) for file in files])).splitlines()
    assert [line for line in told if not line.startswith("refused ")] == []
    arguments = b" ".join(Path(f"/proc/{process}/cmdline").read_bytes() for process in processes)
    assert ensure_login().partition(":")[2].encode() not in arguments


LISTEN: Final = """
import socket, sys
listener = socket.create_server(("127.0.0.1", int(sys.argv[1])))
print("listening", flush=True)
sys.stdin.read()
"""


@needs_another_user
def test_another_user_who_listens_on_the_servers_port_is_not_sent_the_password() -> None:
    """Attacker: the same. Way: listen on the server's port while the server is down, and wait for the owner's command.
    What must hold: the command sends no password to a program of another user."""
    ensure_login()
    port = free_port()
    command = ("setpriv", "--reuid=nobody", "--clear-groups", "/usr/bin/python3", "-c", LISTEN, str(port))
    with subprocess.Popen(
        command, env={}, cwd="/", stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as squatter:
        assert squatter.stdout is not None
        assert squatter.stdout.readline() == "listening\n"
        assert find_login(f"http://127.0.0.1:{port}/api") is None
        assert find_login(f"http://localhost:{port}/api") is None


@pytest.mark.parametrize("url", ["http://192.0.2.7:{}/api", "http://127.0.0.1.example:{}/api", "http://u@:{}/api"])
def test_a_server_elsewhere_is_not_sent_the_password(server: Door, url: str) -> None:
    """Attacker: whoever can set a URL. Way: let the owner's command talk to a server elsewhere. What must hold: the
    password of the file is only sent to a server of the same user on the loopback."""
    port = httpx.URL(server.url).port
    assert find_login(server.url) == server.login
    assert find_login(url.format(port)) is None


HALF_REQUESTS: Final = 300
SILENT_SOCKETS: Final = 120  # of an SQLite database, Prefect serves 100 requests and WebSockets at once
SOON_SECONDS: Final = 5.0
HANDSHAKE: Final = (
    "GET /api/{} HTTP/1.1\r\nHost: 127.0.0.1\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n"
    "Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\n"
    "Sec-WebSocket-Protocol: prefect\r\n\r\n"
)
SOCKET_PATHS: Final = ("events/in", "events/out", "logs/out", "task_runs/subscriptions/scheduled")


@contextmanager
def _besiege(port: int) -> Iterator[list[socket.socket]]:
    """Do what needs no password, without an end: give the silent WebSockets."""
    is_over, sockets = threading.Event(), list[socket.socket]()

    def ask() -> None:
        while not is_over.is_set():
            for path in ("/openapi.json", "/api/openapi.json"):
                connection = HTTPConnection("127.0.0.1", port, timeout=60.0)
                with suppress(OSError, HTTPException), closing(connection):  # the server may turn a stranger away
                    connection.request("GET", path)
                    connection.getresponse().read()

    loops = [threading.Thread(target=ask, daemon=True) for _ in range(4)]
    try:
        for loop in loops:
            loop.start()
        for number in range(HALF_REQUESTS + SILENT_SOCKETS):
            sockets.append(socket.create_connection(("127.0.0.1", port), 60.0))
            is_socket = number >= HALF_REQUESTS
            head = HANDSHAKE.format(SOCKET_PATHS[number % 4]) if is_socket else "GET /api/flows HTTP/1.1\r\nHo"
            sockets[-1].sendall(head.encode())
        yield sockets[HALF_REQUESTS:]
    finally:
        is_over.set()
        for opened in sockets:
            opened.close()
        for loop in loops:
            loop.join(60.0)


def test_who_has_no_password_keeps_nobody_else_waiting(server: Door) -> None:
    """Attacker: whoever reaches the port. Way: ask for the description of the API in four loops, begin 300 requests
    that never end, and open 120 WebSockets that never send the password. What must hold: the server answers others
    soon, and it ends what waits."""
    port = httpx.URL(server.url).port or 0
    assert httpx.get(f"http://127.0.0.1:{port}/openapi.json").status_code == 404
    assert httpx.get(f"{server.url}/openapi.json").status_code == 401
    user, _, password = server.login.partition(":")
    with httpx.Client(base_url=server.url, timeout=SOON_SECONDS) as asked, _besiege(port) as sockets:
        for _ in range(5):
            assert asked.get("/health").json() is True
            assert asked.get("/admin/version", auth=(user, password)).status_code == 200
            assert asked.get("/csrf-token?client=owner", auth=(user, password)).status_code == 200  # it writes
        until = time.monotonic() + 60
        while any(not is_ended(opened) for opened in sockets):
            assert time.monotonic() < until, "a WebSocket waits for ever"
            time.sleep(0.1)


def test_a_stranger_sends_nothing_that_grows(server: Door) -> None:
    """Attacker: whoever reaches the port. Way: send few compressed bytes that become a long message on a WebSocket.
    What must hold: the server takes no compressed messages."""
    offer = "\r\nSec-WebSocket-Extensions: permessage-deflate\r\n\r\n"
    with socket.create_connection(("127.0.0.1", httpx.URL(server.url).port or 0), 60.0) as opened:
        opened.sendall(HANDSHAKE.format("events/in").replace("\r\n\r\n", offer).encode())
        answer = opened.recv(1 << 16)
    assert answer.startswith(b"HTTP/1.1 101 ")
    assert b"permessage-deflate" not in answer


def is_ended(opened: socket.socket) -> bool:
    """Return whether the server has ended a WebSocket: a frame of its end, or the end of the connection, is here."""
    opened.settimeout(0.0)
    try:
        answer = opened.recv(1 << 16, socket.MSG_PEEK)
    except BlockingIOError:
        return False
    except ConnectionError:
        return True
    return not answer or b"no password in time" in answer


# ---------------------------------------------------------------- web pages in the browser of the owner


class _Page(BaseHTTPRequestHandler):
    """The attacker's web page."""

    def do_GET(self) -> None:
        self.send_response(200)
        self.send_header("Content-Type", "text/html")
        self.send_header("Content-Length", "0")
        self.end_headers()

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture(scope="module")
def attacker() -> Iterator[str]:
    """The address of a web site with a name of its own."""
    with ThreadingHTTPServer(("127.0.0.1", 0), _Page) as site:
        threading.Thread(target=site.serve_forever, daemon=True).start()
        yield f"http://attacker.test:{site.server_address[1]}/"
        site.shutdown()


@pytest.fixture(scope="module")
def owner(browser_of_all_names: Browser, server: Door) -> Iterator[BrowserContext]:
    """The browser of the server's owner, who has logged in to Prefect's UI once."""
    context = browser_of_all_names.new_context()
    page = context.new_page()
    field = open_prefect(page, server.url.removesuffix("/api"), "input[type=password]")
    field.fill(server.login)
    page.get_by_role("button", name="Login").click()
    page.wait_for_url("**/dashboard**")
    page.close()
    yield context
    context.close()


@pytest.fixture
def page(owner: BrowserContext) -> Iterator[Page]:
    """A tab of the owner's browser."""
    page = owner.new_page()
    yield page
    page.close()


def test_a_page_under_a_rebound_name_is_refused(server: Door, page: Page) -> None:
    """Attacker: the owner of a web site. Way: let its name point to 127.0.0.1, so that the browser takes the server for
    the site itself, and read or write the API (DNS rebinding). What must hold: the server refuses the name."""
    port = httpx.URL(server.url).port
    answer = page.goto(f"http://rebound.test:{port}/api/health")
    assert answer is not None
    assert (answer.status, page.inner_text("body")) == (400, "Invalid host header")
    posted = page.evaluate("async () => (await fetch('/api/flows/', {method: 'POST', body: '{}'})).status")
    assert posted == 400


@pytest.mark.parametrize("host", ["rebound.test", "127.0.0.1.rebound.test", "127.0.0.1:1@rebound.test", ""])
def test_a_rebound_name_is_refused_by_both_servers(door: Door, host: str) -> None:
    """Attacker and way: the same, over HTTP and WebSocket. What must hold: the same."""
    assert httpx.get(f"{door.url}/health", headers={"Host": host}).status_code == 400
    upgrade = {"Connection": "Upgrade", "Upgrade": "websocket", "Sec-WebSocket-Version": "13"}
    key = {"Sec-WebSocket-Key": "AAAAAAAAAAAAAAAAAAAAAA==", "Host": host}
    assert httpx.get(f"{door.url}/events/out", headers={**upgrade, **key}).status_code in {400, 403}


BLIND: Final = """async ([url, name]) => {
    const body = new Blob([JSON.stringify({name})]);  // without a type, the browser sends no Content-Type
    await fetch(url, {method: "POST", mode: "no-cors", credentials: "include", body});
}"""
FOREIGN: Final = """async ([url, options]) => {
    try { return await (await fetch(url, options)).text(); } catch (error) { return String(error); }
}"""


def test_a_blind_post_of_another_origin_changes_nothing(server: Door, page: Page, attacker: str) -> None:
    """Attacker: a web page in the browser of an owner who is logged in. Way: a POST without a content type, which the
    browser sends without asking the server first. What must hold: the server refuses it, and nothing is made."""
    page.goto(attacker)
    with page.expect_response(f"{server.url}/flows/") as answered:
        page.evaluate(BLIND, [f"{server.url}/flows/", FORGED])
    assert answered.value.status == 403
    assert server.count_forged() == 0


def test_a_page_of_another_origin_reads_nothing(server: Door, page: Page, attacker: str) -> None:
    """Attacker: the same. Way: read the API from the page, even with the password. What must hold: the browser is told
    no origin but the server's own, so that it hands nothing to the page."""
    page.goto(attacker)
    known = {"headers": {"Authorization": "Basic AAAA"}}
    for path, options in (("/health", {}), ("/admin/version", known), ("/admin/settings", {"credentials": "include"})):
        assert "TypeError" in page.evaluate(FOREIGN, [server.url + path, options]), path


@pytest.mark.parametrize("path", ["/docs", "/redoc"])
def test_no_page_of_the_server_loads_scripts_of_another_server(door: Door, path: str) -> None:
    """Attacker: who serves the scripts of FastAPI's documents. Way: the script of a page under the server's address
    reads the password that the UI keeps in the browser. What must hold: there is no such page."""
    answer = httpx.get(door.url.removesuffix("/api") + path, follow_redirects=True)
    assert "//cdn" not in answer.text
    assert "swagger" not in answer.text.lower()
    assert "redoc" not in answer.text.lower()


def test_the_servers_own_server_names_no_origin(own_server: Door) -> None:
    """Attacker and way: the same, at the server of a run. What must hold: no origin at all may read it."""
    for origin in ("http://attacker.test", "null", own_server.url.removesuffix("/api")):
        answer = httpx.get(f"{own_server.url}/health", headers={"Origin": origin})
        assert "access-control-allow-origin" not in answer.headers


# ---------------------------------------------------------------- and its owner


def test_the_owner_logs_in_once_and_starts_a_run_by_the_form(server: Door, page: Page) -> None:
    """No attack: the same doors are open to whoever has the password."""
    with server.client() as client:
        flow = client.create_flow_from_name("owned")
        schema: dict[str, Any] = {"type": "object", "properties": {"scope": {"type": "string", "title": "scope"}}}
        deployment = client.create_deployment(flow, "form", entrypoint="nowhere.py:f", parameter_openapi_schema=schema)
    address = f"{server.url.removesuffix('/api')}/deployments/deployment/{deployment}/run"
    open_prefect(page, address, "textarea").fill("env=prod")  # it has no label
    with page.expect_response("**/create_flow_run") as answered:
        page.get_by_role("button", name="Submit").click()
    assert answered.value.status == 201
    with server.client() as client:
        (run,) = client.read_flow_runs()
    assert run.parameters == {"scope": "env=prod"}
