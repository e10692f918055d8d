"""Events for programs: JSON that is signed, and CEF that no text can break out of; sent to real sockets."""

import base64
import contextlib
import hashlib
import hmac
import json
import re
import socket
import ssl
import threading
from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from flows.notify.event_senders import render_syslog, send_syslog, send_webhook
from flows.notify.events import (
    Event,
    build_machine_events,
    build_run_event,
    clean_cef_text,
    render_cef,
    render_json,
)
from flows.notify.notifier import open_notifier
from flows.notify.told_events import ToldEvents
from flows.request.request_parts import NotifyRequest
from inventory.credentials import resolve_credential
from tasks.domain.errors import CredentialError
from tasks.domain.model import RunReport, Window
from tasks.domain.scheduled_events import EventStatus, EventType, ScheduledEvent
from tasks.domain.states import NotificationOccasion, OperationState
from tests.support import builders as make
from tests.support.certificate import write_certificate
from tests.support.fake_scheduled_events import FakeScheduledEvents

AT = datetime(2026, 11, 24, 22, 0, 5, tzinfo=UTC)
KEY = "made-up-key-of-the-tests"  # pragma: allowlist secret
NIGHT = Window(AT, AT + timedelta(hours=2), "Europe/Berlin")


def ended(reason: str = "dpkg: error") -> RunReport:
    run = make.make_run(scope="env=prod", window=NIGHT, request={"configuration": "web"}, message="1 machine failed")
    return RunReport(run, (make.make_failed_outcome(machine="db-1", reason=reason),))


def parse_cef(text: str) -> tuple[list[str], dict[str, str]]:
    """Read CEF as a collector does."""
    parts = re.split(r"(?<!\\)(?:\\\\)*\|", text) if "\\\\" not in text else _split_bars(text)
    header = [re.sub(r"\\(.)", r"\1", part) for part in parts[:7]]
    extension = _split_bars(text, 7)[7]
    starts = list(re.finditer(r"(?:^| )([A-Za-z0-9]+)=", extension))
    fields = {}
    for number, each in enumerate(starts):
        end = starts[number + 1].start() if number + 1 < len(starts) else len(extension)
        raw = extension[each.end() : end]
        fields[each[1]] = re.sub(r"\\(.)", lambda found: "\n" if found[1] == "n" else found[1], raw)
    return header, fields


def _split_bars(text: str, limit: int = 7) -> list[str]:
    parts, current, escaped = [], "", False
    for place, character in enumerate(text):
        if character == "|" and not escaped:
            parts.append(current)
            current = ""
            if len(parts) == limit:
                return [*parts, text[place + 1 :]]
            continue
        current += character
        escaped = character == "\\" and not escaped
    return [*parts, current]


def test_a_failed_machine_in_cef() -> None:
    (event,) = build_machine_events(NotificationOccasion.FAILED, ended("a=b|c\\d\nnext"), AT, "https://p.example.org")
    event_id = event.id
    run_id = make.RUN_ID
    moment = int(event.at.timestamp() * 1000)
    text = render_cef(event, "0.1.0")
    assert text.startswith(
        f"CEF:0|fleetpatch|fleetpatch|0.1.0|machine_failed|machine failed|7|rt={moment} externalId={event_id} "
        "dhost=db-1 outcome=Failed msg=a\\=b|c\\\\d\\nnext "
    )
    assert f" request=https://p.example.org/runs/{run_id}/machines/db-1 cs1={run_id} cs1Label=runId " in text


def test_the_header_of_syslog() -> None:
    event = Event("evt_1", "failed", datetime(2026, 3, 5, 4, 5, 6, tzinfo=UTC), "run failed")
    text = render_syslog(event, "ctl-1.example.org\n<0>", "0.1.0")
    assert text == (
        "<131>Mar  5 04:05:06 ctl-1 CEF:0|fleetpatch|fleetpatch|0.1.0|failed|run failed|7|"
        "rt=1772683506000 externalId=evt_1"
    )


HOSTILE = st.text(max_size=60) | st.sampled_from(
    ["x dhost=evil", "a\\", "\\=", "a|b", "a\r\n<0>CEF:0|x", "\x85\u2028 y", " msg=", "\\n", "\ud800", "= =", " "]
)


@given(machine=HOSTILE.filter(bool), reason=HOSTILE.filter(bool), title=HOSTILE)
def test_no_text_gets_out_of_its_field(machine: str, reason: str, title: str) -> None:
    event = Event("evt_1", "failed", AT, title, {"id": "r1"}, {"name": machine}, text=reason)
    text = render_cef(event, "1")
    assert len(text.splitlines()) == 1
    header, fields = parse_cef(text)
    assert header[:5] == ["CEF:0", "fleetpatch", "fleetpatch", "1", "failed"]
    assert header[5] == " ".join(clean_cef_text(title).split())
    assert header[6] == "7"
    expected = {"rt", "externalId", "dhost", "msg", "cs1", "cs1Label"}
    assert set(fields) == expected
    assert (fields["dhost"], fields["msg"]) == (clean_cef_text(machine), clean_cef_text(reason))
    assert json.loads(render_json(event))["machine"]["name"] == machine


