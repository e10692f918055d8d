"""Freezes that are deployed while a run goes on: read from the configuration's deployments on a real server."""

import asyncio
from collections.abc import Sequence
from contextlib import nullcontext
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID, uuid4

import pytest
from prefect.client.orchestration import get_client

from flows.composition import open_ports
from flows.patch import patch_fleet
from flows.ports.caller import Caller
from flows.prefect_api.deployment_changes import RETRY_INTERVAL, DeclaredFreezes
from flows.prefect_api.tags import MANAGED_TAG, build_configuration_tag, build_fleet_tag
from flows.request.patch_request import PatchRequest
from flows.request.request_parts import FreezeRequest
from tasks.domain.protocols.clock import SystemClock
from tasks.domain.states import OperationState
from tasks.rules.calendar.freezes import Freeze
from tests.flows.served import Served
from tests.flows.test_windowed import message, within
from tests.support.fake_clock import FakeClock
from tests.support.fleet import SimFleet, outcome_of

NOON = datetime(2026, 12, 24, 12, tzinfo=UTC)


@pytest.fixture
def name() -> str:
    return f"web-{uuid4()}"


def deployed(served: Served, name: str, *freezes: dict[str, Any], extra: str = "", tags: Sequence[str] = ()) -> UUID:
    asked = {"scope": "*", "configuration": name, "freezes": list(freezes)}
    return asyncio.run(served.deployed(asked, tags=[MANAGED_TAG, build_configuration_tag(f"{name}{extra}"), *tags]))


def test_those_of_all_zones_of_a_configuration_are_read(served: Served, name: str) -> None:
    said: list[str] = []
    deployed(served, name, {"start": "2026-12-24T00:00:00", "end": "2026-12-25T00:00:00", "reason": "eve"})
    deployed(served, name, {"start": NOON.isoformat(), "end": (NOON + timedelta(hours=1)).isoformat()})
    deployed(served, name, {"start": "2021-01-01", "end": "2021-01-02"}, tags=[build_fleet_tag("another")])
    deployed(served, name, {"start": "2020-01-01", "end": "2020-01-02"}, extra="-other")
    found = DeclaredFreezes(name, "Europe/Berlin", said.append, SystemClock())()
    eve = Freeze(datetime(2026, 12, 23, 23, tzinfo=UTC), datetime(2026, 12, 24, 23, tzinfo=UTC), "eve")
    assert set(found) == {eve, Freeze(NOON, NOON + timedelta(hours=1))}
    assert said == []


@pytest.mark.parametrize(
    "parameters", [{}, {"request": {"scope": "*"}}, {"request": None}, {"request": {"freezes": None}}]
)
def test_a_deployment_without_freezes_declares_none(served: Served, name: str, parameters: dict[str, Any]) -> None:
    async def made() -> None:
        async with get_client() as client:
            flow = await client.create_flow(patch_fleet)
            tags = [MANAGED_TAG, build_configuration_tag(name)]
            await client.create_deployment(flow, name, parameters=parameters, tags=tags)

    asyncio.run(made())
    assert DeclaredFreezes(name, "UTC", pytest.fail, SystemClock())() == ()


def test_what_can_not_be_read_or_asked_holds_nothing_up(
    served: Served, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    said: list[str] = []
    deployed(served, name, {"start": "soon", "end": "late"})
    assert DeclaredFreezes(name, "UTC", said.append, FakeClock())() == ()
    assert "Prefect did not return new freezes (ValidationError)" in said[0]


def test_a_server_that_gives_no_answer_is_asked_again_after_a_while_and_what_is_known_holds(
    served: Served, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    said, asked, clock = list[str](), list[datetime](), FakeClock()
    deployed(served, name, {"start": "2026-12-24", "end": "2026-12-25"})
    freezes = DeclaredFreezes(name, "UTC", said.append, clock)
    known = freezes()
    assert len(known) == 1

    def away() -> object:
        asked.append(clock.now())
        raise OSError("connection refused")

    with monkeypatch.context() as patch:
        patch.setattr("flows.prefect_api.deployment_changes.open_fail_fast_client", away)
        for _ in range(3):  # three waves, one after the other
            assert freezes() == known
        clock.sleep(RETRY_INTERVAL.total_seconds())
        assert freezes() == known
    assert len(asked) == len(said) == 2
    assert "(OSError); known freezes apply" in said[1]

    clock.sleep(RETRY_INTERVAL.total_seconds())
    assert freezes() == known
    assert len(said) == 2


def test_a_run_that_waits_for_its_window_hears_of_a_freeze_that_is_deployed_then(
    served: Served, now_fleet: SimFleet, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The freeze is written into the deployment while the run waits, as `fleetpatch deploy` does it."""
    opens = datetime.now(UTC) + timedelta(hours=1)
    asked = within(now_fleet).model_copy(update={"configuration": name, "notify": []})
    asked = asked.model_copy(update={"window": asked.window.model_copy(update={"start": opens, "lead_minutes": 0})})
    deployment = deployed(served, name)
    ask = DeclaredFreezes(name, "UTC", pytest.fail, now_fleet.clock)
    slept = now_fleet.clock.sleep

    def sleep(seconds: float) -> None:
        slept(seconds)
        if opens - now_fleet.clock.now() < timedelta(minutes=30) and not done:
            done.append(True)
            _declare(deployment, asked, opens)

    done: list[bool] = []
    monkeypatch.setattr(now_fleet.clock, "sleep", sleep)
    monkeypatch.setattr(
        "flows.execution.open_ports",
        lambda request, who: nullcontext(replace(now_fleet.ports(), read_declared_freezes=ask)),
    )

    run = served.started(asked)

    assert run.state is not None
    assert (run.state.type.value, run.state.name) == ("FAILED", "NotStarted")
    assert message(run).startswith("frozen: release, from ")
    (report,) = now_fleet.records.reports.values()
    outcome = outcome_of(report, "web")
    assert outcome.state is OperationState.NOT_STARTED
    assert outcome.reason.startswith("frozen: release, from ")
    assert now_fleet.machines["web"].world.whole() == {"a": "1.0"}


def _declare(deployment: UUID, asked: PatchRequest, opens: datetime) -> None:
    freeze = FreezeRequest(start=opens, end=opens + timedelta(days=1), reason="release")
    changed = asked.model_copy(update={"freezes": [freeze]}).model_dump(mode="json")
    with get_client(sync_client=True) as client:
        client.request(
            "PATCH", "/deployments/{id}", path_params={"id": deployment}, json={"parameters": {"request": changed}}
        )


def test_the_real_way_out_asks_for_a_configuration_and_for_nobody_else(
    served: Served, name: str, tmp_path: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    inventory = tmp_path / "fleet.yaml"
    inventory.write_text("machines: [{name: web, address: 192.0.2.1}]\n")
    deployed(served, name, {"start": "2026-12-24", "end": "2026-12-25"})
    who = Caller(records_url=f"sqlite:///{tmp_path / 'records.db'}")
    asked = PatchRequest(scope="*", inventory=inventory, configuration=name)
    with open_ports(asked, who) as ports:
        assert len(ports.read_declared_freezes()) == 1
    with open_ports(asked.model_copy(update={"configuration": ""}), who) as ports:
        assert ports.read_declared_freezes() == ()
