"""A run whose Prefect server, database or worker dies in the middle: machines don't notice, and nobody is told wrong.

Everything is real: machines, Prefect servers, PostgreSQL, a worker. The stories take long and wait most of the time, so
they are told side by side, but for two that share a server; each test asks what became of one.
"""

import contextlib
import json
import os
import signal
import subprocess
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor, wait
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from uuid import UUID

import pytest
from prefect import Flow, flow
from prefect.client.orchestration import SyncPrefectClient
from prefect.client.schemas.actions import WorkPoolCreate
from prefect.client.schemas.filters import FlowFilter, FlowFilterName, FlowRunFilter, FlowRunFilterTags

from flows.recovery.flow_runs import RESUME_DEPLOYMENT
from flows.recovery.unfinished_runs import find_abandoned_runs
from tasks.domain.model import RunReport
from tasks.domain.protocols.records import JournalEntry
from tasks.domain.states import OperationState
from tasks.records.setup import open_records
from tests.ci.tree import TOP
from tests.flows.prefect_view import Seen, artifacts, look
from tests.lab.engine import Fleet
from tests.lab.fleet import Lab, LabHost
from tests.lab.killing import (
    Controllers,
    configured,
    ended,
    hold,
    is_held,
    its_lease_is_over,
    let_go,
    set_slow,
    wait_for,
)
from tests.support.free_port import free_port
from tests.support.postgres import Server as Postgres
from tests.support.postgres import own_server
from tests.support.prefect_server import PrefectServer
from tests.support.prefect_tables import make_postgres_database

pytestmark = pytest.mark.slow

AWAY_SECONDS = 15  # a flow asks each five seconds whether its server is there, and waits ten for an answer
WAIT_SECONDS = 300.0  # beside other work; a run that waited for a server without end would take hours
STEPS = 5  # of a machine: assess, precheck, install, reboot (whether there is to be one), validate
ARTIFACTS = {f"fleetpatch-patch-{name}" for name in ("summary", "machines", "updates", "report")}
LIVE_ARTIFACTS = {f"fleetpatch-patch-{name}" for name in ("plan", "progress")}  # missing while no server answers

FLOW = """
import sys
from pathlib import Path
from flows.patch import patch_fleet
from flows.request.patch_request import PatchRequest
patch_fleet(PatchRequest.model_validate_json(Path(sys.argv[1]).read_text()))
"""
SETTING = "import flows.prefect_runtime.runner as runner; runner.DELIVERY_TIMEOUT_SECONDS = {}\n"
PATIENT_FLOW = SETTING.format(240.0) + FLOW  # a server on busy cores needs minutes to take in what it missed
IMPATIENT_FLOW = SETTING.format(20.0) + FLOW
Test = Callable[["Story"], None]


@dataclass
class PrefectFleet(Fleet):
    """A fleet whose records may be in a database that dies."""

    records: str = ""

    @property
    def records_url(self) -> str:
        return self.records or super().records_url


