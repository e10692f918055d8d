"""Each kind of hook that is no command on a machine, run for real: processes, a web server on loopback, functions."""

import json
import os
import threading
import time
from collections.abc import Iterator
from dataclasses import replace
from datetime import timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from flows.hooks.calling import hook_caller
from flows.hooks.event import HookEvent, event_of
from tasks.errors import RecordsError, RequestError
from tasks.model import Hook, HookResult
from tasks.seams.clock import Deadline, SystemClock
from tasks.states import HookKind, HookPlace, OperationState
from tasks.steps.context import Context, Control, PatchOptions
from tasks.steps.hooks import once
from tests.support.builders import make_outcome, make_report, make_run
from tests.support.fake_records import FakeRecords

CLOCK = SystemClock()
REPORT = replace(make_report(), run=make_run(request={"configuration": "web-tuesdays"}))
BEFORE, AFTER = HookPlace.BEFORE_RUN, HookPlace.AFTER_RUN


class Stops:
    """What stores requests to stop."""

    def __init__(self, error: RecordsError | None = None) -> None:
        self.asked: list[tuple[str, str, str]] = []
        self.error = error

    def ask(self, run_id: str, by: str, reason: str) -> None:
        self.asked.append((run_id, by, reason))
        if self.error is not None:
            raise self.error


def call(
    kind: HookKind,
    target: str,
    *,
    place: HookPlace = BEFORE,
    seconds: float = 10.0,
    control: Control | None = None,
    stops: Stops | None = None,
    subject: str = "run",
    records: FakeRecords | None = None,
) -> HookResult:
    """Run a hook as the engine does, journal and all."""
    hook = Hook("h", place, kind, target, timeout_seconds=seconds)
    control = control or Control()
    caller = hook_caller(CLOCK, control, (stops or Stops()).ask)
    context = Context(
        REPORT.run,
        PatchOptions(),
        CLOCK,
        records or FakeRecords(),
        connect=lambda machine: pytest.fail("no machine here"),
        manager_for=lambda facts: pytest.fail("no machine here"),
        control=control,
    )
    return once(context, hook, subject, lambda h, s, d: caller(h, REPORT, s, d))


def command(target: str, **more: object) -> HookResult:
    return call(HookKind.CONTROLLER_COMMAND, target, **more)  # type: ignore[arg-type]  # the same words


def test_a_command_is_words_without_a_shell(tmp_path: Path) -> None:
    result = command("printf %s; '$HOME and more'")
    assert (result.succeeded, result.message) == (True, "$HOME and more;")
    result = command(f"sh -c 'echo told > {tmp_path}/x; cat {tmp_path}/x'")
    assert (result.succeeded, result.message) == (True, "told")


def test_a_command_knows_what_it_is_about(tmp_path: Path) -> None:
    result = command(f"sh -c 'cp \"$FLEETPATCH_REPORT\" {tmp_path}/report; env | grep ^FLEETPATCH_'", place=AFTER)
    assert result.succeeded
    for line in ("FLEETPATCH_HOOK=h", f"FLEETPATCH_RUN={REPORT.run.id}", "FLEETPATCH_PLACE=after_run"):
        assert line in result.message.splitlines()
    assert "FLEETPATCH_STATE=Failed" in result.message.splitlines()
    told = json.loads((tmp_path / "report").read_text())
    assert [machine["machineName"] for machine in told["machines"]] == ["web-1", "web-2"]


@pytest.mark.parametrize(
    ("target", "message"),
    [
        ("sh -c 'echo sorry >&2; exit 7'", "exit code 7: sorry"),
        ("sh -c 'kill -9 $$'", "ended by signal 9"),
        ("false", "exit code 1"),
    ],
)
def test_a_failing_command_says_how(target: str, message: str) -> None:
    result = command(target)
    assert (result.succeeded, result.message) == (False, message)


def test_a_command_that_is_not_there_has_failed() -> None:
    assert "could not be started" in command("/no/such/command").message


def test_a_command_that_takes_too_long_is_ended_with_its_children(tmp_path: Path) -> None:
    began = time.monotonic()
    result = command(f"sh -c 'sleep 60 & echo $! > {tmp_path}/child; echo begun; wait'", seconds=0.6)

    assert not result.succeeded
    assert result.message == "it took longer than 1 s: begun"
    assert time.monotonic() - began < 5
    child = int((tmp_path / "child").read_text())
    assert _gone(child)


