"""Cancelling from Prefect as its users do: a real server, `fleetpatch deploy --serve`, and real machines."""

import os
import signal
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from uuid import UUID

import pytest
from prefect.client.orchestration import SyncPrefectClient
from prefect.client.schemas.filters import (
    FlowRunFilter,
    FlowRunFilterName,
    FlowRunFilterTags,
    LogFilter,
    LogFilterFlowRunId,
)
from prefect.client.schemas.objects import FlowRun
from prefect.exceptions import ObjectNotFound
from prefect.states import Cancelling

from tasks.domain.model import RunReport
from tasks.domain.states import OperationState
from tasks.records.setup import open_records
from tests.flows.prefect_view import artifacts, look
from tests.lab.conftest import hosts, lab  # noqa: F401 - fixtures
from tests.lab.engine import Fleet
from tests.lab.fleet import LabHost
from tests.lab.killing import Controllers, configured, hold, let_go, set_slow
from tests.support.patience import wait_until
from tests.support.prefect_server import PrefectServer, prefect_server, use_server

pytestmark = [pytest.mark.lab, pytest.mark.slow]

START_SECONDS = 240  # of patience, on cores that others use
NO_WINDOW = """
name: forms
enabled: false
scope: "*"
inventory: {inventory}
window: {{start: 2026-12-05 22:00, length: 2h, zone: UTC, recurrence: Day}}
"""
GRACE_SECONDS = 30  # that Prefect gives a cancelled flow


@dataclass
class ServedFleet(Fleet):
    """A fleet with an inventory of its own, in records that all tests share."""

    records: str

    @property
    def records_url(self) -> str:
        return self.records


@dataclass
class Served:
    """A Prefect server, a process that serves the deployments, and a fleet for them."""

    fleet: ServedFleet
    server: PrefectServer
    client: SyncPrefectClient

    @property
    def controllers(self) -> Controllers:
        return Controllers(self.fleet)

    def patch(self) -> UUID:
        """Start to patch the fleet from the deployment, and wait until something is being installed."""
        self.fleet.describe()
        deployment = until(lambda: self.client.read_deployment_by_name("patch-fleet/on-demand"), "the deployment")
        request: dict[str, Any] = {
            "scope": "*",
            "inventory": str(self.fleet.inventory),
            "updates": {"classifications": [], "include": ["lab-slow"]},
            "waves": {"size": 1},
            "reboot_reserve_minutes": 2,
            "stage": False,
        }
        run = self.client.create_flow_run_from_deployment(deployment.id, parameters={"request": request})
        self.controllers.wait_for_dpkg(START_SECONDS)
        return run.id

    def state(self, run: UUID) -> str:
        found = self.client.read_flow_run(run).state
        return str(found.name) if found is not None else ""

    def successor(self) -> FlowRun:
        """Wait until the flow run that went on with the newest run is over. Both flow runs have the tag of the run."""
        run = self.controllers.newest().run.id
        resumed = FlowRunFilter(
            tags=FlowRunFilterTags(all_=[f"fleetpatch-run:{run}"]), name=FlowRunFilterName(any_=[f"resume {run}"])
        )

        def look() -> FlowRun | None:
            (made,) = self.client.read_flow_runs(flow_run_filter=resumed)
            return made if made.state is not None and made.state.is_final() else None

        found: FlowRun = until(look, "the end of the flow run that goes on")
        return found

    def log(self, run: UUID) -> str:
        """Return the log of a flow run that Prefect's page shows."""
        logs = self.client.read_logs(LogFilter(flow_run_id=LogFilterFlowRunId(any_=[run])), limit=200)
        return "\n".join(line.message for line in logs)

    def ended(self) -> RunReport:
        """Wait until the run's record is finished."""
        over = lambda: self.controllers.newest().run.state is not OperationState.IN_PROGRESS  # noqa: E731
        until(over, "the end of the record")
        return self.controllers.newest()


def until(seen: Callable[[], Any], what: str, seconds: float = START_SECONDS) -> Any:
    """Wait for something that is not there yet."""

    def look() -> Any:
        try:
            return seen()
        except ObjectNotFound:
            return None

    return wait_until(look, what, seconds)


