"""A probe takes as long as its owner allows, however slowly an answer comes."""

import socket
import threading
from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any, cast

import pytest

from inventory.machine import Check, CheckKind
from tasks.domain.states import FindingLevel
from tasks.steps.context.machine_context import MachineContext
from tasks.steps.machine import custom_checks

HERE: Any = SimpleNamespace(state=SimpleNamespace(machine=SimpleNamespace(address="127.0.0.1")))
WORK = cast("MachineContext", HERE)  # these checks ask from the controller
SECONDS = 0.5
PATIENCE = 20.0  # of the server: a probe that waited for its end would be told that all is well


class Server:
    """Answers one byte at a time, or sends each visitor on to itself, until it is told to end."""

    def __init__(self, answer: bytes) -> None:
        self.over = threading.Event()
        self._answer = answer
        self.sends_on_to, self.sends_on_once, self.visitors = "", False, 0
        self._socket = socket.create_server(("127.0.0.1", 0))
        self.port = self._socket.getsockname()[1]
        threading.Thread(target=self._serve, daemon=True).start()

    def _serve(self) -> None:
        while not self.over.is_set():
            try:
                line, _ = self._socket.accept()
            except OSError:
                return
            self.visitors += 1
            if self.sends_on_to and not (self.sends_on_once and self.visitors > 1):
                self._send(line, f"302 Found\r\nLocation: {self.sends_on_to}")
                continue
            if self.sends_on_once:
                self._send(line, "200 OK")
                continue
            threading.Thread(target=self._trickle, args=(line,), daemon=True).start()

    @staticmethod
    def _send(line: socket.socket, answer: str) -> None:
        with line:
            line.recv(4096)
            line.sendall(f"HTTP/1.0 {answer}\r\nContent-Length: 0\r\n\r\n".encode())

    def _trickle(self, line: socket.socket) -> None:
        with line:
            try:
                line.sendall(b"HTTP/1.1 200 OK\r\nX-Slow: ")
                for _ in range(round(PATIENCE / 0.1)):
                    if self.over.wait(0.1):
                        break
                    line.sendall(b"x")
                line.sendall(self._answer)
            except OSError:
                return

    def close(self) -> None:
        self.over.set()
        self._socket.close()


@pytest.fixture
def server() -> Iterator[Server]:
    server = Server(b"\r\nContent-Length: 0\r\n\r\n")
    yield server
    server.close()


def ask(kind: CheckKind, target: str) -> str:
    finding = custom_checks.run_check(WORK, Check("front", kind, target, timeout_seconds=SECONDS))
    assert finding.level is FindingLevel.BLOCK
    return finding.message


def test_an_answer_that_trickles_is_none(server: Server) -> None:
    assert "no answer in 0.5 s" in ask(CheckKind.HTTP, f"http://127.0.0.1:{server.port}/")


@pytest.mark.parametrize(
    ("kind", "target"), [(CheckKind.HTTP, "http://web.invalid/"), (CheckKind.TCP, "web.invalid:80")]
)
def test_a_name_that_is_looked_up_for_ever_is_no_answer(
    kind: CheckKind, target: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    over = threading.Event()

    def look_up(*_: object, **__: object) -> object:
        over.wait(PATIENCE)
        raise socket.gaierror("no such name")

    monkeypatch.setattr(socket, "getaddrinfo", look_up)
    assert "no answer in 0.5 s" in ask(kind, target)
    over.set()


def test_a_name_that_can_not_be_is_told_and_nothing_is_raised() -> None:
    told = ask(CheckKind.HTTP, "http://a..b/")
    assert "http://a..b/" in told
    assert "no name that can be looked up" in told


def test_pages_that_send_on_to_each_other_for_ever_are_no_answer(server: Server) -> None:
    server.sends_on_to = f"http://127.0.0.1:{server.port}/again"
    assert "redirects without end" in ask(CheckKind.HTTP, f"http://127.0.0.1:{server.port}/")


def test_a_check_does_not_leave_its_host() -> None:
    """A page may send its visitor on to an address that only the controller reaches."""
    elsewhere, here = Server(b"\r\n\r\n"), Server(b"")
    here.sends_on_to = f"http://127.0.0.1:{elsewhere.port}/secret"
    finding = custom_checks.run_check(
        WORK, Check("front", CheckKind.HTTP, f"http://127.0.0.1:{here.port}/", timeout_seconds=PATIENCE)
    )
    assert finding.level is FindingLevel.GOOD, "302 is an answer"
    assert elsewhere.visitors == 0
    for each in (elsewhere, here):
        each.close()


def test_a_check_follows_within_its_host(server: Server) -> None:
    server.sends_on_to, server.sends_on_once = "/login", True
    finding = custom_checks.run_check(
        WORK, Check("front", CheckKind.HTTP, f"http://127.0.0.1:{server.port}/", timeout_seconds=PATIENCE)
    )
    assert finding.level is FindingLevel.GOOD
    assert server.visitors == 2
