"""Server, pages and worker are killed (-9) during one run, alone and together: the page is right again in seconds.

All are real processes but the machines, which live in the test. What they do is compared with what the page says, and
with what a browser has that was opened at the start and connects again, as htmx's extension does.
"""

import json
import re
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any

import httpx
import pytest
from prefect.client.orchestration import SyncPrefectClient
from prefect.client.schemas.objects import FlowRun
from prefect.exceptions import ObjectNotFound

from tasks.domain.states import UNFINISHED_RUN_STATES
from tasks.records.queries.history import History
from tasks.records.setup import open_records
from tests.flows.served_on_fakes import NAMES, PLACE, fleet, machines_at
from tests.support.fleet import SimFleet
from tests.support.patience import wait_until
from tests.support.prefect_forks import ForkedServer
from tests.support.prefect_server import PrefectServer, prefect_server
from tests.support.web_process import WebProcess, web_process

pytestmark = pytest.mark.slow

PATIENCE = 240.0
RIGHT_SECONDS = 15.0
"""How soon the page must be right, counted from when the pages answer again. Most of it is for busy cores."""
UPDATE_SECONDS = 25.0
SECOND_UPDATES = 24
"""Of the second machine: on busy cores, all the deaths take minutes, and the third must not have begun after them."""
Connect = Callable[[], httpx.Client]


@dataclass
class OpenPage:
    """A browser with the page of the run: its stream connects again a second after it has ended.

    Attributes:
        connections: the first one, and those after one that broke. The pages end a stream themselves each minute.
    """

    connect: Connect
    run_id: str
    now: str = ""
    connections: int = 0
    is_over: bool = False
    closing: threading.Event = field(default_factory=threading.Event)

    def follow(self) -> None:
        is_broken = True
        while not self.closing.is_set() and not self.is_over:
            try:
                with self.connect() as client, client.stream("GET", f"/live/runs/{self.run_id}") as answer:
                    self.connections += is_broken and answer.status_code == 200
                    is_broken = answer.status_code != 200
                    self._read(answer.iter_lines())
            except httpx.HTTPError:
                is_broken = True
            self.closing.wait(1.0)

    def _read(self, lines: Iterator[str]) -> None:
        for name, data in iterate_events(lines):
            self.now = data if name == "now" else self.now
            self.is_over = self.is_over or name == "over"
            if self.closing.is_set():
                return


def iterate_events(lines: Iterator[str]) -> Iterator[tuple[str, str]]:
    """Yield names and texts of server-sent events."""
    name, data = "", list[str]()
    for line in lines:
        key, _, value = line.partition(": ")
        if key == "event":
            name, data = value, []
        elif key == "data":
            data.append(value)
        elif not line and name:
            yield name, "\n".join(data)
            name = ""


@dataclass
class Place:
    """All that runs."""

    home: Path
    server: PrefectServer
    web: WebProcess
    fleet: SimFleet
    runner: ForkedServer | None = None
    run_id: str = ""

    @property
    def around(self) -> dict[str, str]:
        return {
            PLACE: str(self.home / "machines"),
            "PREFECT_RUNNER_POLL_FREQUENCY": "2",
            "FLEETPATCH_RECORDS_URL": f"sqlite:///{self.home / 'records.db'}",
            "XDG_DATA_HOME": str(self.home / "data"),
        }

    def connect(self) -> httpx.Client:
        return httpx.Client(base_url=self.web.url, trust_env=False, timeout=PATIENCE)

    def read_page(self) -> str:
        with self.connect() as client:
            answer = client.get(f"/runs/{self.run_id}")
        assert answer.status_code == 200, answer.text
        return answer.text

    def read_first_event(self) -> str:
        """The present state, from a stream that is opened now."""
        with self.connect() as client, client.stream("GET", f"/live/runs/{self.run_id}") as answer:
            return next(data for name, data in iterate_events(answer.iter_lines()) if name == "now")

    def find_installing(self) -> set[str]:
        """The machines that change something now, as they say."""
        now = self.fleet.clock.now()
        return {name for name, each in self.fleet.machines.items() if _is_changing(each.begun(), now)}

    def kill(self, *names: str) -> None:
        for name in names:
            if name == "server":
                self.server.kill()
            elif name == "web":
                self.web.kill()
            elif self.runner is not None:  # the processes that it has started go on
                self.runner.kill()
                self.runner.wait()

    def start_worker(self) -> None:
        self.runner = self.server.fork("tests.flows.served_on_fakes", log=self.home / "serve.log", **self.around)


def _is_changing(begun: list[Any], now: datetime) -> bool:
    return any(each.ended_at is None or each.ended_at > now for each in begun)