@pytest.fixture(scope="module")
def serving(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[str, PrefectServer, SyncPrefectClient]]:
    """A server and a worker of the deployments, for all tests: both take long to start. And their records."""
    place = tmp_path_factory.mktemp("cancel-served")
    records = f"sqlite:///{place / 'records.db'}"
    with prefect_server(place) as server, server.client() as client:
        ours = {"FLEETPATCH_RECORDS_URL": records, "XDG_DATA_HOME": str(place / "data")}
        (place / "fleet.yaml").write_text("machines: [{name: other, address: 192.0.2.1}]\n")  # each run names its own
        configuration = place / "configurations.yaml"
        configuration.write_text(NO_WINDOW.format(inventory=place / "fleet.yaml"))
        words = ("-m", "fleetpatch.cli.command", "deploy", str(configuration), "--yes", "--serve")
        server.run(*words, log=place / "serve.log", **ours)
        yield records, server, client


@pytest.fixture
def served(
    hosts: Callable[[int], list[LabHost]],  # noqa: F811 - the fixture
    serving: tuple[str, PrefectServer, SyncPrefectClient],
    tmp_path: Path,
) -> Served:
    records, server, client = serving
    return Served(ServedFleet(hosts(2), tmp_path, records), server, client)


def test_a_transaction_that_outlasts_prefects_grace_is_seen_to_its_end(served: Served) -> None:
    one, two = served.fleet.hosts
    hold([one, two])
    run = served.patch()
    served.client.set_flow_run_state(run, Cancelling())

    until(lambda: served.state(run) == "Cancelled", "Cancelled", GRACE_SECONDS + START_SECONDS)
    assert served.controllers.newest().run.state is OperationState.IN_PROGRESS  # its process is gone, the job is not
    let_go([one, two])
    report = served.ended()
    second = served.successor()

    assert f"goes on in the flow run {second.name!r}" in served.log(run)
    assert f"run {report.run.id} is finalized: " in served.log(second.id)
    assert served.state(run) == "Cancelled"
    outcomes = {outcome.machine: outcome for outcome in report.outcomes}
    assert outcomes[one.name].state is OperationState.SUCCEEDED, outcomes[one.name].reason
    assert outcomes[two.name].state is OperationState.NOT_STARTED
    assert "asked to stop" in outcomes[two.name].reason
    assert (configured(one), configured(two)) == ({"lab-slow 2.0": 1}, {})
    assert one.sh("dpkg --audit", root=True).strip() == ""


def test_a_transaction_that_ends_in_time_is_recorded_by_the_run_itself(served: Served) -> None:
    one, two = served.fleet.hosts
    hold([one, two])
    run = served.patch()
    served.client.set_flow_run_state(run, Cancelling())
    served.controllers.wait_for_lease(lambda lease: lease.stop is not None, "the request to stop", START_SECONDS)
    let_go([one, two])

    until(lambda: served.state(run) == "Cancelled", "Cancelled", GRACE_SECONDS + START_SECONDS)
    report = served.controllers.newest()  # no wait: it is there by then

    assert report.run.state is OperationState.CANCELLED
    assert {outcome.machine: outcome.state for outcome in report.outcomes} == {
        one.name: OperationState.SUCCEEDED,
        two.name: OperationState.NOT_STARTED,
    }
    assert (configured(one), configured(two)) == ({"lab-slow 2.0": 1}, {})


def test_a_process_that_dies_without_a_word_is_followed_by_another_that_goes_on(served: Served) -> None:
    one, two = served.fleet.hosts
    set_slow([one, two], 5)
    run = served.patch()
    with open_records(served.fleet.records_url) as records:
        lease = records.leases.find_lease(served.controllers.newest().run.id)
    assert lease is not None
    assert lease.holder is not None
    os.kill(lease.holder.pid, signal.SIGKILL)

    report = served.ended()
    second = served.successor()

    assert report.run.state is OperationState.SUCCEEDED, [outcome.reason for outcome in report.outcomes]
    assert f"goes on in the flow run {second.name!r}" in served.log(run)
    assert "waiting until its lease expires" in served.log(second.id)
    assert f"{two.name}: validate Succeeded" in served.log(second.id)
    assert (served.state(run), second.state_name) == ("Completed", "Completed")
    with use_server(served.server.url, served.server.home):
        assert "**The run is over: Succeeded**" in str(artifacts(run)["fleetpatch-patch-progress"].data)
        assert "Running" not in look(run, 0).tasks.values()
    assert configured(one) == configured(two) == {"lab-slow 2.0": 1}