def test_an_event_has_the_same_id_whoever_sends_it() -> None:
    first = build_run_event(NotificationOccasion.FAILED, ended(), AT)
    again = build_run_event(NotificationOccasion.FAILED, ended(), AT + timedelta(hours=1))
    other = build_run_event(NotificationOccasion.CANCELLED, ended(), AT)
    assert first.id == again.id != other.id


def test_a_true_end_follows_an_unknown_one() -> None:
    report = replace(ended(), run=replace(ended().run, ended_at=AT + timedelta(hours=1)))
    unknown = replace(report, run=replace(report.run, state=OperationState.UNKNOWN, ended_at=AT))
    ids = [build_run_event(NotificationOccasion.FAILED, told, AT).id for told in (unknown, unknown, report)]
    assert ids[0] == ids[1] != ids[2]
    assert build_machine_events(NotificationOccasion.FAILED, unknown, AT) == ()
    assert build_machine_events(NotificationOccasion.FAILED, report, AT)


def test_a_run_that_asks_for_approval_of_another_plan_sends_another_event() -> None:
    asked, planned_anew = make.make_report(outcomes=()), make.make_report(outcomes=(), plans=())
    ids = [build_run_event(NotificationOccasion.WAITING, each, AT).id for each in (asked, asked, planned_anew)]
    assert ids[0] == ids[1] != ids[2]


class Post(BaseHTTPRequestHandler):
    server: "Receiver"

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["Content-Length"]))
        self.server.got.append((dict(self.headers), body))
        self.send_response(self.server.statuses.pop(0) if self.server.statuses else 200)
        self.send_header("Location", "/elsewhere")
        self.end_headers()
        while self.server.never_ends and not self.server.is_enough.wait(0.05):
            self.wfile.write(b"x" * 1000)

    def log_message(self, *_: Any) -> None:
        """Say nothing."""


class Receiver(HTTPServer):
    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Post)
        self.got: list[tuple[dict[str, str], bytes]] = []
        self.statuses: list[int] = []
        self.never_ends = False
        self.is_enough = threading.Event()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_port}/hook"


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    server = Receiver()
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    yield server
    server.is_enough.set()
    server.shutdown()
    thread.join()
    server.server_close()


def test_a_webhook_is_signed_and_tried_again_with_the_same_id(receiver: Receiver) -> None:
    receiver.statuses = [503, 429]
    event, waits = build_run_event(NotificationOccasion.FAILED, ended(), AT), list[float]()
    assert send_webhook(receiver.url, KEY, event, wait=waits.append) == ""
    assert waits == [0.5, 1.0]
    assert {headers["webhook-id"] for headers, _ in receiver.got} == {event.id}
    headers, body = receiver.got[-1]
    signed = f"{event.id}.{headers['webhook-timestamp']}.".encode() + body
    digest = base64.b64encode(hmac.new(KEY.encode(), signed, hashlib.sha256).digest()).decode()
    assert headers["webhook-signature"] == f"v1,{digest}"
    told = json.loads(body)
    assert (told["type"], told["run"]["configuration"]) == ("fleetpatch.failed", "web")


def no_wait(seconds: float) -> None:
    raise AssertionError(f"it waits {seconds} s")


@pytest.mark.parametrize("status", [302, 400, 404])
def test_a_refusal_is_not_repeated(receiver: Receiver, status: int) -> None:
    receiver.statuses = [status]
    said = send_webhook(receiver.url, "", build_run_event(NotificationOccasion.FAILED, ended(), AT), wait=no_wait)
    assert said == f"the service did not accept it: status {status}"
    assert len(receiver.got) == 1


def test_what_can_not_be_reached_says_why_without_the_url(tmp_path: Path) -> None:
    event = build_run_event(NotificationOccasion.FAILED, ended(), AT)
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    reached = "the service can't be reached: "
    for host in (f"127.0.0.1:{port}", f"[::ffff:127.0.0.1]:{port}"):
        assert send_webhook(f"http://{host}/secret", "", event, deadline_seconds=0) == f"{reached}Connection refused"
    assert "/secret" not in send_webhook("http://nowhere.invalid/secret", "", event, deadline_seconds=0)
    certificate, key = write_certificate(tmp_path)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate, key)
    with serve_tls(context) as port:
        said = send_webhook(f"https://127.0.0.1:{port}/secret", "", event, deadline_seconds=0)
    assert said == f"{reached}its certificate is not valid (self-signed certificate)"


@contextlib.contextmanager
def serve_tls(context: ssl.SSLContext) -> Iterator[int]:
    """Yield the port of a server that greets one client and sends nothing."""

    def greet() -> None:
        line, _ = server.accept()
        with line, contextlib.suppress(OSError):  # the client refuses the certificate
            context.wrap_socket(line, server_side=True)

    with socket.create_server(("127.0.0.1", 0)) as server:
        thread = threading.Thread(target=greet, daemon=True)
        thread.start()
        yield server.getsockname()[1]
        thread.join(120)