@dataclass
class Story:
    """Some hosts, a Prefect server of their own, and what became of the run over them.

    Attributes:
        code: exit code of the last process that carried the run out.
        reconciled: how the flow runs ended that looked for abandoned runs, and the one that took the run up.
        shown, artifacts: what Prefect showed of the run when that was over.
        ending_seconds: how long that process still took after everything that was to die had died.
    """

    fleet: PrefectFleet
    server: PrefectServer
    postgres: Postgres | None = None
    code: int | None = None
    reconciled: list[str] = field(default_factory=list)
    shown: Seen | None = None
    artifacts: set[str] = field(default_factory=set)
    ending_seconds: float = 0.0

    @property
    def place(self) -> Path:
        return self.fleet.place

    @property
    def reports(self) -> Path:
        return self.place / "data" / "fleetpatch" / "reports"

    def environment(self) -> Mapping[str, str]:
        return {"FLEETPATCH_RECORDS_URL": self.fleet.records_url, "XDG_DATA_HOME": str(self.place / "data")}

    def request(self) -> dict[str, Any]:
        self.fleet.describe()
        return {
            "scope": "*",
            "inventory": str(self.fleet.inventory),
            "updates": {"classifications": [], "include": ["lab-slow"]},
            "window": {"minutes": 30},
            "waves": {"size": 1},
            "reboot_reserve_minutes": 2,
            "settle_seconds": 0,
            "come_back_seconds": 2,
            "stage": False,
        }

    def start(self, code: str) -> "subprocess.Popen[bytes]":
        """Run that Python program, with the request for its argument, as a process that talks to the server."""
        request = self.place / "request.json"
        request.write_text(json.dumps(self.request()))
        log = self.place / f"process-{len(self.server.others)}.log"
        return self.server.run("-c", code, str(request), log=log, **self.environment())

    def wait_for(self, seen: Callable[[tuple[JournalEntry, ...]], bool], what: str) -> None:
        """Wait until the journal of the run shows something."""
        Controllers(self.fleet).wait_until(seen, what, WAIT_SECONDS)

    def lose_for_a_while(self, database: Postgres | None = None) -> None:
        """kill -9 of the server, and of a database; start them again."""
        self.server.kill()
        if database is not None:
            kill_whole(database)
        time.sleep(AWAY_SECONDS)
        if database is not None:
            database.start()
        self.server.start()

    def finish(self, process: "subprocess.Popen[bytes]") -> None:
        """Wait for the end of the process that carries the run out."""
        began_at = time.monotonic()
        self.code = process.wait(WAIT_SECONDS + AWAY_SECONDS)
        self.ending_seconds = time.monotonic() - began_at

    @property
    def report(self) -> RunReport:
        """The run, as the records have it."""
        return Controllers(self.fleet).newest()

    def look(self, tasks: int) -> None:
        """Keep what Prefect shows of the run, once it shows so many tasks."""
        flow_run = UUID(self.report.run.flow_run_id)
        with self.server.client():
            self.shown, self.artifacts = look(flow_run, tasks), set(artifacts(flow_run))

    def faults(self) -> list[str]:
        """What is wrong with machines, records and report files, whatever Prefect knows; [] when all is as planned."""
        report, found = self.report, []
        if report.run.state is not OperationState.SUCCEEDED:
            found.append(f"the run is {report.run.state}: {report.run.message}")
        told = {outcome.machine: outcome for outcome in report.outcomes}
        for host in self.fleet.hosts:
            if told[host.name].state is not OperationState.SUCCEEDED:
                found.append(f"{host.name} is {told[host.name].state}: {told[host.name].reason}")
            if configured(host) != {"lab-slow 2.0": 1} or host.sh("dpkg --audit", root=True).strip():
                found.append(f"{host.name} has configured {configured(host)}")
        written = {path.name for path in (self.reports / report.run.id).glob("*")}
        if not {"report.html", "report.json"} <= written:
            found.append(f"of the report there is {written}")
        return found


def kill_whole(postgres: Postgres) -> None:
    """kill -9 of a database server and of its processes, by their ids."""
    assert postgres.process is not None
    pid = postgres.process.pid
    children = [int(each) for each in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]
    for each in (pid, *children):
        with contextlib.suppress(ProcessLookupError):
            os.kill(each, signal.SIGKILL)
    postgres.process.wait()


def tell_of_a_server_and_database_that_die(story: Story) -> None:
    """In the middle; and the server alone again, at the end."""
    first, last = story.fleet.hosts
    hold([first])
    set_slow([last], 0)
    process = story.start(PATIENT_FLOW)
    wait_for(lambda: is_held(first), "the installation", WAIT_SECONDS)
    story.lose_for_a_while(story.postgres)
    let_go([first])
    story.wait_for(
        lambda entries: ended("install")(tuple(e for e in entries if e.machine == last.name)), "the last installation"
    )
    story.lose_for_a_while()
    story.finish(process)
    story.look(tasks=2 * STEPS + 1)
    story.server.kill()  # it would go on and take the processor's time from the other stories


