"""Deploying to a real Prefect server: what is there then, done twice, changed by hand, and when its runs start."""

import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from uuid import UUID

import pytest
from prefect.client.orchestration import SyncPrefectClient
from prefect.client.schemas.actions import WorkPoolUpdate
from prefect.client.schemas.filters import (
    DeploymentFilter,
    DeploymentFilterId,
    FlowRunFilter,
    FlowRunFilterState,
    FlowRunFilterStateType,
)
from prefect.client.schemas.objects import StateType
from prefect.client.schemas.responses import DeploymentResponse
from prefect.settings import PREFECT_API_URL, temporary_settings
from prefect.states import Cancelled, Scheduled

from deployments.configuration.loader import load_configurations
from deployments.worker.worker_process import supervise_worker
from flows.prefect_api.server_settings import TELEMETRY_OFF
from inventory.loader import load_inventory
from tasks.rules.calendar.schedule import iterate_occurrences
from tests.ci.tree import TOP
from tests.support.command import run_command
from tests.support.environment import without_ours
from tests.support.prefect_server import PrefectServer, prefect_server
from tests.unit.deployments.test_worker import POLITE, told_to_end_when_up

pytestmark = pytest.mark.slow

SCHEDULED_WITHIN = 60.0  # seconds; the scheduler looks for new deployments every five
NO_LIMIT = {"concurrency_limit": None}
MADE_AHEAD = 2  # it makes three, but looks no further than 100 days ahead
FLEET = """
machines:
  - {name: web-1, address: 192.0.2.11, environment: prod}
  - {name: web-2, address: 192.0.2.12, environment: prod}
"""
WINDOWS = {
    # beside the clocks' change in spring, where Prefect's own rule would start an hour early
    "night": "window: {start: 2026-12-05 02:30, length: 2h, zone: Europe/Berlin, recurrence: Day}",
    "patch-tuesday": "lead: 40\nwindow: {start: 2026-12-05 22:00, length: '01:55', zone: America/New_York, "
    "recurrence: Month Second Tuesday Offset20}",
    "careful": """
lead: 2h
approval: {required: true, not_by_starter: true}
hooks: {before_run: [{name: ask, kind: http, target: "https://hooks.example.org/before"}]}
notify: [{to: "env:PAGER"}]
freezes: [{date: 2026-12-24}]
window: {start: 2026-12-05 01:00, length: 2h, zone: UTC, recurrence: Day}""",
    "six-hours": "window: {start: 2026-12-05 02:30, length: 2h, zone: UTC, recurrence: 6Hours}",
    "weekend": "stage_ahead: 90\nwindow: {start: 2026-12-05 23:00, length: 3h, zone: Asia/Kathmandu, "
    "recurrence: '2Weeks Saturday,Sunday'}",
}


@dataclass
class Place:
    """A server, a folder of configurations, and the command.

    It is a process once, and where a process is the subject. Else it runs here: loading Prefect takes most of its time.
    """

    server: PrefectServer
    client: SyncPrefectClient
    folder: Path

    @property
    def words(self) -> list[str]:
        return ["deploy", str(self.folder / "configurations")]

    @property
    def environment(self) -> dict[str, str]:
        """Its records are its own: to record a policy in the default ones would stop runs of other tests."""
        return self.server.environment(FLEETPATCH_RECORDS_URL=f"sqlite:///{self.folder / 'records.db'}")

    def command_as_process(self, *words: str) -> "subprocess.CompletedProcess[str]":
        program = [sys.executable, "-m", "fleetpatch.cli.command", *self.words, *words]
        return subprocess.run(program, env=self.environment, cwd=TOP, capture_output=True, text=True, check=False)

    def command(self, *words: str) -> "subprocess.CompletedProcess[str]":
        return run_command([*self.words, *words], self.environment | {"COLUMNS": "160"}, TOP)

    def deploy(self, *words: str, code: int = 0) -> str:
        done = self.command(*words)
        assert done.returncode == code, done.stdout + done.stderr
        return done.stdout

    def differences(self) -> dict[str, Any]:
        """Return what --check finds, by name; nothing when all is as it should be."""
        done = self.command("--check", "--json")
        told = json.loads(done.stdout)
        assert (done.returncode == 0) is told["up_to_date"], done.stderr
        return {each["name"]: each for each in told["changes"] if each["doing"] != "keep"}

    def window(self, name: str) -> DeploymentResponse:
        return self.client.read_deployment_by_name(f"patch-fleet/{name}")

    def write(self, name: str, text: str) -> None:
        target = self.folder / "configurations" / f"{name}.yaml"
        target.write_text(f"name: {name}\nscope: env=prod\ninventory: {self.folder / 'fleet.yaml'}\n{text}\n")


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Place]:
    folder = tmp_path_factory.mktemp("deploy")
    (folder / "configurations").mkdir()
    (folder / "fleet.yaml").write_text(FLEET)
    with prefect_server(folder / "prefect") as server, server.client() as client:
        made = Place(server, client, folder)
        for name, text in [*WINDOWS.items(), ("practice", "window: {start: 2026-01-05, length: 1h, zone: UTC}")]:
            made.write(name, text)
        done = made.command_as_process("--yes")
        assert (done.returncode, "create" in done.stdout) == (0, True), done.stdout + done.stderr
        yield made


