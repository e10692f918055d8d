"""Automatic patching on real machines: in phases, the same versions everywhere, and a bad update stops where it is."""

import json
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from threading import Thread
from typing import Any

import pytest
import yaml

from flows.automatic.run_starter import PrefectRunStarter
from flows.automatic.tick import TickResult, run_tick
from flows.composition import read_credential
from flows.execution import execute_run
from flows.local_run import LocalRunner
from flows.ports.caller import Caller
from flows.request.automatic_request import AutomaticRequest
from flows.request.read_requests import AssessRequest
from tasks.domain.errors import PatchError
from tasks.domain.protocols.clock import SystemClock
from tasks.domain.run_errors import LeaseHeld
from tasks.domain.states import OperationState
from tasks.records.automatic.held_updates import SqlHeldUpdates
from tasks.records.automatic.rollouts import SqlRollouts, find_rollout_id
from tasks.records.queries.history import History
from tasks.records.setup import open_records
from tasks.rules.automatic.model import Rollout, RolloutState
from tests.lab.engine import Fleet
from tests.lab.fleet import LabHost
from tests.lab.security_repository import SecurityRepository
from tests.lab.test_scheduled import Planned
from tests.support.prefect_server import prefect_server, use_server

pytestmark = [pytest.mark.slow, pytest.mark.filterwarnings("ignore::DeprecationWarning")]  # of apprise, in its thread

Boot = Callable[[int], list[LabHost]]
PATIENCE = 300.0  # seconds for a run, on cores that others use
BAD = "echo 'lab-failing: cannot migrate data' >&2; exit 1"


class Mailbox(HTTPServer):
    """Receives what people are told."""

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Receiver)
        self.received: list[str] = []


class _Receiver(BaseHTTPRequestHandler):
    server: Mailbox

    def do_POST(self) -> None:
        self.server.received.append(self.rfile.read(int(self.headers.get("Content-Length", 0))).decode())
        self.send_response(200)
        self.end_headers()

    def log_message(self, format: str, *args: object) -> None:
        pass


@contextmanager
def mailbox() -> Iterator[Mailbox]:
    server = Mailbox()
    Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield server
    finally:
        server.shutdown()
        server.server_close()


