"""Server-sent events: what happens in runs arrives, one reader serves all browsers, and no stream holds up the end."""

import re
import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, field, replace
from datetime import timedelta
from pathlib import Path

import httpx
import pytest
from playwright.sync_api import Browser, expect

from fleetpatch.live import live_runs, streams
from fleetpatch.live import live_runs as live_run
from fleetpatch.server import web_server
from fleetpatch.web import live_hub
from tasks.domain.errors import RecordsUnavailable
from tasks.domain.model import RunInfo
from tasks.domain.protocols.clock import SystemClock
from tasks.domain.protocols.leases import LeaseHolder
from tasks.domain.protocols.records import ProgressRow
from tasks.domain.states import OperationState
from tasks.records.run_progress import SqlRunProgress
from tasks.records.setup import open_records
from tasks.records.sql_records import SqlRecords
from tests.support import builders as make
from tests.support.browser import browser  # noqa: F401 - a fixture
from tests.support.web_process import web_process
from tests.support.web_site import START_SECONDS, Site, serve_site

SECONDS = 180.0  # of patience, on cores that others use
RUN = "live-1"


@dataclass
class Events:
    """The events of a stream that is read in a thread."""

    response: httpx.Response
    found: list[dict[str, str]] = field(default_factory=list)
    comments: int = 0
    is_over: bool = False

    def follow(self) -> None:
        event: dict[str, str] = {}
        try:
            for line in self.response.iter_lines():
                name, _, value = line.partition(":")
                if line.startswith(":"):
                    self.comments += 1
                elif line:
                    event[name] = f"{event[name]}\n{value[1:]}" if name in event else value[1:]
                elif event:
                    self.found.append(event)
                    event = {}
        except httpx.HTTPError:
            pass
        self.is_over = True

    def wait_for(self, name: str, text: str = "") -> dict[str, str]:
        """Wait for an event with a text, and return it."""
        until = time.monotonic() + SECONDS
        while time.monotonic() < until:
            for each in list(self.found):
                if each.get("event") == name and text in each.get("data", ""):
                    return each
            time.sleep(0.02)
        raise AssertionError(f"no event {name!r} with {text!r}: {self.found}")


@contextmanager
def listen(url: str, path: str) -> Iterator[Events]:
    with (
        httpx.Client(base_url=url, trust_env=False, timeout=httpx.Timeout(SECONDS)) as client,
        client.stream("GET", path) as response,
    ):
        assert response.status_code == 200
        assert response.headers["content-type"].startswith("text/event-stream")
        assert response.headers["cache-control"] == "no-store"
        events = Events(response)
        thread = threading.Thread(target=events.follow, daemon=True)
        thread.start()
        try:
            yield events
        finally:  # a close alone waits for the thread that reads
            with suppress(OSError):
                response.extensions["network_stream"].get_extra_info("socket").shutdown(socket.SHUT_RDWR)


def wait_until(condition: Callable[[], object]) -> None:
    until = time.monotonic() + SECONDS
    while not condition():
        assert time.monotonic() < until, "it did not happen"
        time.sleep(0.02)


@pytest.fixture
def site(tmp_path: Path) -> Iterator[Site]:
    with serve_site(tmp_path) as site:
        yield site


def begin_run(records: SqlRecords, run_id: str = RUN) -> RunInfo:
    """Record an assessment that is in progress."""
    now = SystemClock().now()
    run = make.make_run(
        id=run_id, kind="assess", window=None, state=OperationState.IN_PROGRESS, started_at=now, ended_at=None
    )
    records.save(run)
    tell(records, "", "", run_id)
    return run


def tell(records: SqlRecords, machine: str, message: str, run_id: str = RUN, step: str = "assess") -> None:
    now = SystemClock().now()
    SqlRunProgress(records.database).save(
        run_id, [ProgressRow(machine, step, "InProgress", None, message, now, now, None, 0)]
    )


