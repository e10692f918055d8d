"""Every button of Prefect's UI, pressed in a real browser: what becomes of the run, its machines and its records.

The server, its pages, the runner and its processes are real; machines are simulated (served_on_fakes). What a button
sends at other stages of a run is sent in test_suspended.py and test_cancel_served.py.
"""

import json
import re
import sqlite3
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any
from uuid import UUID, uuid4

import pytest
from playwright.sync_api import Browser, BrowserContext, Page, Response
from playwright.sync_api import TimeoutError as PageTimeout
from prefect.client.orchestration import SyncPrefectClient
from prefect.client.schemas.actions import DeploymentScheduleCreate
from prefect.client.schemas.objects import FlowRun
from prefect.client.schemas.schedules import IntervalSchedule
from prefect.exceptions import ObjectNotFound

from tasks.domain.model import Outcome, RunInfo, RunReport
from tasks.domain.states import OperationState, UpdateState
from tasks.records.queries.history import History
from tasks.records.setup import open_records
from tasks.records.sql_records import SqlRecords
from tests.flows.served_on_fakes import NAMES, PLACE, fleet, machines_at
from tests.support.browser import browser
from tests.support.fleet import SimFleet, outcome_of
from tests.support.prefect_server import PrefectServer, prefect_server
from tests.support.sim_machine import Begun

__all__ = ["browser"]

pytestmark = pytest.mark.slow

PATIENCE = 300.0
ORDER_SECONDS, DONE_SECONDS, CLICK_SECONDS = 90.0, 20.0, 30.0  # SQLite waits for 60 s before it refuses a write
UPDATE_SECONDS = 1.0
SUCCEEDED, IN_PROGRESS = OperationState.SUCCEEDED, OperationState.IN_PROGRESS
CANCELLED, NOT_STARTED = OperationState.CANCELLED, OperationState.NOT_STARTED

ORDER = re.compile(r"^(DELETE|PATCH) |/(set_state|resume|create_flow_run|pause_deployment|resume_deployment)$")


def is_order(answer: Response) -> bool:
    """Return whether this answers what changes something: the pages also ask with POST."""
    return ORDER.search(f"{answer.request.method} {answer.url}") is not None


def until(seen: Callable[[], Any], what: str, seconds: float = PATIENCE) -> Any:
    """Wait for something, and return it."""
    found = wait(seen, seconds)
    assert found, f"never seen: {what}"
    return found


def wait(seen: Callable[[], Any], seconds: float) -> Any:
    """Wait for something, and return it, or what is false when it does not come in time."""
    end = time.monotonic() + seconds
    while not (found := seen()) and time.monotonic() < end:
        time.sleep(0.5)  # what it asks costs the server as much as a page does
    return found