def test_an_answer_that_never_ends_is_not_read(receiver: Receiver) -> None:
    receiver.never_ends = True
    event, done = build_run_event(NotificationOccasion.FAILED, ended(), AT), list[str]()
    sender = threading.Thread(target=lambda: done.append(send_webhook(receiver.url, "", event)), daemon=True)
    sender.start()
    sender.join(300)
    assert done == [""]


def test_the_url_is_in_no_log(receiver: Receiver, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("DEBUG")
    assert send_webhook(receiver.url, "", build_run_event(NotificationOccasion.FAILED, ended(), AT)) == ""
    assert "/hook" not in caplog.text


@pytest.mark.parametrize(
    ("url", "key"),
    [
        ("file:///etc/x", ""),
        ("https://", ""),
        ("https:///path", ""),
        ("https://exa mple/", ""),
        ("https://x:99999/", ""),
        ("http://x", "short"),
        ("http://x", "whsec_&"),
    ],
)
def test_what_is_no_url_or_key_is_refused(url: str, key: str) -> None:
    with pytest.raises(CredentialError):
        send_webhook(url, key, build_run_event(NotificationOccasion.FAILED, ended(), AT))


def test_syslog_over_udp_and_tcp() -> None:
    event = build_run_event(NotificationOccasion.FAILED, ended(), AT)
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as server:
        server.bind(("127.0.0.1", 0))
        server.settimeout(120)
        send_syslog(f"syslog+udp://127.0.0.1:{server.getsockname()[1]}", event)
        datagram = server.recv(65535)
    with socket.create_server(("127.0.0.1", 0)) as server:
        server.settimeout(120)
        send_syslog(f"syslog+tcp://127.0.0.1:{server.getsockname()[1]}", event)
        line, _ = server.accept()
        with line, line.makefile("rb") as stream:
            assert stream.read() == datagram + b"\n"
    assert datagram.startswith(b"<131>Nov 24 22:00:05 ")


def test_a_run_sends_events_of_the_run_and_of_its_machines(receiver: Receiver, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOOK", receiver.url)
    monkeypatch.setenv("HOOK_KEY", KEY)
    target = NotifyRequest(to="env:HOOK", kind="webhook", key="env:HOOK_KEY", on=["failed", "machine_failed"])
    with open_notifier([target], resolve_credential, pytest.fail) as tell:
        tell(NotificationOccasion.PLANNED, ended())
        tell(NotificationOccasion.FAILED, ended())
    assert [json.loads(body)["type"] for _, body in receiver.got] == ["fleetpatch.failed", "fleetpatch.machine_failed"]


def test_programs_are_told_what_is_announced_and_who_has_approved_it(
    receiver: Receiver, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HOOK", receiver.url)
    told: Any = NotifyRequest(to="env:HOOK", kind="webhook", on=["machine_told"])
    moment, inner = datetime.now(UTC), FakeScheduledEvents()
    event = ScheduledEvent(
        id="",
        run_id="run-1",
        act="reboot/0",
        event_type=EventType.REBOOT,
        resources=("web",),
        audience=("web",),
        not_before=moment + timedelta(minutes=15),
        expires_at=moment + timedelta(hours=4),
        announced_at=moment,
        description="Updates need a reboot.",
    )
    inner.records.save(make.make_run(id="run-1", state=OperationState.IN_PROGRESS))
    with open_notifier([told], resolve_credential, pytest.fail) as tell:
        events = ToldEvents(inner, tell.tell_event)
        known = events.announce(event)
        assert events.announce(replace(event, announced_at=moment + timedelta(seconds=5))) == known
        events.approve("web", [known.id])
        events.change(known.id, EventStatus.STARTED)
        events.change(known.id, EventStatus.CANCELED)  # it has begun: nothing changes, and nobody is told
        events.change(known.id, EventStatus.COMPLETED)

    documents = [json.loads(body) for _, body in receiver.got]
    seen = [(each["machine"]["state"], each["machine"]["approved_by"], each["text"]) for each in documents]
    assert seen == [
        ("Scheduled", [], "Updates need a reboot."),
        ("Started", ["web"], "its event was approved by web"),
        ("Completed", ["web"], ""),
    ]
    assert documents[0]["machine"]["approvals_missing"] == ["web"]
    assert {each["type"] for each in documents} == {"fleetpatch.machine_told"}
    assert len({each["id"] for each in documents}) == len(documents)


@pytest.mark.parametrize(
    "fields",
    [
        {"on": ["machine_failed"]},
        {"on": ["machine_told"]},
        {"key": "env:KEY"},
        {"kind": "syslog", "key": "env:KEY"},
        {"kind": "smoke"},
    ],
)
def test_what_does_not_go_together_is_refused(fields: dict[str, Any]) -> None:
    with pytest.raises(ValidationError):
        NotifyRequest(to="env:X", **fields)