@dataclass
class Automatic:
    """Six hosts, two in the canary location, and ticks of automatic patching over them.

    Attributes:
        began: when the off-peak hours begin, which last a day: a new night for every host.
    """

    plan: Planned
    mail: Mailbox
    began: datetime = field(default_factory=lambda: datetime.now(UTC))

    @property
    def request(self) -> AutomaticRequest:
        start = f"{self.began:%H:%M}"
        request = AutomaticRequest.model_validate(
            {
                "inventory": str(self.plan.fleet.inventory),
                "off_peak": {"start": start, "end": start, "window_minutes": 60},
                "phases": {"canary_locations": ["north"], "soak_hours": 0.002},
                "new_rollout_hours": 0.0005,
                "waves_percent": 100,
                "notify": [{"to": f"file:{self.plan.fleet.place / 'mail'}", "on": ["failed"]}],
            }
        )
        # files have minutes only; a night that begins in this second needs no wait for the next minute
        exact = {"start": self.began.time(), "end": self.began.time()}
        return request.model_copy(update={"off_peak": request.off_peak.model_copy(update=exact)})

    def configure(self) -> None:
        """Write the policy into the folder of configurations, as a person does."""
        self.plan.folder.mkdir(exist_ok=True)
        document = {"automatic": json.loads(self.request.model_dump_json(exclude_defaults=True))}
        document["automatic"]["off_peak"] |= dict.fromkeys(("start", "end"), f"{self.began:%H:%M}")
        (self.plan.folder / "automatic.yaml").write_text(yaml.safe_dump(document))

    def tick_by_deployment(self) -> None:
        """Let Prefect tick, as its schedule does."""
        client = self.plan.client
        deployment = client.read_deployment_by_name("patch-automatically/automatic")
        run = client.create_flow_run_from_deployment(deployment.id)
        is_over = lambda: (state := client.read_flow_run(run.id).state) is not None and state.is_final()  # noqa: E731
        self.plan.until(is_over, "the end of the tick")
        assert self.plan.state(run.id) == "Completed"

    def begin_night(self) -> None:
        """Let new off-peak hours begin: every host may have a turn again."""
        self.began = datetime.now(UTC)

    def tick(self) -> TickResult:
        while True:
            try:
                with use_server(self.plan.server.url, self.plan.server.home):
                    caller = Caller(records_url=self.plan.records_url)
                    return run_tick(self.request, caller, PrefectRunStarter(), SystemClock(), read_credential)
            except LeaseHeld:  # the schedule's own tick is at work
                time.sleep(1)

    def rollout(self, number: int) -> Rollout:
        with open_records(self.plan.records_url) as records:
            found = SqlRollouts(records.database).find(f"rollout-{number:04}")
        assert found is not None
        return found

    def has_become(self, number: int, state: RolloutState) -> bool:
        with open_records(self.plan.records_url) as records:
            found = SqlRollouts(records.database).find(f"rollout-{number:04}")
        return found is not None and found.state is state

    def tick_until(self, seen: Callable[[], Any], what: str) -> None:
        """Tick, as the schedule does, only more often, until something is seen."""
        end, refused = time.monotonic() + PATIENCE, ""
        while not seen():
            assert time.monotonic() < end, f"never seen: {what}: {refused} {self.explain()}"
            try:
                self.tick()
            except PatchError as error:  # a busy server refuses it: the next tick does what is left
                refused = str(error)
            time.sleep(1)

    def explain(self) -> str:
        result = self.tick()
        with open_records(self.plan.records_url) as records:
            runs = [(run.id, run.kind, run.state.value, run.message) for run in History(records).read_runs(20)]
        return f"{result.decision} {result.view.rollouts} {result.view.tries} {runs}"

    def assess(self) -> None:
        """Look at all hosts now, as a person may."""
        request = AssessRequest(scope="*", inventory=self.plan.fleet.inventory)
        execute_run(request, Caller(records_url=self.plan.records_url), lambda request, ports: LocalRunner())

    def held(self) -> set[tuple[str, str]]:
        with open_records(self.plan.records_url) as records:
            return {(each.name, each.version) for each in SqlHeldUpdates(records.database).read_held()}

    def succeeded(self, number: int) -> list[tuple[datetime, str]]:
        """Return which hosts a rollout has patched, and when their turns ended."""
        with open_records(self.plan.records_url) as records:
            history = History(records)
            reports = [history.read_report(run.id) for run in history.read_runs(50, kind="patch")]
        return sorted(
            (outcome.ended_at, outcome.machine)
            for report in reports
            if report.run.ended_at is not None and find_rollout_id(report.run) == f"rollout-{number:04}"
            for outcome in report.outcomes
            if outcome.state is OperationState.SUCCEEDED and outcome.ended_at is not None
        )


@contextmanager
def automatic(hosts: Boot, place: Path) -> Iterator[tuple[Automatic, SecurityRepository]]:
    fleet = Fleet(hosts(6), place)
    repository = SecurityRepository(fleet.hosts, place / "repository")
    repository.set_up()
    fleet.describe(every={"owner": "managed"})
    document = yaml.safe_load(fleet.inventory.read_text())
    for number, machine in enumerate(document["machines"]):
        machine["location"] = "north" if number < 2 else "south"
        machine["tags"] = {"cluster": "web"} if 2 <= number < 5 else {}
    document["sets"] = [{"name": "web", "scope": "tag.cluster=web"}]
    fleet.inventory.write_text(yaml.safe_dump(document))
    with mailbox() as mail, prefect_server(place / "prefect") as server, server.client() as client:
        (place / "mail").write_text(f"json://127.0.0.1:{mail.server_port}/")
        (place / "mail").chmod(0o600)
        plan = Planned(fleet, server, client, fleet.records_url)
        yield Automatic(plan, mail), repository