def end_run(records: SqlRecords, run: RunInfo) -> None:
    outcome = make.make_outcome(machine="web-1", run_id=run.id, state=OperationState.SUCCEEDED)
    records.save(outcome)
    records.save(replace(run, state=OperationState.SUCCEEDED, ended_at=run.started_at + timedelta(seconds=5)))


def test_news_of_a_run_arrive_until_it_is_over(site: Site) -> None:
    run = begin_run(site.records)
    with listen(site.url, f"/live/runs/{RUN}") as events, listen(site.url, "/live/runs") as runs:
        first = events.wait_for("now")
        assert first["id"]
        runs.wait_for("runs", RUN)
        tell(site.records, "web-1", "<b>reading packages</b>")
        second = events.wait_for("now", "&lt;b&gt;reading packages")
        assert second["id"] != first["id"]
        events.wait_for("machines")
        runs.wait_for("runs", "&lt;b&gt;reading packages")
        end_run(site.records, run)
        events.wait_for("over")
        wait_until(lambda: events.is_over)
        runs.wait_for("runs", "No run is in progress")
        assert not runs.is_over


def test_what_a_browser_has_is_not_sent_again(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(live_hub, "HEARTBEAT_SECONDS", 0.3)
    begin_run(site.records)
    with listen(site.url, f"/live/runs/{RUN}") as events:
        version = events.wait_for("machines")["data"]
        wait_until(lambda: events.comments >= 2)
        count = len(events.found)
        wait_until(lambda: events.comments >= 6)
        assert len(events.found) == count
    with listen(site.url, f"/live/runs/{RUN}?seen={version}") as events:
        events.wait_for("now")
        wait_until(lambda: events.comments >= 2)
        assert [each for each in events.found if each.get("event") == "machines"] == []


def test_one_reader_serves_all_browsers_and_stops_after_the_last(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    reads: list[float] = []
    read = live_runs.read_live_runs

    def count(context: object) -> object:
        reads.append(time.monotonic())
        return read(context)  # type: ignore[arg-type]

    monkeypatch.setattr(live_runs, "read_live_runs", count)
    with ExitStack() as stack:
        streams = [stack.enter_context(listen(site.url, "/live/runs")) for _ in range(12)]
        for each in streams:
            each.wait_for("runs")
        assert site.context.live.stream_count == 12
        began, before = time.monotonic(), len(reads)
        wait_until(lambda: len(reads) >= before + 3)
        assert len(reads) - before <= 2 + (time.monotonic() - began) / live_hub.POLL_SECONDS
    wait_until(lambda: site.context.live.stream_count == 0)
    poller = site.context.live._poller
    wait_until(lambda: poller is None or poller.done())
    before = len(reads)
    time.sleep(2 * live_hub.POLL_SECONDS)
    assert len(reads) == before


def test_streams_are_limited(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(live_hub, "MAX_STREAMS", 2)
    with listen(site.url, "/live/runs") as one, listen(site.url, "/live/runs") as two:
        one.wait_for("runs")
        two.wait_for("runs")
        answer = site.get("/live/runs")
        assert answer.status_code == 503
        assert answer.headers["retry-after"] == "30"
    wait_until(lambda: site.context.live.stream_count == 0)
    with listen(site.url, "/live/runs") as one:
        one.wait_for("runs")


def test_a_killed_process_is_said_to_be_silent_and_then_dead(site: Site) -> None:
    """Its lease goes on for up to a minute after its death."""
    now = SystemClock().now()
    run = make.make_run(id=RUN, window=None, state=OperationState.IN_PROGRESS, started_at=now, ended_at=None)
    site.records.save(run)
    holder = LeaseHolder("x", "hilltop", 4711, "anne")
    site.records.leases.acquire(RUN, holder, 60)
    with listen(site.url, f"/live/runs/{RUN}") as events, listen(site.url, "/live/runs") as runs:
        assert "Nothing has been heard" not in events.wait_for("now")["data"]
        site.records.leases.acquire(RUN, holder, 25)  # as renewed 35 seconds ago
        for each in (events.wait_for("now", "Nothing has been heard"), runs.wait_for("runs", "Nothing has been heard")):
            assert "anne on hilltop, process 4711" in each["data"]
            assert "No process works" not in each["data"]
        site.records.leases.acquire(RUN, holder, -1)
        told = events.wait_for("now", "No process works on this run")["data"]
        assert "The last one was anne on hilltop, process 4711." in told
        assert "Nothing has been heard from it since" in told
        site.records.leases.acquire(RUN, holder, 60)  # resumed
        count = len(events.found)
        wait_until(lambda: len(events.found) > count)
        assert "No process works" not in events.found[-1]["data"]


def test_the_list_of_machines_is_loaded_again_when_a_step_begins(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(live_run, "LIST_SECONDS", 0.0)
    begin_run(site.records)
    with listen(site.url, f"/live/runs/{RUN}") as events:
        for step in ("assess", "install", "reboot"):
            count = sum(each.get("event") == "machines" for each in events.found)
            tell(site.records, "web-1", "", step=step)
            wait_until(lambda: sum(each.get("event") == "machines" for each in events.found) > count)  # noqa: B023
            assert f'"why">{step}' in site.get(f"/runs/{RUN}").text.replace("\n", "")


def test_old_news_are_said_to_be_old_while_the_records_are_gone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The folder of the records is away for some seconds. A browser that comes meanwhile waits for them, too."""
    monkeypatch.setattr(live_hub, "TROUBLE_SECONDS", 1.0)
    place, away = tmp_path / "place", tmp_path / "away"
    place.mkdir()
    with serve_site(place) as site, ExitStack() as stack:
        begin_run(site.records)
        events = stack.enter_context(listen(site.url, f"/live/runs/{RUN}"))
        events.wait_for("now")
        site.context.records.database.close()  # the next query opens the file
        place.rename(away)
        assert "as it was" in events.wait_for("trouble")["data"]
        late = stack.enter_context(listen(site.url, f"/live/runs/{RUN}"))
        assert "as it was" in late.wait_for("trouble")["data"]
        refused = site.get(f"/runs/{RUN}")
        assert refused.status_code == 503
        assert '<meta http-equiv="refresh"' in refused.text
        away.rename(place)
        wait_until(lambda: [each for each in events.found if each.get("event") == "trouble"][-1]["data"] == "")
        tell(site.records, "web-1", "meanwhile")
        for each in (events, late):
            each.wait_for("now", "meanwhile")


def test_a_stopped_browser_does_not_keep_its_place(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    """It reads nothing any more, and its connection stays: its computer sleeps, or it hangs."""
    monkeypatch.setattr(streams, "SEND_SECONDS", 1.0)
    numbers = iter(range(10**6))

    def read_part(context: object) -> live_hub.TopicPart:
        number = next(numbers)
        return live_hub.TopicPart(number, lambda: {"runs": f"{number} " + 4_000_000 * "x"})

    monkeypatch.setattr(streams, "read_live_part", read_part)
    host, port = site.url.removeprefix("http://").split(":")
    with socket.create_connection((host, int(port))) as stopped:
        stopped.sendall(b"GET /live/runs HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n")
        wait_until(lambda: site.context.live.stream_count == 1)
        wait_until(lambda: site.context.live.stream_count == 0)


def test_a_fault_of_the_records_ends_no_stream(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    read, is_away, has_failed = live_runs.read_live_runs, threading.Event(), threading.Event()

    def fail(context: object) -> object:
        if is_away.is_set():
            has_failed.set()
            raise RecordsUnavailable("away")
        return read(context)  # type: ignore[arg-type]

    monkeypatch.setattr(live_runs, "read_live_runs", fail)
    with listen(site.url, "/live/runs") as events:
        events.wait_for("runs", "No run")
        is_away.set()
        begin_run(site.records)
        assert has_failed.wait(SECONDS)
        is_away.clear()
        events.wait_for("runs", RUN)


def test_the_server_ends_soon_with_open_streams(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Neither because the server waits no longer for them, nor because each stream ends some day."""
    monkeypatch.setattr(web_server, "SHUTDOWN_SECONDS", 900)
    monkeypatch.setattr(live_hub, "MAX_STREAM_SECONDS", 900.0)
    with ExitStack() as stack:
        with serve_site(tmp_path) as site:
            streams = [stack.enter_context(listen(site.url, "/live/runs")) for _ in range(5)]
            for each in streams:
                each.wait_for("runs")
            began = time.monotonic()
        assert time.monotonic() - began < START_SECONDS
        wait_until(lambda: all(each.is_over for each in streams))


def test_a_browser_comes_back_after_the_pages_were_killed(
    tmp_path: Path,
    browser: Browser,  # noqa: F811
) -> None:
    """The page is never loaded again: the stream connects by itself, and shows what is true then."""
    url = f"sqlite:///{tmp_path / 'records.db'}"
    with (
        open_records(url) as records,
        web_process({"FLEETPATCH_RECORDS_URL": url}, tmp_path / "web.log") as web,
    ):
        run = begin_run(records)
        page = browser.new_page()
        page.goto(f"{web.url}/runs/{RUN}")
        page.evaluate("window.__notReloaded = true")
        tell(records, "web-1", "before")
        expect(page.locator("#live")).to_contain_text("before")
        web.kill()
        expect(page.locator("#live .connection")).to_contain_text("not connected")
        tell(records, "web-1", "meanwhile")
        web.start()
        began = time.monotonic()
        expect(page.locator("#live")).to_contain_text("meanwhile")
        assert time.monotonic() - began < web.scale(10.0)
        expect(page.locator("#live .connection")).to_have_text("")
        tell(records, "web-2", "after")
        expect(page.locator("#result")).to_contain_text("web-2")
        end_run(records, run)
        expect(page.locator("h1")).to_contain_text("Succeeded")
        assert page.locator("#live").count() == 0
        assert page.evaluate("window.__notReloaded") is True
        page.close()


def test_a_browser_whose_stream_is_refused_loads_the_page_again(
    site: Site,
    browser: Browser,  # noqa: F811
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The extension of htmx waits for up to a minute between two tries, and the news are old meanwhile."""
    monkeypatch.setattr(live_hub, "MAX_STREAMS", 0)
    begin_run(site.records)
    page = browser.new_page()
    page.goto(f"{site.url}/runs/{RUN}")
    expect(page.locator("#live .connection")).to_contain_text("not connected")
    tell(site.records, "web-1", "meanwhile")
    expect(page.locator("#live")).to_contain_text("meanwhile")
    monkeypatch.setattr(live_hub, "MAX_STREAMS", 100)
    expect(page.locator("#live .connection")).to_have_text("")
    page.close()


@pytest.mark.parametrize("path", ["/", f"/runs/{RUN}"])
def test_times_are_right_again_after_the_computer_of_the_browser_slept(
    site: Site,
    browser: Browser,  # noqa: F811
    path: str,
) -> None:
    """A browser's steady clock may stand still meanwhile."""
    begin_run(site.records)
    page = browser.new_page()
    page.goto(f"{site.url}{path}")
    page.evaluate("{ const now = performance.now.bind(performance); performance.now = () => now() - 3600000; }")
    began = SystemClock().now() - timedelta(minutes=2)
    row = ProgressRow("web-1", "install", "InProgress", None, "at work", began, began, None, 0)
    SqlRunProgress(site.records.database).save(RUN, [row])
    shown, right = page.locator("#live .working .clock").first, re.compile(r"^[2-9] min \d\d s$")
    expect(shown).to_have_text(right)
    expect(shown).not_to_have_text(shown.inner_text())  # it goes on
    expect(shown).to_have_text(right)
    page.close()
