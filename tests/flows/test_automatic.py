"""Ticks of automatic patching on a real Prefect server: what is started, once, and what a run does with its window."""

import functools
from collections.abc import Sequence
from contextlib import nullcontext
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from prefect.client.orchestration import SyncPrefectClient
from prefect.client.schemas.filters import FlowRunFilter, FlowRunFilterTags
from prefect.client.schemas.objects import FlowRun
from prefect.states import Cancelled
from prefect.utilities.callables import parameter_schema

from deployments.configuration.prefect_names import AUTOMATIC_NAME
from flows.assess import assess_fleet
from flows.automatic.flow import patch_automatically
from flows.automatic.run_starter import AUTOMATIC_TAG, PrefectRunStarter
from flows.composition import _build_freeze_source
from flows.engine.pinned_updates import find_pinned_updates
from flows.patch import patch_fleet
from flows.ports.caller import Caller
from flows.prefect_api.tags import MANAGED_TAG, build_configuration_tag
from flows.request.automatic_request import AutomaticRequest
from flows.request.patch_request import PatchRequest, UpdatesRequest, WindowRequest
from flows.request.request_parts import FreezeRequest
from tasks.domain.errors import PatchError, RequestError
from tasks.domain.protocols.clock import SystemClock
from tasks.domain.states import Classification, OperationState
from tasks.records.automatic.automatic_runs import SqlAutomaticRuns
from tasks.records.automatic.rollouts import SqlRollouts
from tasks.records.queries.history import History
from tasks.records.setup import open_records
from tasks.rules.automatic.model import Phase, Rollout
from tests.flows.served import Served
from tests.support.automatic_fleet import INVENTORY, NAMES
from tests.support.builders import make_assessment, make_package_state, make_update
from tests.support.fake_packages import FakePackage
from tests.support.fleet import SimFleet

pytestmark = [pytest.mark.slow, pytest.mark.usefixtures("prefect_server")]


@pytest.fixture
def deployed(client: SyncPrefectClient) -> None:
    """The deployments that `fleetpatch deploy` makes, with no worker: what is started waits."""
    for flow in (patch_fleet, assess_fleet):
        client.create_deployment(
            client.create_flow(flow),
            "on-demand",
            tags=["fleetpatch"],
            parameter_openapi_schema=parameter_schema(flow).model_dump(exclude_unset=True),
            enforce_parameter_schema=True,
        )


@pytest.fixture
def request_(tmp_path: Path, url: str) -> AutomaticRequest:
    """A policy whose off-peak hours are now, for machines that were assessed a moment ago."""
    (tmp_path / "fleet.yaml").write_text(INVENTORY)
    now = datetime.now(UTC)
    with open_records(url) as records:
        for name in NAMES:
            state = make_package_state(updates=(make_update(name=f"p-{tmp_path.parent.name}"),))
            records.save(make_assessment(machine=name, at=now, run_id="a", packages=state))
    begun = f"{now - timedelta(hours=2):%H:%M}"  # for 24 hours: at any time of day, enough of them is left
    return AutomaticRequest.model_validate(
        {"inventory": tmp_path / "fleet.yaml", "off_peak": {"start": begun, "end": begun}}
    )


def automatic_runs(client: SyncPrefectClient, *keys: str) -> Sequence[FlowRun]:
    """Return the flow runs that automatic patching has started with these keys."""
    found = client.read_flow_runs(flow_run_filter=FlowRunFilter(tags=FlowRunFilterTags(all_=[AUTOMATIC_TAG])))
    return [each for each in found if each.idempotency_key in {f"fleetpatch/automatic/{key}" for key in keys}]


