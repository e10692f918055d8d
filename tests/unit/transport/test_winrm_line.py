"""One WinRM connection against a hostile server: bounded in time and bytes, and nothing of it is followed."""

import re
import socket
import threading
import time
from collections.abc import Callable, Iterator

import pytest
import requests
from winrm.protocol import Protocol

from tasks.machines.transport.winrm.http_line import HttpLine
from tasks.machines.transport.winrm.messages import MessageLost, WinrmLoginRefused, WsmanClient

Answer = Callable[[socket.socket], None]


class Server:
    """Answers every connection in the same way, and counts what it is sent."""

    def __init__(self) -> None:
        self.answer: Answer = lambda _: None
        self.requests: list[bytes] = []
        self._socket = socket.create_server(("127.0.0.1", 0))
        self._ended = threading.Event()
        self.port = int(self._socket.getsockname()[1])
        threading.Thread(target=self._serve, daemon=True).start()

    def _serve(self) -> None:
        while True:
            try:
                line, _ = self._socket.accept()
            except OSError:
                return
            threading.Thread(target=self._talk, args=(line,), daemon=True).start()

    def _talk(self, line: socket.socket) -> None:
        with line:
            try:
                while request := _read_request(line):
                    self.requests.append(request)
                    self.answer(line)
            except OSError:
                pass

    def drip(self, line: socket.socket) -> None:
        line.sendall(b"HTTP/1.1 200 OK\r\nX: ")
        while not self._ended.wait(0.05):
            line.sendall(b"x")

    def close(self) -> None:
        self._ended.set()
        self._socket.close()


def _read_request(line: socket.socket) -> bytes:
    """One whole request; it may come in several pieces."""
    data = b""
    while b"\r\n\r\n" not in data or len(data.partition(b"\r\n\r\n")[2]) < _find_length(data):
        piece = line.recv(65536)
        if not piece:
            return b""
        data += piece
    return data


def _find_length(data: bytes) -> int:
    found = re.search(rb"(?i)content-length: (\d+)", data)
    return int(found[1]) if found else 0


@pytest.fixture
def server() -> Iterator[Server]:
    it = Server()
    yield it
    it.close()


@pytest.fixture
def client(server) -> Iterator[WsmanClient]:
    url = f"http://127.0.0.1:{server.port}/wsman"
    it = WsmanClient(
        Protocol(url, transport="basic", username="u", password="p", proxy=None, ca_trust_path=""),
        HttpLine("127.0.0.1", server.port, tls=None),
    )
    it._transport._is_https = True  # the answers are in the clear here
    yield it
    it.close()


def reply(status: str, body: bytes = b"", *headers: str) -> Answer:
    lines = [f"HTTP/1.1 {status}", f"Content-Length: {len(body)}", *headers, "", ""]
    return lambda line: line.sendall("\r\n".join(lines).encode() + body)


def test_headers_that_drip_end_with_the_time(client, server):
    server.answer = server.drip
    began = time.monotonic()
    with pytest.raises(MessageLost):
        client.open_shell(0.5)
    assert time.monotonic() - began < 60  # they drip for ever


def test_a_body_without_end_is_not_read_to_its_end(client, server):
    def pour(line: socket.socket) -> None:
        line.sendall(b"HTTP/1.1 200 OK\r\nContent-Type: application/soap+xml\r\n\r\n")
        while True:
            line.sendall(b"<" * 1_000_000)

    server.answer = pour
    with pytest.raises(MessageLost, match="more than 4194304 bytes"):
        client.open_shell(60)


@pytest.mark.parametrize("status", ["200 OK", "500 Internal Server Error"])
def test_a_document_type_is_not_parsed(client, server, status):
    bomb = b'<!DOCTYPE x [<!ENTITY a "aaaaaaaaaa"><!ENTITY b "&a;&a;&a;">]><x>&b;</x>'
    server.answer = reply(status, bomb)
    with pytest.raises(MessageLost, match="document type"):
        client.open_shell(10)