def tell_of_a_server_that_never_comes_back(story: Story) -> None:
    hold(story.fleet.hosts[:1])
    set_slow(story.fleet.hosts[1:], 0)
    process = story.start(IMPATIENT_FLOW)
    wait_for(lambda: is_held(story.fleet.hosts[0]), "the installation", WAIT_SECONDS)
    story.server.kill()
    let_go(story.fleet.hosts[:1])
    story.finish(process)


def tell_of_a_worker_that_dies(story: Story) -> None:
    """The next worker has reconcile-fleet run, and that a flow that takes the run up."""
    hold(story.fleet.hosts[:1])
    set_slow(story.fleet.hosts[1:], 0)
    with story.server.client() as client:
        client.create_work_pool(WorkPoolCreate(name="lab", type="process"))
        killed = deploy("flows/patch.py:patch_fleet", "killed")
        deploy("flows/patch.py:resume_fleet", RESUME_DEPLOYMENT.rpartition("/")[2])
        reconcile = deploy("flows/reconcile.py:reconcile_fleet", "scheduled")
        client.create_flow_run_from_deployment(killed, parameters={"request": story.request()})
    words = ("-P", "-m", "deployments.worker.prefect_command", "worker", "start", "--pool", "lab", "--type", "process")
    worker = story.server.run(*words, log=story.place / "worker.log", **story.environment())
    wait_for(lambda: is_held(story.fleet.hosts[0]), "the installation", WAIT_SECONDS)
    worker.kill()
    with open_records(story.fleet.records_url) as records:
        lease = records.leases.find_lease(story.report.run.id)
    assert lease is not None
    assert lease.holder is not None
    os.kill(lease.holder.pid, signal.SIGKILL)
    let_go(story.fleet.hosts[:1])
    its_lease_is_over(Controllers(story.fleet))
    until = time.monotonic() + WAIT_SECONDS
    while not find_abandoned_runs(story.fleet.records_url):
        assert time.monotonic() < until, "the run is not left"
        time.sleep(1)
    next_worker = story.server.run(*words, log=story.place / "worker-2.log", **story.environment())
    with story.server.client() as client:
        story.reconciled.append(end_of(client, client.create_flow_run_from_deployment(reconcile).id))
        tag = FlowRunFilterTags(all_=[f"fleetpatch-run:{story.report.run.id}"])
        of_resumes = FlowFilter(name=FlowFilterName(any_=["resume-fleet"]))
        (resume,) = client.read_flow_runs(flow_filter=of_resumes, flow_run_filter=FlowRunFilter(tags=tag))
        story.reconciled.append(end_of(client, resume.id))
    story.look(tasks=4)  # as far as it had come: two assessed, one being installed
    os.killpg(next_worker.pid, signal.SIGKILL)


def deploy(entrypoint: str, name: str) -> UUID:
    """Deploy a flow of this checkout."""
    deployed = flow.from_source(source=str(TOP), entrypoint=entrypoint)
    assert isinstance(deployed, Flow)
    made = deployed.deploy(name, work_pool_name="lab", build=False, push=False, print_next_steps=False)
    assert isinstance(made, UUID)
    return made


def end_of(client: SyncPrefectClient, flow_run: UUID) -> str:
    """The name of the state in which a flow run has ended."""
    until = time.monotonic() + WAIT_SECONDS
    while True:
        state = client.read_flow_run(flow_run).state
        if state is not None and state.is_final():
            return state.name or ""
        assert time.monotonic() < until, f"{flow_run} is {state}"
        time.sleep(1)


Tell = Callable[[Story], None]


ABOUT: dict[str, Tell] = {}
"""Which story a test is about, by its name."""


def about(tell: Tell) -> Callable[[Test], Test]:
    """Say which story a test is about."""

    def marked(test: Test) -> Test:
        ABOUT[getattr(test, "__name__", "")] = tell
        return test

    return marked