@pytest.fixture
def own_keys(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Keys are unique in one database of records; this server has the runs of several tests."""
    start = PrefectRunStarter.start

    def started(self: PrefectRunStarter, deployment: str, key: str, name: str, request: Any) -> str:
        return start(self, deployment, f"{tmp_path}{key}", name, request)

    monkeypatch.setattr(PrefectRunStarter, "start", started)


@pytest.mark.usefixtures("deployed", "own_keys")
def test_ticks_start_a_run_once_and_it_patches_what_the_rollout_has(
    url: str, request_: AutomaticRequest, client: SyncPrefectClient, tmp_path: Path
) -> None:
    assert any(line.startswith("new rollout-0001 (1 update)") for line in patch_automatically(request_))
    lines = patch_automatically(request_)
    assert any(line.startswith("start: 2 machines (ber; phase 1 of rollout-0001)") for line in lines)
    patch_automatically(request_)
    with open_records(url) as records:
        (status,) = SqlAutomaticRuns(records.database).read_open(datetime.now(UTC))
    (run,) = automatic_runs(client, f"{tmp_path}{status.run.key}")
    assert str(run.id) == status.run.flow_run_id
    asked = PatchRequest.model_validate(run.parameters["request"])
    assert (asked.only_machines, asked.updates.as_in_run) == (["ber-1", "ber-2"], "rollout:rollout-0001")
    assert run.state is not None
    assert run.state.is_scheduled()
    # A person cancels it: it does not come again this night, and blocks nobody.
    client.set_flow_run_state(run.id, Cancelled(), force=True)
    patch_automatically(request_)
    with open_records(url) as records:
        assert SqlAutomaticRuns(records.database).read_open(datetime.now(UTC)) == ()
    assert len(automatic_runs(client, f"{tmp_path}{status.run.key}")) == 1


@pytest.mark.usefixtures("deployed", "own_keys")
def test_machines_that_were_never_assessed_are_asked(
    url: str, client: SyncPrefectClient, tmp_path: Path, request_: AutomaticRequest
) -> None:
    (tmp_path / "fleet.yaml").write_text("machines: [{name: new-1, address: 192.0.2.9, owner: managed}]")
    patch_automatically(request_)
    with open_records(url) as records:
        (status,) = SqlAutomaticRuns(records.database).read_open(datetime.now(UTC))
    (run,) = automatic_runs(client, f"{tmp_path}{status.run.key}")
    assert run.parameters["request"]["only_machines"] == ["new-1"]


def test_without_the_deployment_it_says_what_to_do(request_: AutomaticRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("flows.automatic.run_starter.PATCH_DEPLOYMENT", "patch-fleet/nowhere")
    with pytest.raises(RequestError, match="there is no deployment 'patch-fleet/nowhere'"):
        PrefectRunStarter().start("patch-fleet/nowhere", "k", "n", PatchRequest(scope="*"))


def test_a_server_that_is_down_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: Any) -> Any:
        raise ConnectionError

    monkeypatch.setattr("flows.prefect_api.flow_run_starter.find_fleet_deployment", refuse)
    with pytest.raises(PatchError, match="look for the deployment patch-fleet/on-demand: Prefect does not answer"):
        PrefectRunStarter().start("patch-fleet/on-demand", "k", "n", PatchRequest(scope="*"))


def rollout_run(url: str, opened: timedelta, minutes: float, *updates: tuple[str, str]) -> PatchRequest:
    now = datetime.now(UTC)
    with open_records(url) as records:
        SqlRollouts(records.database).save(Rollout("r1", now, frozenset(updates), (Phase(1, ("",)),)))
    return PatchRequest(
        scope="*",
        updates=UpdatesRequest(as_in_run="rollout:r1"),
        window=WindowRequest(start=now - opened, minutes=minutes),
    )


def test_a_run_that_starts_late_uses_what_is_left_of_its_window(
    now_fleet: SimFleet, served: Served, url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    security = Classification.SECURITY
    frozen, newer = FakePackage("a", classification=security), FakePackage("b", classification=security)
    now_fleet.add("db", [frozen, newer])
    request = rollout_run(url, timedelta(minutes=30), 120, ("a", frozen.available), ("b", "1.5"))
    with open_records(url) as records:
        find = functools.partial(find_pinned_updates, History(records))
        ports = replace(now_fleet.ports(), find_pinned_updates=find)
        monkeypatch.setattr("flows.execution.open_ports", lambda _, who: nullcontext(ports))
        run = served.started(request)
    assert run.state is not None
    assert run.state.is_completed(), run.state
    assert (frozen.installed, newer.installed) == ("2.0", "1.0")


def test_a_run_that_starts_past_its_window_is_refused(now_fleet: SimFleet, served: Served, url: str) -> None:
    run = served.started(rollout_run(url, timedelta(minutes=110), 120))  # 15 minutes are kept for a reboot
    assert run.state is not None
    assert "window missed" in (run.state.message or "")
    with open_records(url) as records:
        (known,) = History(records).read_runs()
    assert (known.state, known.flow_run_id) == (OperationState.NOT_STARTED, str(run.id))
    assert run.name.endswith(f" {known.id}")  # not a name that Prefect made up


def test_a_run_of_a_rollout_sees_freezes_that_were_declared_after_it_began(
    client: SyncPrefectClient, url: str, tmp_path: Path
) -> None:
    freeze = FreezeRequest(start=datetime.now(UTC), end=datetime.now(UTC) + timedelta(hours=1), reason=tmp_path.name)
    request = AutomaticRequest(freezes=[freeze]).model_dump(mode="json", exclude_defaults=True)
    tags = [MANAGED_TAG, build_configuration_tag(AUTOMATIC_NAME)]
    client.create_deployment(
        client.create_flow(patch_automatically), f"a-{tmp_path.name}", parameters={"request": request}, tags=tags
    )
    run = PatchRequest(scope="*", updates=UpdatesRequest(as_in_run="rollout:r1"))
    found = _build_freeze_source(run, Caller(), SystemClock())()
    assert freeze.to_freeze("UTC") in found
    assert _build_freeze_source(PatchRequest(scope="*"), Caller(), SystemClock())() == ()