def test_deployed_twice_is_deployed_once(place: Place) -> None:
    assert place.differences() == {}
    before = place.window("night")
    said = place.deploy("--yes")
    assert "match the configurations" in said
    assert "practice, 2 machines: over, its last window has ended" in said
    assert (place.window("night").updated, place.window("practice").schedules) == (before.updated, [])


def test_the_policy_beside_the_configurations_is_recorded_until_it_is_removed(place: Place) -> None:
    policy = place.folder / "configurations" / "policy.yaml"
    assert "policy" not in place.command("--yes").stderr
    policy.write_text("policy: {rules: [{name: all, scope: '*', ask: us, forbid: [repair]}]}")
    checked = place.command("--check")
    assert (checked.returncode, "not the one that was deployed last" in checked.stderr) == (3, True), checked.stderr
    told = json.loads(place.command("--check", "--json").stdout)
    assert (told["up_to_date"], told["policy_recorded"]) == (False, False)
    assert f"must read this policy now, or begins no run: {policy}" in " ".join(place.command("--yes").stderr.split())
    assert place.command("--check").returncode == 0
    assert "policy" not in place.command("--yes").stderr
    policy.unlink()
    assert "held by none any more" in place.command("--yes").stderr


def test_each_window_is_a_deployment_that_takes_one_run_at_a_time(place: Place) -> None:
    deployment = place.window("patch-tuesday")

    assert deployment.entrypoint == "flows.patch.patch_fleet"  # from a checkout and from a wheel
    assert deployment.work_pool_name == "fleetpatch"
    assert deployment.global_concurrency_limit is not None
    assert deployment.global_concurrency_limit.limit == 1
    assert deployment.concurrency_options is not None
    assert deployment.concurrency_options.collision_strategy == "CANCEL_NEW"
    assert deployment.parameters["request"]["configuration"] == "patch-tuesday"
    assert "second Tuesday" in (deployment.description or "")
    assert deployment.parameter_openapi_schema is not None
    assert "request" in deployment.parameter_openapi_schema["properties"]


@pytest.mark.parametrize("name", sorted(WINDOWS))
def test_prefect_starts_runs_when_our_windows_want_it(place: Place, name: str) -> None:
    configurations = load_configurations(place.folder / "configurations", datetime.now(UTC).date()).all_configurations
    configuration = next(each for each in configurations if each.name == name)
    (opening,) = configuration.build_scheduled_requests(load_inventory(place.folder / "fleet.yaml"))
    lead = timedelta(minutes=configuration.lead_minutes)

    told = _scheduled(place, name)

    ours = [each.start - lead for each in iterate_occurrences(opening.schedule, datetime.now(UTC), limit=len(told))]
    assert told == ours


def test_what_is_to_be_installed_is_downloaded_ahead(place: Place) -> None:
    runs, downloads = _scheduled(place, "weekend"), _scheduled(place, "weekend", "stage-fleet")

    assert downloads == [run - timedelta(minutes=90) for run in runs[: len(downloads)]]


@pytest.fixture
def one_place(place: Place) -> Iterator[None]:
    """The pool has room for one run."""
    place.client.update_work_pool("fleetpatch", WorkPoolUpdate(concurrency_limit=1))
    yield
    place.client.request("PATCH", "/work_pools/{name}", path_params={"name": "fleetpatch"}, json=NO_LIMIT)