def test_what_a_command_started_is_ended_as_well_when_the_command_itself_goes_at_once(tmp_path: Path) -> None:
    """A child that lets TERM pass is killed; one that puts something right first has its time."""
    stubborn = f"sh -c 'trap \"\" TERM; echo $$ > {tmp_path}/stubborn; while :; do sleep 0.1; done' &"
    tidy = f"sh -c 'trap \"sleep 0.5; echo tidied > {tmp_path}/tidied; exit\" TERM; while :; do sleep 0.1; done' &"
    script = tmp_path / "hook.sh"
    script.write_text(f"{stubborn}\n{tidy}\nsleep 60 & wait\n")

    result = command(f"sh {script}", seconds=1.0)

    assert not result.succeeded
    assert _gone(int((tmp_path / "stubborn").read_text()))
    assert (tmp_path / "tidied").exists()


def test_a_command_that_ended_in_time_leaves_what_it_started(tmp_path: Path) -> None:
    assert command(f"sh -c 'sleep 60 >/dev/null 2>&1 & echo $! > {tmp_path}/child'").succeeded
    child = int((tmp_path / "child").read_text())
    os.kill(child, 9)


SECRETS = {
    "FLEETPATCH_RECORDS_URL": "postgresql://u:hunter2@db/x",
    "PREFECT_API_KEY": "hunter2",
    "PREFECT_API_AUTH_STRING": "admin:hunter2",
    "PGPASSWORD": "hunter2",
    "SSH_AUTH_SOCK": "/hunter2",
    "WEB_PASSWORD": "hunter2",
    "AWS_SECRET_ACCESS_KEY": "hunter2",
    "https_proxy": "http://u:hunter2@proxy",
}


def test_a_command_gets_a_small_environment_and_what_its_owner_names(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in SECRETS.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setenv("LC_TIME", "C.UTF-8")
    told = command("env").message.splitlines()
    assert not [line for line in told if "hunter2" in line]
    assert {"LC_TIME=C.UTF-8", f"PATH={os.environ['PATH']}"} <= set(told)
    assert {line.split("=")[0] for line in told if line.startswith("FLEETPATCH_")} == {
        f"FLEETPATCH_{name}" for name in ("RUN", "HOOK", "PLACE", "SUBJECT", "MACHINE", "STATE", "REPORT")
    }

    monkeypatch.setenv("FLEETPATCH_HOOK_ENVIRONMENT", "WEB_PASSWORD  GONE")
    told = command("env").message.splitlines()
    assert [line for line in told if "hunter2" in line] == ["WEB_PASSWORD=hunter2"]


def test_a_stop_ends_a_command_before_and_not_one_after() -> None:
    control = Control()
    threading.Timer(0.3, lambda: control.stop("enough")).start()
    result = command("sleep 30", control=control)
    assert "enough" in result.message
    assert (result.ended_at - result.started_at).total_seconds() < 5

    assert command("true", control=control, place=AFTER).succeeded
    assert "not begun" in command("true", control=control).message


def test_a_command_prints_as_much_as_it_likes() -> None:
    result = command("sh -c 'yes fleet | head -c 3000000; printf \"\\377 end\"'")
    assert result.succeeded
    assert result.message.endswith("� end")
    assert len(result.message) <= 2000


def _gone(pid: int) -> bool:
    for _ in range(50):
        try:
            if Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "Z":
                return True
            os.kill(pid, 0)
        except (ProcessLookupError, FileNotFoundError):
            return True
        time.sleep(0.1)
    return False


class Site:
    """A web server that remembers what it was sent."""

    def __init__(self) -> None:
        self.seen: list[tuple[str, dict[str, str], bytes]] = []
        self.status, self.body, self.delay = 200, b"", 0.0
        self.headers: dict[str, str] = {}
        site = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers.get("Content-Length", "0")))
                site.seen.append((self.path, dict(self.headers), body))
                time.sleep(site.delay)
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
    control, stops = Control(), Stops()

    result = http(f"http://127.0.0.1:{site.port}/", control=control, stops=stops)

    assert result.succeeded
    assert "change freeze" in result.message
    assert control.reason == "change freeze in the shop (hook h)"
    assert stops.asked == [(REPORT.run.id, "hook h", "change freeze in the shop")]

    control = Control()
    http(f"http://127.0.0.1:{site.port}/", control=control, stops=Stops(RecordsError("away")))
    assert control.stopping


