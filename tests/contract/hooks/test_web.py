"""Hooks that are HTTP calls, to a web server on loopback: what is sent, what an answer means, what is told of it."""

import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from flows.hooks import http_call
from tasks.domain.errors import RecordsError
from tasks.domain.model import HookResult
from tasks.domain.states import HookKind
from tasks.steps.context.run_control import StopToken
from tests.contract.hooks.calls import REPORT, Stops, WaitingClock, call
from tests.support.fake_records import FakeRecords


class Site:
    """A web server that remembers what it was sent."""

    def __init__(self) -> None:
        self.seen: list[tuple[str, dict[str, str], bytes]] = []
        self.status, self.body, self.delay = 200, b"", 0.0
        self.headers: dict[str, str] = {}
        self.may_answer = threading.Event()
        site = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers.get("Content-Length", "0")))
                site.seen.append((self.path, dict(self.headers), body))
                site.may_answer.wait(site.delay)
                self.send_response(site.status)
                for name, value in site.headers.items():
                    self.send_header(name, value)
                self.send_header("Content-Length", str(len(site.body)))
                self.end_headers()
                self.wfile.write(site.body)

            do_GET = do_POST  # noqa: N815 - the library's name

            def log_message(self, *_: object) -> None:
                pass

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.server.daemon_threads = True
        self.thread = threading.Thread(target=self.server.serve_forever, args=(0.05,), daemon=True)
        self.thread.start()

    @property
    def port(self) -> int:
        return int(self.server.server_address[1])


@pytest.fixture
def site(monkeypatch: pytest.MonkeyPatch) -> Iterator[Site]:
    monkeypatch.setenv("no_proxy", "*")
    made = Site()
    yield made
    made.may_answer.set()
    made.server.shutdown()
    made.server.server_close()
    made.thread.join()


def http(target: str, **more: object) -> HookResult:
    return call(HookKind.HTTP, target, **more)  # type: ignore[arg-type]  # the same words


def test_an_http_hook_posts_the_event(site: Site) -> None:
    site.body = b"thank\nyou"
    result = http(f"http://ada:p%20w@127.0.0.1:{site.port}/hook?token=abc")

    assert (result.succeeded, result.message) == (True, "thank you")
    ((path, headers, body),) = site.seen
    assert path == "/hook?token=abc"
    assert headers["Content-Type"] == "application/json"
    assert headers["Authorization"].startswith("Basic ")
    told = json.loads(body)
    assert told["eventType"] == "fleetpatch.PreMaintenanceEvent"
    assert told["data"]["correlationId"] == REPORT.run.id
    assert told["data"]["maintenanceConfigurationId"] == "web-tuesdays"
    assert told["data"]["machines"] == ["web-1", "web-2"]
    assert "cancellationCutOffDateTime" in told["data"]
    assert "p w" not in repr(result)
    assert "abc" not in repr(result)


SECRET_URLS = [
    "http://{place}/services/T0001/B0002/hunter2secret",
    "http://ada:hunter2secret@{place}/hook",
    "http://{place}/hook?token=hunter2secret&x=1",
    "http://{place}/a b/hunter2secret",  # InvalidURL, whose text has the path
    "http://{place}/hook?token=hunter2secret\x7f",
    "http://{place}/é/hunter2secret",
    "http://{place}/hook#hunter2secret",
    "http://{place}/hunter2secret%2Fmore%20?q=%22hunter2secret",
    "http://hunter2secret:{place}/",
    "http://[hunter2secret]:{place}/",
    "http://{place}:hunter2secret/",
]


@pytest.mark.parametrize("url", SECRET_URLS)
@pytest.mark.parametrize("says", ["nothing", "the page is not there: {path}", "<a href='{path}'>", "{json}", "cut"])
def test_nothing_of_a_url_but_its_place_is_told_or_kept(
    site: Site, caplog: pytest.LogCaptureFixture, url: str, says: str
) -> None:
    target = url.format(place=f"127.0.0.1:{site.port}")
    path = "/" + target.partition("//")[2].partition("/")[2]
    site.status = 404
    site.body = says.format(path=path, json=json.dumps({"url": path}).replace("/", "\\/")).encode()
    if says == "cut":
        site.delay, seconds = 0.4, 0.2
    else:
        seconds = 3.0
    records = FakeRecords()

    result = call(HookKind.HTTP, target, seconds=seconds, records=records)

    assert not result.succeeded
    assert result.message
    for told in (repr(result), repr(records.journal), caplog.text):
        assert "hunter2secret" not in told
        assert "T0001/B0002" not in told


@pytest.mark.parametrize("status", [300, 301, 404, 500])
def test_any_other_status_has_failed(site: Site, status: int) -> None:
    site.status, site.body = status, b"no"
    site.headers = {"Location": f"http://127.0.0.1:{site.port}/elsewhere"}

    result = http(f"http://127.0.0.1:{site.port}/hook")

    assert not result.succeeded
    assert f"status {status}" in result.message
    assert len(site.seen) == 1


def test_an_answer_may_cancel_the_run(site: Site) -> None:
    site.body = b'{"cancel": "change freeze in the shop"}'
    control, stops = StopToken(), Stops()

    result = http(f"http://127.0.0.1:{site.port}/", control=control, stops=stops)

    assert result.succeeded
    assert "change freeze" in result.message
    assert control.reason == "change freeze in the shop (hook h)"
    assert stops.asked == [(REPORT.run.id, "hook h", "change freeze in the shop")]

    control = StopToken()
    http(f"http://127.0.0.1:{site.port}/", control=control, stops=Stops(RecordsError("away")))
    assert control.is_stopping


@pytest.mark.parametrize(
    "body", [b"", b"cancel", b"[]", b'{"cancel": ""}', b'{"cancel": false}', b"\xff{", b"[" * 9999]
)
def test_other_answers_cancel_nothing(site: Site, body: bytes) -> None:
    site.body = body
    control = StopToken()
    assert http(f"http://127.0.0.1:{site.port}/", control=control).succeeded
    assert not control.is_stopping


def test_nobody_there_is_tried_again_until_the_timeout(site: Site) -> None:
    port = site.port
    site.server.shutdown()
    site.server.server_close()

    result = http(f"http://127.0.0.1:{port}/", seconds=1.5)

    assert not result.succeeded
    assert 1 < (result.ended_at - result.started_at).total_seconds() < 60


def test_a_slow_answer_is_not_asked_for_twice(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    send = http_call._send_request
    monkeypatch.setattr(http_call, "_send_request", lambda request, _seconds: send(request, 600.0))
    site.delay = 600
    result = http(f"http://127.0.0.1:{site.port}/", seconds=0.5, clock=WaitingClock(lambda: site.seen))
    assert not result.succeeded
    assert "longer than" in result.message
    site.may_answer.set()
    for thread in threading.enumerate():
        if thread.name == "hook":
            thread.join(300)
    assert len(site.seen) == 1