@pytest.mark.usefixtures("one_place")
def test_workers_take_windows_and_resumes_before_assessments_that_wait_longer(place: Place) -> None:
    """As Prefect's worker asks: for all queues of its pool. Runs that schedules make meanwhile are later than these."""
    all_machines = {"request": {"scope": "*"}}
    asked: dict[str, dict[str, Any]] = {"assess-fleet/on-demand": all_machines, "plan-fleet/on-demand": all_machines}
    asked |= {"resume-fleet/on-demand": {"run_id": "20261124-220003-4456bd"}, "patch-fleet/night": {}}
    now = datetime.now(UTC) - timedelta(minutes=30)
    runs = {
        name: place.client.create_flow_run_from_deployment(
            place.client.read_deployment_by_name(name).id,
            parameters=parameters,
            state=Scheduled(scheduled_time=now - timedelta(hours=age)),
        )
        for age, (name, parameters) in zip(range(4, 0, -1), asked.items(), strict=True)
    }
    taken = []
    for _ in runs:
        (answer,) = place.client.request(
            "POST",
            "/work_pools/{name}/get_scheduled_flow_runs",
            path_params={"name": "fleetpatch"},
            json={"scheduled_before": now.isoformat(), "work_queue_names": []},
        ).json()
        run = UUID(answer["flow_run"]["id"])
        taken.append(next(name for name, each in runs.items() if each.id == run))
        place.client.set_flow_run_state(run, Cancelled(), force=True)

    assess, plan, resume, window = asked
    assert taken == [resume, window, assess, plan]


def _scheduled(place: Place, name: str, flow: str = "patch-fleet") -> list[datetime]:
    """Return when the server's own scheduler has made runs for, which it does soon after a deployment."""
    deployment = place.client.read_deployment_by_name(f"{flow}/{name}")
    wanted = DeploymentFilter(id=DeploymentFilterId(any_=[deployment.id]))
    ahead = FlowRunFilter(state=FlowRunFilterState(type=FlowRunFilterStateType(any_=[StateType.SCHEDULED])))
    patience = time.monotonic() + SCHEDULED_WITHIN
    while True:
        runs = place.client.read_flow_runs(deployment_filter=wanted, flow_run_filter=ahead)
        if len(runs) >= MADE_AHEAD:
            assert all(run.auto_scheduled for run in runs)
            # Prefect's own kind of datetime loses its zone in sums.
            return sorted(
                datetime.fromtimestamp(run.expected_start_time.timestamp(), UTC)
                for run in runs
                if run.expected_start_time
            )
        assert time.monotonic() < patience, f"the scheduler made {len(runs)} runs for {name}"
        time.sleep(0.5)


def test_what_was_changed_by_hand_is_seen_and_mended(place: Place) -> None:
    place.client.pause_deployment(place.window("night").id)
    place.client.delete_deployment(place.window("weekend").id)
    (schedule,) = place.window("patch-tuesday").schedules
    place.client.update_deployment_schedule(place.window("patch-tuesday").id, schedule.id, active=False)
    (automation, *_) = place.client.read_automations()
    place.client.delete_automation(automation.id)

    seen = place.differences()

    assert {name: each["doing"] for name, each in seen.items()} == {
        "patch-fleet/night": "update",
        "patch-fleet/weekend": "create",
        "patch-fleet/patch-tuesday": "update",
        automation.name: "create",
    }
    assert seen["patch-fleet/night"]["differences"] == ["paused: true → false"]
    assert "active false → true" in seen["patch-fleet/patch-tuesday"]["differences"][0]
    place.client.update_work_pool("fleetpatch", WorkPoolUpdate(is_paused=True))
    said = place.command("--yes")  # a person's CI: what somebody paused stays so
    assert said.stdout.count("patch-fleet/weekend") == 1  # what is done is told once, with what is different about it
    assert "2 changes made." in said.stderr
    for kept in (
        "work pool fleetpatch",
        "deployment patch-fleet/night",
        f"schedule {schedule.slug} of patch-fleet/patch",
    ):
        assert f"stays paused, as somebody set in Prefect: {kept}" in said.stdout
    assert place.window("night").paused
    assert not place.window("patch-tuesday").schedules[0].active
    assert place.client.read_work_pool("fleetpatch").is_paused
    assert place.differences().keys() == {"patch-fleet/night", "patch-fleet/patch-tuesday", "fleetpatch"}
    place.deploy("--yes", "--unpause")
    assert place.differences() == {}
    assert not place.window("night").paused


def test_what_a_configuration_paused_runs_again_once_it_is_enabled(place: Place) -> None:
    night = WINDOWS["night"]
    try:
        place.write("night", f"enabled: false\n{night}")
        place.deploy("--yes")
        assert place.window("night").paused
    finally:
        place.write("night", night)
    assert "stays paused" not in place.deploy("--yes")
    assert not place.window("night").paused


def until(what: Callable[[], Any], seconds: float = 120.0) -> Any:
    patience = time.monotonic() + seconds
    while not (found := what()):
        assert time.monotonic() < patience
        time.sleep(0.2)
    return found


def children(process: int) -> list[int]:
    return [int(each) for each in Path(f"/proc/{process}/task/{process}/children").read_text().split()]