@pytest.mark.parametrize("status", ["301 Moved", "302 Found", "307 Temporary Redirect", "308 Permanent Redirect"])
def test_no_redirect_is_followed(client, server, status):
    server.answer = reply(status, b"", f"Location: http://127.0.0.1:{server.port}/elsewhere")
    with pytest.raises(MessageLost, match=status[:3]):
        client.open_shell(10)
    assert len(server.requests) == 1


def test_a_refusal_has_what_is_offered(client, server):
    server.answer = reply("401 Unauthorized", b"", "WWW-Authenticate: Negotiate", "WWW-Authenticate: Kerberos")
    with pytest.raises(WinrmLoginRefused) as caught:
        client.open_shell(10)
    assert caught.value.offered == "Negotiate, Kerberos"
    assert client.credentials_sent == 1


def test_no_environment_leads_elsewhere_or_logs_in_otherwise(client, server, monkeypatch, tmp_path):
    (tmp_path / ".netrc").write_text("machine 127.0.0.1 login other password secret\n")
    monkeypatch.setenv("HOME", str(tmp_path))
    for name in ("http_proxy", "HTTP_PROXY", "ALL_PROXY"):
        monkeypatch.setenv(name, "http://127.0.0.1:9")
    server.answer = reply("404 Not Found")
    with pytest.raises(MessageLost, match="404"):
        client.open_shell(10)
    (request,) = server.requests
    assert request.startswith(b"POST /wsman HTTP/1.1\r\n")
    assert b"Authorization: Basic dTpw\r\n" in request


def test_after_the_login_no_other_connection_is_opened(client, server):
    def answer_and_end(line: socket.socket) -> None:
        reply("500 Internal Server Error")(line)
        line.close()

    server.answer = answer_and_end
    with pytest.raises(MessageLost):
        client.open_shell(10)
    client._line.is_logged_in = True
    with pytest.raises(MessageLost, match=r"closed the connection|reset by peer"):
        client.open_shell(10)
    assert len(server.requests) == 1


def test_a_login_that_ended_without_encryption_sends_nothing_in_the_clear(server):
    url = f"http://127.0.0.1:{server.port}/wsman"
    it = WsmanClient(
        Protocol(
            url, transport="ntlm", username="u", password="p", proxy=None, ca_trust_path="", message_encryption="always"
        ),
        HttpLine("127.0.0.1", server.port, tls=None),
    )
    server.answer = reply("401 Unauthorized", b"", "WWW-Authenticate: Negotiate")
    for _ in range(2):
        with pytest.raises((WinrmLoginRefused, MessageLost)):
            it.open_shell(10)
    assert not any(b"Envelope" in request for request in server.requests)
    it.close()


@pytest.mark.parametrize("status", [200, 500])
def test_an_answer_in_the_clear_is_not_read_after_a_login_with_encryption(client, status):
    """Whoever is between could write it."""
    response = requests.Response()
    response.status_code, response._content = status, b"<s:Envelope/>"
    response.headers["Content-Type"] = "application/soap+xml"
    client._transport.encryption = object()
    with pytest.raises(MessageLost, match="not encrypted"):
        client._transport._get_message_response_text(response)


@pytest.mark.parametrize(("seconds", "allowed"), [(300.0, b"PT60S"), (40.0, b"PT39S"), (0.6, b"PT1S")])
def test_a_machine_may_take_a_minute_to_make_the_profile_of_a_new_login(client, server, seconds, allowed):
    # "can expire before the initial shell gets created": diyan/pywinrm 123, about 20 s
    server.answer = reply("500 Internal Server Error")
    with pytest.raises(MessageLost):
        client.open_shell(seconds)
    assert b"OperationTimeout>" + allowed in server.requests[0]


def test_output_is_asked_for_every_20_seconds(client, server):
    server.answer = reply("500 Internal Server Error")
    with pytest.raises(MessageLost):
        client.receive("shell", "command", 300.0)
    assert b"OperationTimeout>PT20S" in server.requests[0]