@dataclass
class Place:
    """A browser, what it looks at, and what stands behind that."""

    server: PrefectServer
    client: SyncPrefectClient
    context: BrowserContext
    fleet: SimFleet
    records: SqlRecords
    path: str = ""
    page: Page = field(init=False)

    def renew(self) -> None:
        """Give all machines their old packages. The first machine installs its first update until a test ends that."""
        self.fleet.machines |= fleet(UPDATE_SECONDS).machines
        self.hold("first")

    def hold(self, name: str) -> None:
        """Let a machine install its first update until a test ends that."""
        self.fleet.machines[name].world[f"{name}-0"].seconds = 3600.0

    def let_it_end(self, name: str = "first") -> None:
        """Let a machine's first update end: what a test was to do while it is installed is done."""
        machine = self.fleet.machines[name]
        machine.world.end_update(machine, f"{name}-0")

    def wait_for_stop(self, name: str = "first") -> None:
        """Wait until a machine's job was asked to begin nothing more."""
        until(lambda: self.fleet.machines[name].stopped, "that the job is asked to stop")

    def deployment(self, name: str = "on-demand") -> UUID:
        return self.client.read_deployment_by_name(f"patch-fleet/{name}").id

    def choose_page(self, path: str) -> None:
        """Choose the page whose buttons are pressed next."""
        self.path = path

    @contextmanager
    def shown(self) -> Iterator[None]:
        """Show the page, and close it afterwards: it would keep the browser and the server busy.

        It is a new one each time: Prefect's page goes back to the one before it a while after something was deleted.
        """
        self.page = self.context.new_page()
        try:
            self.page.goto(self.server.url.removesuffix("/api") + self.path)
            yield
        finally:
            self.page.close()

    def press(self, name: str) -> None:
        """Press a button of the page."""
        self.page.get_by_role("button", name=re.compile(rf"^{name}\b")).first.click()

    def confirm(self) -> None:
        """Press the button with which a dialog does what it is for."""
        dialog = self.page.locator(".p-modal")
        dialog.locator("button").filter(has_text=re.compile(r"^\s*(?!Close\b)\w+")).last.click()

    def press_until(self, name: str, done: Callable[[], object]) -> None:
        """Press a button and confirm it, until something is done."""

        def act() -> None:
            self.press(name)
            self.confirm()

        self.again_until(act, done, name)

    def retry(self, run: UUID) -> None:
        """Press Retry on a run that is over, until it says so."""
        ended, said = self.state(run), "start a new run for what is left."
        self.press_until("Retry", lambda: self.state(run) != ended or said in self.message(run))
        until(lambda: said in self.message(run), "that it is over")

    def switch_off(self, done: Callable[[], object]) -> None:
        """Press the page's switch, until something is done."""

        def act() -> None:
            self.page.locator(".p-toggle, [role=switch]").first.click()

        self.again_until(act, done, "the switch")

    def again_until(self, act: Callable[[], None], done: Callable[[], object], what: str) -> None:
        """Do something as often as it takes: a busy SQLite refuses writes of the server, a notice hides a button.

        It waits for the answer before it leaves the page: to leave it would take the order back, and a second order
        for a run would make a second run.
        """
        end, heard = time.monotonic() + PATIENCE, list[str]()
        while not (heard and done()):
            assert not heard or time.monotonic() < end, f"{what} was pressed, and nothing came of it: {heard}"
            with self.shown():
                answer = self.answer_to(act)
            if wait(done, DONE_SECONDS if answer is not None and answer.ok else 0):
                return
            heard.append(f"{answer.status} {answer.url}" if answer is not None else "no answer")

    def answer_to(self, act: Callable[[], None]) -> Response | None:
        """Do something, and return what the server answered to its order; None: nothing in time."""
        with suppress(PageTimeout):
            with self.page.expect_response(is_order, timeout=ORDER_SECONDS * 1000) as answer:
                act()
            return answer.value
        return None

    def delete_until(self, done: Callable[[], object]) -> None:
        """Choose Delete from the page's menu and confirm it, until something is done."""

        def act() -> None:
            self.page.locator(".p-icon-button-menu button").first.click()
            self.page.get_by_text("Delete", exact=True).first.click()
            self.confirm()

        self.again_until(act, done, "Delete")

    def start(self, name: str = "on-demand") -> FlowRun:
        once = uuid4().hex  # the client asks again when a busy server answers late
        return self.client.create_flow_run_from_deployment(self.deployment(name), idempotency_key=once)

    def state(self, run: UUID) -> str:
        return str(self.client.read_flow_run(run).state_name)

    def message(self, run: UUID) -> str:
        state = self.client.read_flow_run(run).state
        return str(state.message) if state is not None else ""

    def ask(self, act: Callable[[], None]) -> FlowRun:
        """Ask for a flow run in the page, and return it."""
        known = {run.id for run in self.client.read_flow_runs()}
        asked: list[FlowRun] = []

        def look() -> bool:
            asked[:] = [run for run in self.client.read_flow_runs() if run.deployment_id and run.id not in known]
            return bool(asked)

        self.again_until(act, look, "what asks for a run")
        return asked[0]

    def quick_run(self) -> FlowRun:
        def act() -> None:
            self.press("Run")
            self.page.get_by_text("Quick run").click()
            self.confirm()

        self.choose_page(f"/deployments/deployment/{self.deployment()}")
        return self.ask(act)

    def custom_run(self, name: str) -> FlowRun:
        self.choose_page(f"/deployments/deployment/{self.deployment(name)}/run")
        return self.ask(lambda: self.press("Submit"))

    def knows(self, run: UUID) -> bool:
        """Return whether Prefect has a flow run still."""
        return run in {each.id for each in self.client.read_flow_runs()}

    def run_of(self, flow_run: UUID) -> RunInfo | None:
        return History(self.records).find_run_by_flow_run(str(flow_run))

    def report_of(self, flow_run: UUID) -> RunReport:
        run = self.run_of(flow_run)
        assert run is not None
        return History(self.records).read_report(run.id)

    def wait_for_work(self, name: str = "first") -> None:
        """Wait until a machine installs something."""
        until(lambda: self.installing(name), "an installation")

    def over(self, flow_run: UUID) -> RunReport:
        """Wait for the end of a flow run's run in our own records."""

        def look() -> bool:
            run = self.run_of(flow_run)
            return run is not None and run.state is not IN_PROGRESS

        until(look, "the end of the run in the records")
        return self.report_of(flow_run)

    def installing(self, name: str) -> list[Begun]:
        return [begun for begun in self.fleet.machines[name].begun() if begun.work == "install"]

    def begun(self) -> dict[str, int]:
        """Return how many transactions each machine has begun, those that only fetch among them."""
        return {name: len(self.fleet.machines[name].begun()) for name in NAMES}

    def unclaimed(self) -> bool:
        return all(self.fleet.machines[name].locked_by is None for name in NAMES)

    def tracebacks(self, run: UUID) -> list[str]:
        """What the log of a flow run shows of tracebacks."""
        with sqlite3.connect(self.server.home / "prefect.db") as database:
            found = database.execute("select message from log where flow_run_id = ?", (str(run),)).fetchall()
        return [text for (text,) in found if "Traceback" in text]


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory, browser: Browser) -> Iterator[Place]:
    home = tmp_path_factory.mktemp("buttons")
    made, url = fleet(UPDATE_SECONDS), f"sqlite:///{home / 'records.db'}"
    (home / "request.json").write_text(
        json.dumps(SimFleet().request(waves={"size": 1}, minutes=60).model_dump(mode="json"))
    )
    place, more = home / "machines", {"FLEETPATCH_RECORDS_URL": url, "XDG_DATA_HOME": str(home / "data")}
    with (
        prefect_server(home, ui=True) as server,
        machines_at(place, made),
        server.client() as client,
        open_records(url) as records,
    ):
        served = {PLACE: str(place), "PREFECT_RUNNER_POLL_FREQUENCY": "2", **more}
        server.run("-m", "tests.flows.served_on_fakes", log=home / "serve.log", **served)
        context = browser.new_context(viewport={"width": 1300, "height": 900})
        context.set_default_timeout(CLICK_SECONDS * 1000)
        context.set_default_navigation_timeout(PATIENCE * 1000)
        found = Place(server, client, context, made, records)
        until(lambda: offers(found, "other"), "the deployments")
        yield found
        context.close()