def versions(hosts: Mapping[str, LabHost], *names: str) -> dict[str, str]:
    return {name: hosts[name].package_versions("lab-plain").get("lab-plain", "") for name in names or hosts}


def test_a_fleet_patches_itself_in_phases_and_a_bad_update_stops_in_the_first_location(
    hosts: Boot, tmp_path: Path
) -> None:
    with automatic(hosts, tmp_path) as (fleet, repository):
        by_name = {host.name: host for host in fleet.plan.fleet.hosts}
        names = list(by_name)
        north, south, sleeper = names[:2], names[2:], names[5]
        repository.publish("lab-plain", "2.0")
        fleet.configure()
        fleet.plan.deploy()
        fleet.plan.work()

        # the first rollout: the canary location, and nobody else; one host is switched off after it was assessed
        fleet.assess()
        by_name[sleeper].off()
        fleet.tick_by_deployment()
        assert fleet.rollout(1).updates == {("lab-plain", "2.0")}
        assert [phase.locations for phase in fleet.rollout(1).phases] == [("north",), ("south",)]
        fleet.tick_until(lambda: fleet.rollout(1).phases[0].ended_at, "the end of the first phase")
        assert versions(by_name, *north) == dict.fromkeys(north, "2.0")
        awake = [name for name in south if name != sleeper]
        assert versions(by_name, *awake) == dict.fromkeys(awake, "1.0")

        # the second phase gets the same, although there is a newer version by then
        repository.publish("lab-plain", "3.0")
        repository.publish("lab-failing", "2.0", BAD)
        fleet.tick_until(lambda: len(fleet.succeeded(1)) == len(names) - 1, "the patched second location")
        assert versions(by_name, *awake) == dict.fromkeys(awake, "2.0")
        ends = [name for _, name in fleet.succeeded(1)]
        assert set(ends[:2]) == set(north)

        # who was off gets it in the next night
        by_name[sleeper].on()
        by_name[sleeper].wait_login()
        assert versions(by_name, sleeper) == {sleeper: "1.0"}
        fleet.begin_night()
        fleet.tick_until(lambda: len(fleet.succeeded(1)) == len(names), "the host that was off")
        assert versions(by_name, sleeper) == {sleeper: "2.0"}
        fleet.tick_until(lambda: fleet.has_become(1, RolloutState.COMPLETED), "the end of the first rollout")

        # a bad update fails in the canary location, and goes no further
        before = {name: by_name[name].dpkg_log() for name in south}
        fleet.assess()
        fleet.begin_night()
        fleet.tick_until(lambda: fleet.has_become(2, RolloutState.FAULTED), "the stop of the second rollout")
        assert fleet.rollout(2).updates == {("lab-plain", "3.0"), ("lab-failing", "2.0")}
        assert fleet.held() == {("lab-failing", "2.0")}
        assert {name: by_name[name].dpkg_log() for name in south} == before
        fleet.tick_until(lambda: any("rollout-0002 is faulted" in each for each in fleet.mail.received), "the mail")
        (told,) = [each for each in fleet.mail.received if "rollout-0002 is faulted" in each]
        assert "lab-failing=2.0" in told

        # the next one goes without it, to the hosts that lack the rest
        fleet.begin_night()
        fleet.tick_until(lambda: fleet.succeeded(3), "the third rollout")
        assert fleet.rollout(3).updates == {("lab-plain", "3.0")}
        done = [name for _, name in fleet.succeeded(3)]
        assert versions(by_name, *done) == dict.fromkeys(done, "3.0")
        assert {by_name[name].package_versions("lab-failing").get("lab-failing") for name in south} == {"1.0"}
