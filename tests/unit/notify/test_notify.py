"""Telling people: in the background, in bounded time, with no secret in any log; through Apprise to a real socket."""

import json
import logging
import threading
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError

from flows.notify.messages import Message
from flows.notify.notifier import AppriseNotifier, open_notifier
from flows.request.request_parts import NotifyRequest
from inventory.credentials import Credential, SecretSources, resolve_credential
from tasks.domain.states import NotificationOccasion
from tests.support import builders as make

# What Apprise's e-mail plugin imports of the standard library while it is loaded.
pytestmark = pytest.mark.filterwarnings("ignore:'imghdr' is deprecated:DeprecationWarning")

SECRET = "made-up-token-7f3a"  # pragma: allowlist secret


class Post(BaseHTTPRequestHandler):
    """Takes what is posted, or refuses it."""

    server: "Listener"

    def do_POST(self) -> None:
        self.server.got.append(json.loads(self.rfile.read(int(self.headers["Content-Length"]))))
        self.send_response(self.server.status)
        self.end_headers()

    def log_message(self, *_: Any) -> None:
        """Say nothing."""


class Listener(HTTPServer):
    """A service that is told."""

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Post)
        self.got: list[dict[str, Any]] = []
        self.status = 200

    @property
    def url(self) -> str:
        return f"json://anne:{SECRET}@127.0.0.1:{self.server_port}/"


@pytest.fixture
def listener() -> Iterator[Listener]:
    server = Listener()
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    yield server
    server.shutdown()
    thread.join()
    server.server_close()


@pytest.fixture
def heard(caplog: pytest.LogCaptureFixture) -> pytest.LogCaptureFixture:
    caplog.set_level(logging.DEBUG)
    return caplog


def asked(to: str = "env:OPS_URL", *on: Any) -> NotifyRequest:
    return NotifyRequest(to=to, on=list(on) or ["finished"])


def test_it_arrives_with_its_title_and_kind(listener: Listener, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OPS_URL", listener.url)
    said: list[str] = []
    with open_notifier([asked("env:OPS_URL", "finished", "failed")], resolve_credential, said.append) as tell:
        tell(NotificationOccasion.FINISHED, make.make_report())
        tell(NotificationOccasion.PLANNED, make.make_report())
        tell(NotificationOccasion.FAILED, make.make_report())
    assert said == []
    assert [(post["title"].rsplit(": ", 1)[-1], post["type"]) for post in listener.got] == [
        ("finished", "info"),
        ("failed", "failure"),
    ]
    assert f"More: fleetpatch show {make.RUN_ID}" in listener.got[0]["message"]


def test_a_file_and_a_block_are_references_too(listener: Listener, tmp_path: Path) -> None:
    place = tmp_path / "url"
    place.write_text(listener.url)
    place.chmod(0o600)
    blocks = {"ops": listener.url}

    def fetch(reference: str) -> Credential:
        return resolve_credential(reference, SecretSources(blocks.__getitem__))

    with open_notifier([asked(f"file:{place}"), asked("block:ops")], fetch, pytest.fail) as tell:
        tell(NotificationOccasion.FINISHED, make.make_report())
    assert len(listener.got) == 2


@pytest.mark.parametrize(
    ("url", "why"),
    [
        (f"nosuch://{SECRET}", "not lead to a URL that Apprise knows"),
        (f"json://{SECRET}@127.0.0.1:9", "did not accept it"),
        (SECRET, "not lead to a URL that Apprise knows"),
        (None, "env:OPS_URL is not set, or empty"),
    ],
)
def test_what_can_not_be_sent_is_said_without_its_secret(
    url: str | None, why: str, monkeypatch: pytest.MonkeyPatch, heard: pytest.LogCaptureFixture
) -> None:
    if url is None:
        monkeypatch.delenv("OPS_URL", raising=False)
    else:
        monkeypatch.setenv("OPS_URL", url)
    said: list[str] = []
    with open_notifier([asked()], resolve_credential, said.append) as tell:
        tell(NotificationOccasion.FINISHED, make.make_report())
    (line,) = said
    assert line.startswith("env:OPS_URL was not notified that the run is finished: ")
    assert why in line
    assert SECRET not in line + heard.text


def test_a_url_in_the_place_of_a_reference_is_neither_used_nor_repeated(
    listener: Listener, heard: pytest.LogCaptureFixture
) -> None:
    with pytest.raises(ValidationError):
        asked(listener.url)
    said: list[str] = []
    unchecked = NotifyRequest.model_construct(to=listener.url, on=["finished"])
    with open_notifier([unchecked], resolve_credential, said.append) as tell:
        tell(NotificationOccasion.FINISHED, make.make_report())
    assert listener.got == []
    assert said == ["notification 1 was not notified that the run is finished: this is no credential reference"]
    assert SECRET not in heard.text


def test_a_service_that_refuses_is_said(listener: Listener, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OPS_URL", listener.url)
    listener.status = 403
    notifier = AppriseNotifier([asked()], resolve_credential, lambda _: None)
    notifier(NotificationOccasion.FINISHED, make.make_report())
    notifier.close()
    assert notifier.undelivered == [
        "env:OPS_URL was not notified that the run is finished: the service did not accept it"
    ]


def test_a_service_that_hangs_holds_nobody_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OPS_URL", "x")
    let_go = threading.Event()
    said: list[str] = []

    def hang(url: str, told: Message) -> bool:
        return let_go.wait(30)

    notifier = AppriseNotifier([asked(), asked()], resolve_credential, said.append, hang)
    began = time.monotonic()
    notifier(NotificationOccasion.FINISHED, make.make_report())
    assert time.monotonic() - began < 20
    notifier.close(seconds=0.05)
    assert time.monotonic() - began < 20
    assert said == ["2 notifications took too long and may be lost"]
    let_go.set()


def test_what_a_service_raises_costs_nothing_and_its_words_are_not_repeated(
    monkeypatch: pytest.MonkeyPatch, heard: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setenv("OPS_URL", SECRET)
    sent: list[str] = []

    def broken(url: str, told: Message) -> bool:
        sent.append(told.title)
        raise OSError(f"can't reach {url}")

    said: list[str] = []
    notifier = AppriseNotifier([asked(), asked("env:OPS_URL", "finished")], resolve_credential, said.append, broken)
    notifier(NotificationOccasion.FINISHED, make.make_report())
    notifier.close()
    assert len(sent) == 2
    assert said == ["env:OPS_URL was not notified that the run is finished: OSError while sending"] * 2
    assert SECRET not in heard.text


def test_nobody_who_asked_for_nothing_is_told_and_no_thread_is_begun() -> None:
    before = set(threading.enumerate())  # one of an earlier test may still be about to end
    notifier = AppriseNotifier([asked("env:OPS_URL", "missed")], resolve_credential, pytest.fail)
    notifier(NotificationOccasion.FINISHED, make.make_report())
    notifier.close()
    assert not any(thread.name == "notify" for thread in threading.enumerate() if thread not in before)
