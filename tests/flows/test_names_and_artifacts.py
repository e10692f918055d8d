"""What people see of a run in Prefect while it goes on: its name, its plan, its progress, and links to the pages."""

import re
import time
from collections.abc import Callable
from typing import Any
from uuid import UUID

import pytest
from prefect.client.orchestration import SyncPrefectClient

from flows.assess import assess_fleet
from flows.flow_execution import build_flow_run_name
from flows.patch import patch_fleet
from flows.prefect_runtime import run_artifacts
from flows.request import AssessRequest, PatchRequest
from flows.request.patch_request import UpdatesRequest
from tests.flows.prefect_view import artifacts
from tests.support.fake_packages import FakePackage
from tests.support.fleet import SimFleet

pytestmark = pytest.mark.usefixtures("prefect_server")

WEB = "https://patches.example.org/fleet"


def wait_for(look: Callable[[], Any]) -> Any:
    until = time.monotonic() + 240
    while not (found := look()) and time.monotonic() < until:
        time.sleep(0.1)
    return found


def flow_run_of(state: Any) -> UUID:
    found = state.state_details.flow_run_id
    assert found is not None
    return UUID(str(found))


def test_a_run_and_its_waves_say_what_they_are(
    fleet: SimFleet, client: SyncPrefectClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FLEETPATCH_WEB_URL", f"{WEB}/")
    for name in ("web-1", "web-2", "web-3"):
        fleet.add(name, [FakePackage("a")])

    state = patch_fleet(fleet.request(waves={"size": 2}), return_state=True)

    flow_run_id = flow_run_of(state)
    (run,) = fleet.records.runs.values()
    expected = re.compile(rf"all machines \d{{4}}-\d\d-\d\d \d\d:\d\d {run.id}")
    named = wait_for(lambda: expected.fullmatch(client.read_flow_run(flow_run_id).name))
    assert named, client.read_flow_run(flow_run_id).name

    shown = wait_for(lambda: artifacts(flow_run_id).get("fleetpatch-patch-plan"))
    link = f"]({WEB}/runs/{run.id})\n"
    assert link in shown.data.partition("## Plan of run")[0]
    assert "approve" not in shown.data.lower()
    done = wait_for(
        lambda: (
            (found := artifacts(flow_run_id).get("fleetpatch-patch-progress")) and "3 of 3" in str(found.data) and found
        )
    )
    assert "| 1 | 2 | 0 | 2 Succeeded |" in done.data
    assert "| 2 | 1 | 0 | 1 Succeeded |" in done.data
    assert str(artifacts(flow_run_id)["fleetpatch-patch-summary"].data).startswith("[Open run ")


def test_an_assessment_says_its_scope(fleet: SimFleet, client: SyncPrefectClient, tmp_path: Any) -> None:
    fleet.add("web", [FakePackage("a")])
    state = assess_fleet(AssessRequest(scope="name=web"), return_state=True)
    (run,) = fleet.records.runs.values()
    flow_run_id = flow_run_of(state)
    assert wait_for(lambda: client.read_flow_run(flow_run_id).name == f"assess name=web {run.id}")


def test_a_run_of_some_machines_is_not_named_as_one_of_all(fleet: SimFleet, client: SyncPrefectClient) -> None:
    for name in ("web-1", "web-2", "db"):
        fleet.add(name, [FakePackage("a")])
    state = patch_fleet(fleet.request(only_machines=["web-1", "db"]), return_state=True)
    flow_run_id = flow_run_of(state)
    assert wait_for(lambda: client.read_flow_run(flow_run_id).name.startswith("name=web-1|db 20"))


def test_the_name_of_a_run_has_its_rollout_or_its_component() -> None:
    request = PatchRequest(
        scope="*", only_machines=["ber-1", "ber-2"], updates=UpdatesRequest(as_in_run="rollout:rollout-0007")
    )
    assert build_flow_run_name(request, "RUN", None) == "rollout-0007 name=ber-1|ber-2 RUN"
    upgrade = PatchRequest(scope="*", only_machines=["ber-1"], component="exporter")
    assert build_flow_run_name(upgrade, "RUN", None) == "exporter RUN"


def test_an_artifact_that_prefect_refuses_costs_the_run_nothing(
    fleet: SimFleet, monkeypatch: pytest.MonkeyPatch
) -> None:
    tried: list[str] = []

    def refuse(self: Any) -> None:
        tried.append(self._text)
        raise OSError("away")

    monkeypatch.setattr(run_artifacts.LiveArtifact, "_write", lambda self, _: refuse(self))
    fleet.add("web", [FakePackage("a")])
    state = patch_fleet(fleet.request(), return_state=True)
    assert state.is_completed(), state.message
    assert tried
    (run,) = fleet.records.runs.values()
    assert "did not receive" not in run.message
