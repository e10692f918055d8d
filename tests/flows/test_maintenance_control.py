"""Looks of maintenance control on a real Prefect server: after the last day one run is started, and it applies all."""

from contextlib import nullcontext
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from prefect.client.orchestration import SyncPrefectClient
from prefect.client.schemas.filters import FlowRunFilter, FlowRunFilterTags
from prefect.client.schemas.objects import FlowRun

from deployments.maintenance.flow import control_maintenance
from deployments.maintenance.run_starter import MAINTENANCE_TAG
from flows.patch import patch_fleet
from flows.request.patch_request import PatchRequest
from tasks.domain.states import OperationState
from tasks.records.maintenance import SqlMaintenance
from tasks.records.queries.history import History
from tasks.records.setup import open_records
from tasks.rules.maintenance.model import PackageEnd
from tasks.rules.runs.approval import MAINTENANCE_STARTER
from tests.flows.served import Served
from tests.support.builders import make_assessment, make_package_state, make_update
from tests.support.fake_clock import FakeClock
from tests.support.fleet import SimFleet

pytestmark = [pytest.mark.slow, pytest.mark.usefixtures("prefect_server")]

CONFIGURATION = """
name: NAME
inventory: fleet.yaml
scope: "*"
updates: {classifications: [Critical, Security, Other]}
window: {start: 2026-01-03 22:00, length: 2h, zone: UTC, recurrence: Once}
maintenance: {hold: 35 days}
"""


@pytest.fixture
def group(tmp_path: Path, client: SyncPrefectClient) -> str:
    """A configuration of its own on the tests' server, deployed with no worker: what is started waits."""
    name = f"held-{abs(hash(tmp_path)):x}"
    (tmp_path / "fleet.yaml").write_text("machines: [{name: web, address: 192.0.2.1}]")
    (tmp_path / "held.yaml").write_text(CONFIGURATION.replace("NAME", name))
    client.create_deployment(client.create_flow(patch_fleet), name, tags=["fleetpatch"])
    return name


def look(place: Path, days_ago: int, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    with monkeypatch.context() as patch:
        clock = FakeClock(datetime.now(UTC) - timedelta(days=days_ago))
        patch.setattr("deployments.maintenance.flow.SystemClock", lambda: clock)
        return control_maintenance(place / "held.yaml")


def find_started(client: SyncPrefectClient, group: str) -> list[FlowRun]:
    runs = client.read_flow_runs(flow_run_filter=FlowRunFilter(tags=FlowRunFilterTags(all_=[MAINTENANCE_TAG])))
    return [run for run in runs if run.parameters["request"]["configuration"] == group]


def test_after_the_last_day_one_run_is_started_and_it_applies_all(
    group: str,
    now_fleet: SimFleet,
    served: Served,
    url: str,
    client: SyncPrefectClient,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    pending = make_package_state(updates=(make_update(name="a"),))
    with open_records(url) as records:
        records.save(make_assessment(machine="web", at=datetime.now(UTC) - timedelta(days=36), packages=pending))
    look(tmp_path, 35, monkeypatch)
    look(tmp_path, 1, monkeypatch)
    assert find_started(client, group) == []
    look(tmp_path, 0, monkeypatch)
    assert look(tmp_path, 0, monkeypatch) == []
    (started,) = find_started(client, group)
    asked = PatchRequest.model_validate(started.parameters["request"])
    assert asked.maintenance is not None
    assert asked.maintenance.application == f"{group}/1/overdue/1"

    with open_records(url) as records:
        ports = replace(now_fleet.ports(), records=records, leases=records.leases)
        monkeypatch.setattr("flows.execution.open_ports", lambda _, who: nullcontext(ports))
        ended = served.carried_out(started)

    assert ended.state is not None
    assert ended.state.is_completed(), ended.state
    assert now_fleet.machines["web"].world.whole() == {"a": "2.0"}
    look(tmp_path, 0, monkeypatch)
    with open_records(url) as records:
        (run,) = History(records).read_runs()
        record = SqlMaintenance(records.database).read_groups()[group]
    assert (run.state, run.started_by, run.flow_run_id) == (
        OperationState.SUCCEEDED,
        MAINTENANCE_STARTER,
        str(started.id),
    )
    assert record.state.package is None
    assert record.last_ended is not None
    assert record.last_ended.end is PackageEnd.APPLIED
    assert len(find_started(client, group)) == 1