@pytest.fixture(scope="module")
def stories(
    request: pytest.FixtureRequest, lab: Lab, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Mapping[Tell, Future[Story]]]:
    """The stories of the tests that were asked for."""
    asked = [ABOUT[test.name] for test in request.session.items if test.name in ABOUT]
    with ExitStack() as stack:
        made: dict[Tell, Story] = {}
        for tell in asked:
            hosts = lab.up(2)
            for host in hosts:
                stack.callback(host.drop)
            place = tmp_path_factory.mktemp(tell.__name__[8:])
            made[tell] = _story(stack, tell, hosts, place, [story.server for story in made.values()])
        pool = stack.enter_context(ThreadPoolExecutor(len(asked)))  # left first: no story goes on without its servers
        told: dict[Tell, Future[Story]] = {}
        for tell, story in made.items():
            before = [told[other] for other in told if made[other].server is story.server]
            told[tell] = pool.submit(_told, tell, story, before)
        yield told


def _story(stack: ExitStack, tell: Tell, hosts: list[LabHost], place: Path, servers: Sequence[PrefectServer]) -> Story:
    """Make what a story needs; one that only needs some server to lose takes that of the story before."""
    fleet, postgres, database = PrefectFleet(hosts, place), None, ""
    if tell is tell_of_a_server_that_never_comes_back and servers:
        return Story(fleet, servers[-1])
    if tell is tell_of_a_server_and_database_that_die:
        postgres = stack.enter_context(own_server())
        database = make_postgres_database(postgres)
        fleet.records = postgres.url("fleetpatch")
    server = PrefectServer(place / "prefect", free_port(), database)
    stack.callback(server.remove)
    return Story(fleet, server, postgres)


def _told(tell: Tell, story: Story, before: Sequence[Future[Story]]) -> Story:
    wait(before)
    if story.server.process is None:
        story.server.start()
    tell(story)
    return story


@pytest.fixture
def story(request: pytest.FixtureRequest, stories: Mapping[Tell, Future[Story]]) -> Story:
    """The story that the test is about, once it has been told."""
    return stories[ABOUT[request.node.name]].result()


def ends(seen: Seen) -> set[str]:
    """The states in which the steps of a flow run are shown."""
    return set(seen.tasks.values())


@about(tell_of_a_server_and_database_that_die)
def test_a_server_that_dies_with_its_database_in_the_middle_and_again_at_the_end_has_heard_all(story: Story) -> None:
    assert story.faults() == []
    assert story.code == 0
    told = story.report.run.message
    assert told == "" or told.startswith("Prefect did not receive some log lines (")  # which are not kept for long
    seen = story.shown
    assert seen is not None
    assert (seen.run.state_name, ends(seen)) == ("Completed", {"Completed"})
    assert len(seen.tasks) == 2 * STEPS + 1
    assert story.artifacts - LIVE_ARTIFACTS == ARTIFACTS


@about(tell_of_a_worker_that_dies)
def test_a_worker_that_dies_with_its_flow_is_followed_by_whoever_reconciles(story: Story) -> None:
    assert story.faults() == []
    assert story.reconciled == ["Completed"] * 2
    seen = story.shown
    assert seen is not None
    assert seen.run.state_name == "Completed"  # as its run did
    assert f"run {story.report.run.id} was resumed: Succeeded" in str(seen.run.state and seen.run.state.message)
    assert ends(seen) == {"Completed", "Crashed"}


@about(tell_of_a_server_that_never_comes_back)
def test_a_server_that_never_comes_back_is_done_without_and_told_of(story: Story) -> None:
    assert story.faults() == []
    run = story.report.run
    assert "did not receive the ends of up to " in run.message
    assert "how the flow run ended" in run.message
    for name in ("report.html", "report.json"):
        assert run.message in (story.reports / run.id / name).read_text()
    assert story.ending_seconds < WAIT_SECONDS