@pytest.mark.parametrize(
    "body", [b"", b"cancel", b"[]", b'{"cancel": ""}', b'{"cancel": false}', b"\xff{", b"[" * 9999]
)
def test_other_answers_cancel_nothing(site: Site, body: bytes) -> None:
    site.body = body
    control = Control()
    assert http(f"http://127.0.0.1:{site.port}/", control=control).succeeded
    assert not control.stopping


def test_nobody_there_is_tried_again_until_the_timeout(site: Site) -> None:
    port = site.port
    site.server.shutdown()
    site.server.server_close()

    result = http(f"http://127.0.0.1:{port}/", seconds=1.5)

    assert not result.succeeded
    assert 1 < (result.ended_at - result.started_at).total_seconds() < 4


def test_a_slow_answer_is_not_asked_for_twice(site: Site) -> None:
    site.delay = 1.2
    result = http(f"http://127.0.0.1:{site.port}/", seconds=0.5)
    assert not result.succeeded
    assert "longer than" in result.message
    time.sleep(1.2)
    assert len(site.seen) == 1


EVENTS: list[HookEvent] = []


def takes(event: HookEvent) -> str:
    EVENTS.append(event)
    return f"{len(event.machines)} machines"


def refuses(event: HookEvent) -> bool:
    return False


def raises(event: HookEvent) -> None:
    raise ValueError("not on a Friday")


def leaves(event: HookEvent) -> None:
    raise SystemExit(3)


def sleeps(event: HookEvent) -> None:
    time.sleep(2)


def python(name: str, **more: object) -> HookResult:
    return call(HookKind.PYTHON, f"{__name__}:{name}", **more)  # type: ignore[arg-type]  # the same words


def test_a_python_hook_is_called_with_the_event() -> None:
    EVENTS.clear()
    result = python("takes")
    assert (result.succeeded, result.message) == (True, "2 machines")
    assert (EVENTS[0].run_id, EVENTS[0].report) == (REPORT.run.id, REPORT)


@pytest.mark.parametrize(
    ("name", "message"), [("refuses", ""), ("raises", "not on a Friday"), ("leaves", "SystemExit"), ("gone", "gone")]
)
def test_a_python_hook_fails(name: str, message: str) -> None:
    result = python(name)
    assert not result.succeeded
    assert message in result.message


def test_a_python_hook_that_takes_too_long_has_failed() -> None:
    result = python("sleeps", seconds=0.3)
    assert not result.succeeded
    assert "longer than" in result.message
    assert "no module" in call(HookKind.PYTHON, "nowhere.to_be:found").message.lower()


def test_a_machines_command_has_no_place_here() -> None:
    hook = Hook("h", BEFORE, HookKind.MACHINE_COMMAND, "true")
    with pytest.raises(RequestError):
        hook_caller(CLOCK, Control(), Stops().ask)(hook, REPORT, "run", Deadline.after(CLOCK, 5))


def test_an_event_tells_what_it_is_about() -> None:
    now = REPORT.run.window.start - timedelta(minutes=40)  # type: ignore[union-attr]  # it has one
    until = Deadline(now + timedelta(minutes=20))
    (wave,) = REPORT.waves

    def told(place: HookPlace, subject: str, moment: timedelta = timedelta()) -> HookEvent:
        return event_of(Hook("h", place, HookKind.HTTP, "http://x/"), REPORT, subject, until, now + moment)

    before = told(BEFORE, "run")
    assert before.cancel_until == REPORT.run.window.start  # type: ignore[union-attr]
    assert told(BEFORE, "run", timedelta(minutes=50)).cancel_until == until.at
    assert before.state is None
    assert told(HookPlace.BEFORE_WAVE, f"wave {wave.number}").machines == wave.machines
    assert told(HookPlace.BEFORE_WAVE, "wave 77").machines == ()
    after = told(HookPlace.AFTER_MACHINE, "web-1")
    assert (after.machines, after.state, after.cancel_until) == (("web-1",), OperationState.SUCCEEDED, None)
    assert told(AFTER, "run").state is OperationState.FAILED
    assert after.as_json()["eventType"] == "fleetpatch.PostMaintenanceEvent"
    assert after.id != told(HookPlace.AFTER_MACHINE, "web-2").id
    assert make_outcome().machine == "web-1"
