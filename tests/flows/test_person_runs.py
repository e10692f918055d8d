"""Runs that a person starts: what a configuration patches in its windows is not patched at noon, nor at dawn."""

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import uuid4

import pytest
from prefect.client.schemas.objects import FlowRun
from prefect.context import FlowRunContext
from prefect.states import Scheduled

from flows.local_run import execute_locally
from flows.ports.caller import Caller
from flows.prefect_runtime.flow_run_origin import FlowRunOrigin, read_flow_run_origin
from flows.request.patch_request import PatchRequest, WindowRequest
from tasks.domain.errors import RequestError
from tasks.domain.states import NotificationOccasion, OperationState, WindowStatus
from tasks.records.queries.history import History
from tasks.records.setup import open_records
from tasks.records.window_claims import SqlWindowClaims
from tests.flows.served import Served
from tests.flows.test_windowed import DUE, OPENS, admitted, asked, door, message, refused, within
from tests.support.fleet import SimFleet

QUICK = FlowRunOrigin("flow-3", deployment="web", requested_start=DUE)
CHOSEN = FlowRunOrigin("flow-3", deployment="web", requested_start=OPENS, has_chosen_start=True)


@pytest.mark.parametrize("start", [QUICK, FlowRunOrigin("flow-3")])
def test_a_configuration_is_not_patched_now_by_accident(who: Caller, start: FlowRunOrigin) -> None:
    with pytest.raises(RequestError, match="'web' would patch now, outside of its windows") as caught:
        door(asked(), who, start)
    assert "outside_window: true" in caught.value.hint
    with pytest.raises(RequestError, match="outside of its windows"):
        execute_locally(asked(), who)


@pytest.mark.parametrize(
    ("request_", "start", "opens"),
    [
        (asked(outside_window=True), QUICK, DUE),
        (asked(), CHOSEN, OPENS),
        (asked(window=WindowRequest(start=OPENS, minutes=60)), QUICK, OPENS),
        (asked(window=WindowRequest(start=OPENS, minutes=60)), CHOSEN, OPENS),
        (asked(configuration=""), QUICK, DUE),
        (asked(configuration=""), FlowRunOrigin("flow-3"), None),
        (asked(dry_run=True), QUICK, DUE),
    ],
)
def test_a_window_opens_when_it_was_asked_for(
    who: Caller, request_: PatchRequest, start: FlowRunOrigin, opens: datetime | None
) -> None:
    assert admitted(door(request_, who, start, 50)).request.window.start == opens


@pytest.mark.parametrize(
    ("request_", "start"), [(asked(outside_window=True), QUICK), (asked(configuration=""), QUICK), (asked(), CHOSEN)]
)
def test_one_that_waited_for_its_worker_until_dawn_is_missed(
    who: Caller, request_: PatchRequest, start: FlowRunOrigin
) -> None:
    answer = refused(door(request_, who, start, 9 * 60))
    assert answer.refusal.status is WindowStatus.MISSED
    assert answer.occasion is NotificationOccasion.MISSED
    with open_records(who.records_url) as records:
        run = History(records).find_run(answer.report.run.id)
        assert SqlWindowClaims(records.database).find_claims_between(DUE - timedelta(1), DUE + timedelta(2)) == ()
    assert (run.state, run.started_by) == (OperationState.NOT_STARTED, "anne")


def test_a_person_s_window_is_no_window_of_the_schedule(who: Caller) -> None:
    admitted(door(asked(), who, FlowRunOrigin("flow-1", DUE, "web")))
    admitted(door(asked(), who, CHOSEN))  # machines are kept apart by their claims


@dataclass
class _Context:
    flow_run: FlowRun


@pytest.mark.parametrize(
    ("later", "auto", "expected"),
    [
        (timedelta(), False, {"requested_start": True, "has_chosen_start": False}),
        (
            timedelta(seconds=30),
            False,
            {"requested_start": True, "has_chosen_start": False},
        ),  # another clock said "now"
        (timedelta(seconds=-30), False, {"requested_start": True, "has_chosen_start": False}),
        (timedelta(hours=4), False, {"requested_start": True, "has_chosen_start": True}),
        (timedelta(days=3), True, {"scheduled_for": True}),
    ],
)
def test_a_chosen_time_is_told_from_now(
    monkeypatch: pytest.MonkeyPatch, later: timedelta, auto: bool, expected: dict[str, bool]
) -> None:
    made = datetime(2026, 11, 20, 18, 0, tzinfo=UTC)
    fields: dict[str, Any] = {"created": made, "expected_start_time": made + later, "auto_scheduled": auto}
    run = FlowRun(id=uuid4(), flow_id=uuid4(), deployment_id=uuid4(), **fields)
    monkeypatch.setattr(FlowRunContext, "get", classmethod(lambda cls: _Context(run)))
    monkeypatch.setattr("flows.prefect_runtime.flow_run_origin.deployment.get_name", lambda: "web")
    moments: dict[str, Any] = {
        name: made + later for name in ("requested_start", "scheduled_for") if expected.get(name)
    }
    assert read_flow_run_origin() == FlowRunOrigin(
        str(run.id), deployment="web", has_chosen_start=bool(expected.get("has_chosen_start")), **moments
    )


def test_a_quick_run_of_a_configuration_s_deployment_patches_nothing(served: Served, now_fleet: SimFleet) -> None:
    run = served.started(within(now_fleet))

    assert run.state is not None
    assert run.state.is_failed()
    assert "outside of its windows" in message(run)
    assert now_fleet.records.runs == {}


def test_what_a_deployment_of_the_version_before_holds_is_read(served: Served, now_fleet: SimFleet) -> None:
    due = (datetime.now(UTC) - timedelta(minutes=50)).replace(microsecond=0)
    old = within(now_fleet).model_dump(mode="json")
    for key in ("outside_window", "repair", "notify"):
        del old[key]

    (made,) = served.made_of(old, due)
    run = served.carried_out(made)

    assert run.state is not None
    assert run.state.is_completed(), message(run)
    (info,) = now_fleet.records.runs.values()
    assert info.window is not None
    assert info.window.start == due + timedelta(minutes=40)


def test_a_run_that_a_dead_worker_held_up_patches_nothing(served: Served, now_fleet: SimFleet) -> None:
    evening = datetime.now(UTC) - timedelta(hours=9)
    request = within(now_fleet).model_copy(update={"configuration": ""})

    run = served.started(request, state=Scheduled(scheduled_time=evening))

    assert run.state is not None
    assert run.state.is_failed(), message(run)
    assert message(run).startswith("window missed: ")
    assert now_fleet.records.runs == {}
