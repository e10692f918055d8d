"""The flow that upgrades enrolled components by itself, on a real Prefect server with real records."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from prefect.client.schemas.objects import State, StateType

from fleetpatch.cli.runtime.run_session import run_request_in_session
from flows.component_upgrades import upgrade_components
from flows.engine.run_lease import build_component_lease
from flows.ports.caller import Caller
from flows.ports.ports import Ports
from tasks.domain.components import ComponentEnrolment, InstalledComponent
from tasks.domain.errors import PatchError
from tasks.domain.protocols.leases import LeaseHolder
from tasks.domain.states import OperationState
from tasks.records.components import SqlComponents
from tasks.records.queries.history import History
from tasks.records.setup import open_records
from tests.support.builders import make_assessment, make_package_state
from tests.support.component_fleet import ComponentFleet

pytestmark = [pytest.mark.slow, pytest.mark.usefixtures("prefect_server")]

COMPONENTS = """
components:
  - name: exporter
    kind: file
    system: linux
    version: {command: exporter --version}
    install: 'true'
    versions:
      - {version: 1.0.0, url: "https://x.test/1.0.0", sha256: "SUM"}
      - {version: 1.1.0, url: "https://x.test/1.1.0", sha256: "SUM"}
""".replace("SUM", "a" * 64)


class Enrolled:
    """Six machines that told version 1.0.0 of the exporter, which is enrolled on all of them."""

    def __init__(self, place: Path, url: str) -> None:
        self.url, self.components = url, ComponentFleet()
        fleet = self.components.fleet
        fleet.clock.advance((datetime.now(UTC) - fleet.clock.now()).total_seconds())
        self.inventory = place / "fleet.yaml"
        machines = [f"{{name: {one.name}, address: {one.name}, location: {one.location}}}" for one in fleet.described]
        self.inventory.write_text(f"machines: [{', '.join(machines)}]\n")
        (place / "components.yaml").write_text(f"canary_locations: [test]\n{COMPONENTS}")
        with open_records(url) as records:
            SqlComponents(records.database).enrol(ComponentEnrolment("exporter", "*", "anne", datetime.now(UTC)))
        self.tell("1.0.0")

    def tell(self, version: str | None) -> None:
        """Save an assessment of each machine with this version."""
        packages = make_package_state(components=() if version is None else (InstalledComponent("exporter", version),))
        with open_records(self.url) as records:
            for name in self.components.on:
                now = datetime.now(UTC)
                records.save(make_assessment(machine=name, at=now, run_id=f"a{now:%f}", packages=packages))

    @contextmanager
    def ports(self, _request: Any, who: Caller) -> Iterator[Ports]:
        with open_records(self.url) as records:
            yield replace(self.components.ports(), records=records, leases=records.leases, listener=who.listener)

    def tick(self) -> State[Any]:
        state: State[Any] = upgrade_components(inventory=self.inventory, return_state=True)
        return state


@pytest.fixture
def enrolled(tmp_path: Path, url: str, monkeypatch: pytest.MonkeyPatch) -> Enrolled:
    made = Enrolled(tmp_path, url)
    monkeypatch.setattr("flows.execution.open_ports", made.ports)
    monkeypatch.setattr(
        "flows.prefect_runtime.runner.find_report_directory", lambda asked: asked or tmp_path / "reports"
    )
    return made


def test_what_is_due_is_upgraded_in_its_flow_run_and_then_nothing_is_due(enrolled: Enrolled) -> None:
    state = enrolled.tick()
    assert state.is_completed(), state.message
    assert set(enrolled.components.versions.values()) == {"1.1.0"}
    with open_records(enrolled.url) as records:
        (run,) = History(records).read_runs(9, kind="patch")
    assert (run.state, run.flow_run_id) == (OperationState.SUCCEEDED, str(state.state_details.flow_run_id))
    assert enrolled.tick().message == "no enrolled component is due"


def test_a_machine_that_does_not_answer_is_not_tried_each_hour(enrolled: Enrolled) -> None:
    enrolled.components.fleet.machines["m1"].is_off = True
    enrolled.tick()
    assert enrolled.components.versions == {
        name: "1.0.0" if name == "m1" else "1.1.0" for name in enrolled.components.on
    }
    assert enrolled.tick().message == "no enrolled component is due"
    with open_records(enrolled.url) as records:
        assert len(History(records).read_runs(9, kind="patch")) == 1


def test_a_version_that_fails_is_not_tried_again_in_the_next_hour(enrolled: Enrolled) -> None:
    for machine in enrolled.components.on.values():
        machine.unhealthy.add(("exporter", "1.1.0"))
    assert enrolled.tick().is_failed()
    assert set(enrolled.components.versions.values()) == {"1.0.0"}
    assert enrolled.tick().message == "no enrolled component is due"


def test_a_component_without_an_answer_waits_for_the_next_assessment(enrolled: Enrolled) -> None:
    enrolled.tell(None)
    assert enrolled.tick().message == "no enrolled component is due"
    assert not any(machine.jobs for machine in enrolled.components.on.values())


def test_a_component_that_another_run_upgrades_has_no_turn(enrolled: Enrolled, monkeypatch: pytest.MonkeyPatch) -> None:
    with open_records(enrolled.url) as records:
        records.leases.acquire(build_component_lease("exporter"), LeaseHolder("t", "ctl-2", 1, "bert"), 60)
        assert enrolled.tick().message == "no enrolled component is due"
        monkeypatch.setattr("flows.component_upgrades._is_under_way", lambda *_: False)  # it was taken a moment later
        state = enrolled.tick()
        request = enrolled.components.request(inventory=enrolled.inventory)
        with pytest.raises(PatchError, match="bert on ctl-2"):  # and the command tells the same
            run_request_in_session(request, sorted(enrolled.components.on), as_flow=True, records=enrolled.url)
    assert state.type is StateType.CANCELLED
    assert "bert on ctl-2" in (state.message or "")
    assert set(enrolled.components.versions.values()) == {"1.0.0"}