def offers(place: Place, name: str) -> bool:
    try:
        return bool(place.deployment(name))
    except ObjectNotFound:
        return False


@pytest.fixture
def place(whole: Place) -> Place:
    whole.renew()
    return whole


def test_quick_run_suspend_resume_cancel_retry_and_delete(place: Place) -> None:
    asked = place.quick_run().id
    place.wait_for_work()
    place.choose_page(f"/runs/flow-run/{asked}")

    place.press_until("Suspend", lambda: place.state(asked) == "Suspended")
    place.wait_for_stop()
    place.let_it_end()
    until(lambda: place.unclaimed() and "suspended" in place.report_of(asked).run.message, "that it was suspended")
    left = place.report_of(asked)
    assert [outcome.machine for outcome in left.outcomes] == ["first"]
    assert (left.run.state, place.state(asked)) == (IN_PROGRESS, "Suspended")
    begun = place.begun()
    # transactions: one that fetched, and the one that it was in
    assert begun == {"first": 2, "second": 0, "third": 0}

    place.hold("second")
    place.press_until("Resume", lambda: place.state(asked) != "Suspended")
    place.wait_for_work("second")
    assert place.begun() == begun | {"second": 2}

    place.press_until("Cancel", lambda: place.state(asked).startswith("Cancel"))
    place.wait_for_stop("second")
    place.let_it_end("second")
    until(lambda: place.state(asked) == "Cancelled", "Cancelled")
    ended = place.over(asked)
    assert (ended.run.id, ended.run.window, ended.run.state) == (left.run.id, left.run.window, CANCELLED)
    assert (outcome_of(ended, "first").state, outcome_of(ended, "third").state) == (SUCCEEDED, NOT_STARTED)
    assert place.begun() == begun | {"second": 2}
    assert place.unclaimed()

    place.retry(asked)
    assert place.state(asked) == "Cancelled"  # as it was, with something left undone
    assert place.begun() == begun | {"second": 2}
    assert place.tracebacks(asked) == []

    before = place.report_of(asked)
    place.delete_until(lambda: not place.knows(asked))
    assert place.report_of(asked) == before


def test_custom_run_retry_pause_and_delete_beside_a_run_that_works(place: Place) -> None:
    deployment = place.deployment("other")
    first = place.start("other").id
    place.wait_for_work()

    second = place.custom_run("other").id
    other = place.over(second)
    until(lambda: place.state(second) == "Completed", "Completed")
    assert outcome_of(other, "first").state is NOT_STARTED
    begun = place.begun()
    place.choose_page(f"/runs/flow-run/{second}")
    place.retry(second)
    assert place.state(second) == "Completed"
    assert place.tracebacks(second) == []
    assert place.begun() == begun

    every = IntervalSchedule(interval=timedelta(hours=3))
    made = DeploymentScheduleCreate(schedule=every, active=True)
    place.client._client.post(f"/deployments/{deployment}/schedules", json=[made.model_dump(mode="json")])
    place.choose_page(f"/deployments/deployment/{deployment}")
    place.switch_off(lambda: not place.client.read_deployment(deployment).schedules[0].active)
    assert place.state(first) == "Running"
    place.delete_until(lambda: not offers(place, "other"))
    assert place.state(first) == "Running"
    place.choose_page(f"/runs/flow-run/{first}")
    place.delete_until(lambda: not place.knows(first))

    place.let_it_end()
    one = place.over(first)
    assert one.run.id in outcome_of(other, "first").reason  # that run has the machine
    done = [outcome_of(other, "second"), *one.outcomes]
    assert [outcome.state for outcome in done] == [SUCCEEDED] * 3, [outcome.reason for outcome in done]
    for name in NAMES[:2]:
        both = (outcome_of(one, name), outcome_of(other, name))
        assert [_has_installed(outcome) for outcome in both].count(True) == 1
    assert [len(place.installing(name)) for name in NAMES[:2]] == [1, 1]  # each update is installed once
    # the first run's download for "second" had nothing to fetch
    assert place.begun() == {"first": 2, "second": 3, "third": 0}
    assert place.unclaimed()


def _has_installed(outcome: Outcome) -> bool:
    return any(each.state is UpdateState.INSTALLED and not each.reason for each in outcome.updates)
