"""A server on loopback that answers as a test's function says, and keeps what it was asked."""

import json
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qsl, urlsplit

from inventory.credentials import Credential, CredentialKind, Secret
from inventory.data_class import dataclass
from inventory.machine import IdentityPolicy, Machine
from tasks.machines.providers.registry import ProviderPorts
from tests.support.fake_clock import FakeClock
from tests.support.provider_records import KeptRecords, fail_to_connect

SECRET = "s3cr3t-of-the-api"


@dataclass(frozen=True, slots=True)
class Asked:
    """A request."""

    method: str
    path: str
    query: dict[str, str]
    headers: dict[str, str]
    body: Any

    @property
    def is_change(self) -> bool:
        return self.method != "GET"


class Lost(Exception):
    """The answer never comes: the line is closed."""


Answer = tuple[int, Any] | tuple[int, Any, dict[str, str]]


class ApiServer:
    """The server.

    Attributes:
        url: its address.
        asked: all requests.
        answer: answers a request with a status and a document. It may raise Lost.
        faults: (text, status, document) for the next request with the text in its path. Status 0: its answer is lost.
        lost_after: texts: the answer of the next request whose path contains it is lost after it was carried out.
    """

    def __init__(self, answer: Callable[[Asked], Answer]) -> None:
        self.answer, self.url = answer, ""
        self.asked: list[Asked] = []
        self.faults: list[tuple[str, int, Any]] = []
        self.lost_after: list[str] = []
        self._lock = threading.Lock()

    def count(self, method: str, text: str) -> int:
        """Return how many requests of a method there were to paths that contain a text."""
        return sum(one.method == method and text in one.path for one in self.asked)

    def react(self, asked: Asked) -> Answer:
        with self._lock:
            self.asked.append(asked)
            for fault in self.faults:
                if fault[0] in asked.path:
                    self.faults.remove(fault)
                    if fault[1] == 0:
                        raise Lost
                    return fault[1], fault[2]
            answer = self.answer(asked)
            for text in self.lost_after:
                if asked.is_change and text in asked.path:
                    self.lost_after.remove(text)
                    raise Lost
            return answer


@contextmanager
def serve(answer: Callable[[Asked], Answer]) -> Iterator[ApiServer]:
    """Run a server."""
    server = ApiServer(answer)

    class Handler(BaseHTTPRequestHandler):
        def _handle(self) -> None:
            parts = urlsplit(self.path)
            content = self.rfile.read(int(self.headers.get("Content-Length") or 0)).decode()
            is_json = "json" in self.headers.get("Content-Type", "")
            body = json.loads(content) if is_json else dict(parse_qsl(content))
            headers = {name.lower(): value for name, value in self.headers.items()}
            asked = Asked(self.command, parts.path, dict(parse_qsl(parts.query)), headers, body)
            try:
                status, document, *more = server.react(asked)
            except Lost:
                self.close_connection = True
                return
            is_text = isinstance(document, bytes)
            text = document if is_text else json.dumps(document).encode() if document is not None else b""
            self.send_response(status)
            for name, value in (more[0] if more else {}).items():
                self.send_header(name, value)
            self.send_header("Content-Length", str(len(text)))
            self.end_headers()
            self.wfile.write(text)

        do_GET = do_POST = do_PUT = do_PATCH = do_DELETE = _handle  # noqa: N815 - names of http.server

        def log_message(self, *_: object) -> None:
            """Say nothing."""

    http = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=http.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True)
    thread.start()
    server.url = f"http://127.0.0.1:{http.server_port}"
    try:
        yield server
    finally:
        http.shutdown()
        http.server_close()
        thread.join()


def build_ports(clock: FakeClock) -> ProviderPorts:
    """Return what a provider needs from outside: a clock and one secret."""
    resolved = Credential(CredentialKind.PASSWORD, secret=Secret(SECRET))
    return ProviderPorts(clock, fail_to_connect, lambda _: resolved, KeptRecords())


def build_machine(provider: str) -> Machine:
    """Return a machine with a provider."""
    return Machine(name="web-1", address="web-1", provider=provider, identity=IdentityPolicy.UNVERIFIED)