def is_there(process: int) -> bool:
    try:
        return Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False


def serving(place: Place, log: Path) -> "subprocess.Popen[bytes]":
    words = ("-m", "fleetpatch.cli.command", "deploy", str(place.folder / "configurations"), "--yes", "--serve")
    started = place.server.run(*words, log=log, **{**place.environment, **dict.fromkeys(TELEMETRY_OFF, "")})
    until(lambda: "started!" in log.read_text())
    return started


def test_a_killed_serve_leaves_no_worker_that_takes_runs_and_its_runs_go_on(place: Place, tmp_path: Path) -> None:
    flow = place.client.create_flow_from_name("takes-a-while")
    entrypoint = "tests.contract.long_flow.take_a_while"
    known = place.client.create_deployment(
        flow, "here", entrypoint=entrypoint, work_pool_name="fleetpatch", pull_steps=[], path=None
    )
    started = serving(place, tmp_path / "log")
    (worker,) = children(started.pid)
    parameters = {"folder": str(tmp_path)}
    run = place.client.create_flow_run_from_deployment(known, parameters=parameters)
    process = int(until(lambda: (tmp_path / "process").exists() and (tmp_path / "process").read_text()))
    environment = json.loads((tmp_path / "environment").read_text())
    assert {name: environment.get(name, "").lower() for name in TELEMETRY_OFF} == TELEMETRY_OFF

    started.kill()
    started.wait()
    later = place.client.create_flow_run_from_deployment(known, parameters={"folder": "/nowhere"})

    until(lambda: "The parent of this worker is gone" in (tmp_path / "log").read_text())
    assert is_there(process)
    (tmp_path / "may-end").touch()
    until((tmp_path / "over").exists)
    until(lambda: place.client.read_flow_run(run.id).state_type is StateType.COMPLETED)
    until(lambda: not is_there(worker))
    assert place.client.read_flow_run(later.id).state_type is StateType.SCHEDULED
    place.client.delete_deployment(known)


def test_serving_is_over_when_its_worker_is_told_to_end(
    place: Place, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The test sends SIGTERM to its own process. tests/unit/deployments/test_worker.py shows how a worker ends."""
    begun: list[Sequence[str]] = []

    def supervise(words: Sequence[str], environment: Mapping[str, str]) -> int:
        begun.append(words)
        told_to_end_when_up(tmp_path)
        here = f"import os, signal, sys; os.chdir({str(tmp_path)!r}); "
        ends = "signal.signal(signal.SIGTERM, lambda *_: sys.exit(0)); "
        return supervise_worker([sys.executable, "-c", here + ends + POLITE], environment)

    monkeypatch.setattr("deployments.worker.worker_process.supervise_worker", supervise)
    done = place.command("--yes", "--serve")

    assert done.returncode == 0, done.stderr
    assert "Stopped." in done.stdout + done.stderr
    ((*_, module, parent, pool, _name),) = begun
    assert (module, parent, pool) == ("deployments.worker.bound_worker", str(os.getpid()), "fleetpatch")


def test_a_server_that_is_not_there_is_told_with_its_remedy(place: Place) -> None:
    with temporary_settings({PREFECT_API_URL: None}):
        done = run_command([*place.words, "--check"], without_ours() | {"COLUMNS": "160"}, TOP)

    assert done.returncode == 5
    assert "PREFECT_API_URL is not set" in done.stderr
    assert "fleetpatch server" in done.stderr


def test_what_no_configuration_wants_any_more_is_removed_and_nothing_else(place: Place) -> None:
    """The last test of the file: it leaves nothing to deploy for the others."""
    flow = place.client.create_flow_from_name("somebody's")
    place.client.create_deployment(flow_id=flow, name="theirs", tags=["fleetpatch"])
    (place.folder / "configurations" / "weekend.yaml").unlink()
    try:
        gone = {"patch-fleet/weekend": "remove", "stage-fleet/weekend": "remove"}
        assert {name: each["doing"] for name, each in place.differences().items()} == gone
        assert "remove" not in place.deploy("--no-prune", "--check", code=0)
        place.deploy("--yes")
        names = {each.name for each in place.client.read_deployments()}
        assert names & {"night", "theirs", "weekend"} == {"night", "theirs"}
        place.deploy("--remove", "--check", code=3)
        assert place.deploy("--fleet", "other", "--remove", "--yes").startswith("Prefect has nothing of the fleet")
        place.deploy("--remove", "--yes")
        assert {each.name for each in place.client.read_deployments()} == {"theirs"}
        assert place.client.read_automations() == []
    finally:
        place.write("weekend", WINDOWS["weekend"])