def find_shown(html: str) -> set[str]:
    """The machines that are being installed on, as the live part of the page says."""
    rows = re.findall(r'<tr>\s*<th scope="row"><a href="[^"]*">([^<]+)</a></th>\s*<td[^>]*><span[^>]*>install<', html)
    return set(rows)


@contextmanager
def opened(place: Place) -> Iterator[OpenPage]:
    page = OpenPage(place.connect, place.run_id)
    thread = threading.Thread(target=page.follow, daemon=True)
    thread.start()
    yield page
    page.closing.set()


@pytest.fixture
def place(tmp_path: Path) -> Iterator[Place]:
    made = fleet(UPDATE_SECONDS, SECOND_UPDATES)
    waves = {"size": 1, "at_once": 1}
    request = SimFleet().request(minutes=60, waves=waves).model_dump(mode="json")
    (tmp_path / "request.json").write_text(json.dumps(request))
    records = {"FLEETPATCH_RECORDS_URL": f"sqlite:///{tmp_path / 'records.db'}"}
    with (
        prefect_server(tmp_path) as server,
        machines_at(tmp_path / "machines", made),
        web_process({**records, "PREFECT_API_URL": server.url}, tmp_path / "web.log") as web,
    ):
        found = Place(tmp_path, server, web, made)
        found.start_worker()
        yield found


def begin_run(place: Place, client: SyncPrefectClient) -> FlowRun:
    """Start a run as people do in Prefect, and wait until a machine is being changed."""

    def find() -> Any:
        try:
            return client.read_deployment_by_name("patch-fleet/on-demand")
        except ObjectNotFound:
            return None

    wait_until(find, "the deployment", PATIENCE)
    flow_run = client.create_flow_run_from_deployment(find().id)
    wait_until(place.find_installing, "an installation", PATIENCE)
    with open_records(place.around["FLEETPATCH_RECORDS_URL"]) as records:
        place.run_id = History(records).read_runs(1)[0].id
    return flow_run


def check(place: Place, page: OpenPage, what: str, connections: int) -> None:
    """The page, a new stream and the open page say what the machines say.

    Args:
        place: where the run is.
        page: the open page.
        what: what was killed, for the message.
        connections: the open page's connections until now. What it shows without the newest one is of before.
    """

    def is_right() -> bool:
        truth = place.find_installing()
        shown = [find_shown(text) for text in (place.read_page(), place.read_first_event(), page.now)]
        return bool(truth) and place.find_installing() == truth and all(each == truth for each in shown)

    wait_until(place.find_installing, "an installation", PATIENCE)  # none goes on between two machines
    wait_until(lambda: page.connections == connections, f"connection {connections}", place.web.scale(RIGHT_SECONDS))
    wait_until(is_right, f"the page after the death of {what}", place.web.scale(RIGHT_SECONDS))


def test_the_page_is_right_again_whatever_is_killed(place: Place) -> None:
    with place.server.client() as client:
        flow_run = begin_run(place, client)
    with opened(place) as page:
        check(place, page, "nobody", 1)

        place.kill("web")
        place.web.start()
        check(place, page, "web", 2)

        # Prefect's runner ends its runs if its server is away for long, and on busy cores a start takes long: it dies
        # first. What it has started goes on.
        place.kill("worker")
        check(place, page, "worker", 2)
        place.kill("server")
        check(place, page, "server", 2)
        place.kill("web")
        place.web.start()
        place.server.start(wait=False)
        check(place, page, "web and server", 3)
        place.kill("server", "web")  # the server in the middle of its start; so none of the three is there
        place.web.start()
        place.server.start()
        place.start_worker()
        check(place, page, "all three", 4)
        assert page.connections == 4

        with open_records(place.around["FLEETPATCH_RECORDS_URL"]) as records:
            records.leases.request_stop(place.run_id, "anne", "enough")
            wait_until(lambda: "Cancelled by anne" in page.now, "the cancellation", place.web.scale(RIGHT_SECONDS))
            over = lambda: History(records).find_run(place.run_id).state not in UNFINISHED_RUN_STATES  # noqa: E731
            wait_until(over, "the end of the run", PATIENCE)
        wait_until(lambda: page.is_over, "the end on the open page", place.web.scale(RIGHT_SECONDS))
        shown = place.read_page()
        assert "sse-connect" not in shown
        assert "anne" in shown
        assert sum(shown.count(f">{name}</a></th>") for name in NAMES) == len(NAMES)
    with place.server.client() as client:
        is_ended = lambda: (state := client.read_flow_run(flow_run.id).state) is not None and state.is_final()  # noqa: E731
        wait_until(is_ended, "the end in Prefect", PATIENCE)
