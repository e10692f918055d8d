"""A run that waited while its configuration was deployed anew: it doesn't begin with what was asked before."""

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

import httpx
import pytest
from prefect.client.orchestration import SyncPrefectClient, get_client
from prefect.client.schemas.actions import DeploymentScheduleUpdate, DeploymentUpdate
from prefect.client.schemas.objects import FlowRun
from prefect.client.schemas.schedules import IntervalSchedule
from prefect.states import Pending

from flows.prefect_api.deployment_changes import ActiveSchedule, find_outdated_reason, read_outdated_reason
from flows.request.patch_request import PatchRequest, WindowRequest
from tasks.domain.states import RebootPolicy
from tasks.rules.calendar.prefect_schedule import PrefectSchedule, PrefectScheduleKind
from tests.flows.served import Served
from tests.support.fake_clock import FakeClock
from tests.support.fleet import SimFleet

Change = Callable[[SyncPrefectClient, UUID], None]


def asked(**fields: Any) -> PatchRequest:
    window = WindowRequest(minutes=120, lead_minutes=0)
    return PatchRequest(**{"scope": "*", "configuration": "web", "window": window, **fields})


def now_asks(**fields: Any) -> Change:
    def change(client: SyncPrefectClient, deployment: UUID) -> None:
        parameters = {"request": asked(**fields).model_dump(mode="json", exclude_defaults=True)}
        client.update_deployment(deployment, DeploymentUpdate(parameters=parameters))

    return change


def moved(client: SyncPrefectClient, deployment: UUID) -> None:
    (schedule,) = client.read_deployment_schedules(deployment)
    later = IntervalSchedule(interval=timedelta(days=1), anchor_date=datetime.now(UTC) + timedelta(hours=5))
    client.request(
        "PATCH",
        "/deployments/{id}/schedules/{schedule_id}",
        path_params={"id": deployment, "schedule_id": schedule.id},
        json=DeploymentScheduleUpdate(schedule=later).model_dump(mode="json", exclude_unset=True),
    )


def paused(client: SyncPrefectClient, deployment: UUID) -> None:
    client.update_deployment(deployment, DeploymentUpdate(paused=True))


def removed(client: SyncPrefectClient, deployment: UUID) -> None:
    client.delete_deployment(deployment)


def described(client: SyncPrefectClient, deployment: UUID) -> None:
    client.update_deployment(deployment, DeploymentUpdate(description="other words"))


def written_anew(client: SyncPrefectClient, deployment: UUID) -> None:
    described(client, deployment)
    now_asks()(client, deployment)


FROZEN = {"start": "2026-12-24", "end": "2026-12-27"}
FOUR_CHANGED = now_asks(scope="name=web", reboot=RebootPolicy.NEVER, assess_at_once=1, freezes=[FROZEN])


def carried_out_after(served: Served, change: Change) -> FlowRun:
    """Let a worker take a run, change its deployment, and let the run begin."""
    (run,) = served.made(asked(), datetime.now(UTC).replace(microsecond=0) - timedelta(minutes=5))
    assert run.deployment_id is not None
    with get_client(sync_client=True) as client:
        client.set_flow_run_state(run.id, Pending())  # Prefect itself deletes those that nobody has taken
        change(client, run.deployment_id)
        taken = client.read_flow_run(run.id)
    return served.carried_out(taken)


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (FOUR_CHANGED, "its deployment has other parameters now (assess_at_once, freezes, reboot, scope)"),
        (paused, "its deployment is switched off"),
        (moved, "no schedule starts a run at"),
        (removed, "its deployment was removed"),
    ],
)
def test_a_run_made_before_a_change_does_not_begin_after_it(
    served: Served, now_fleet: SimFleet, change: Change, reason: str
) -> None:
    run = carried_out_after(served, change)

    assert run.state is not None
    assert run.state.type.value == "CANCELLED"
    assert reason in (run.state.message or "")
    assert now_fleet.records.runs == {}


def test_a_run_of_which_nothing_was_changed_begins(served: Served, now_fleet: SimFleet) -> None:
    run = carried_out_after(served, written_anew)

    assert run.state is not None
    assert run.state.type.value == "COMPLETED", run.state.message


DUE = datetime(2026, 12, 5, 22, tzinfo=UTC)
DAILY = ActiveSchedule(PrefectSchedule(PrefectScheduleKind.INTERVAL, "", "UTC", None, timedelta(days=1), DUE))
ONE: dict[str, Any] = {"request": {"scope": "a=1"}}
OTHER: dict[str, Any] = {"request": {"scope": "a=2"}}


@pytest.mark.parametrize(
    ("made", "schedules", "is_outdated"),
    [
        (ONE, [DAILY], False),
        (OTHER, [DAILY], True),
        (ONE, [], True),
        (ONE, [ActiveSchedule(None)], False),  # somebody's own schedule, whose dates are not known here
        (
            OTHER,
            [ActiveSchedule(None, OTHER)],
            False,
        ),  # a schedule's own parameters come before those of its deployment
        (OTHER, [DAILY, ActiveSchedule(None, OTHER)], False),
        (ONE, [ActiveSchedule(PrefectSchedule(PrefectScheduleKind.RRULE, "FREQ=NONSENSE", "UTC", None))], True),
        (
            ONE,
            [
                ActiveSchedule(
                    PrefectSchedule(PrefectScheduleKind.RRULE, "DTSTART:20261205T230000\nRRULE:FREQ=DAILY", "UTC", None)
                )
            ],
            True,
        ),
        ({"days": 3}, [DAILY], True),
    ],
)
def test_what_a_schedule_would_make_now_is_not_outdated(
    made: dict[str, Any], schedules: list[ActiveSchedule], is_outdated: bool
) -> None:
    assert bool(find_outdated_reason(made, DUE, ONE, schedules, paused=False)) is is_outdated


def test_a_server_that_gives_no_answer_is_asked_again_and_then_it_is_said(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    said: list[str] = []
    clock = FakeClock()

    def away() -> object:
        raise httpx.ConnectError("refused")

    monkeypatch.setattr("flows.prefect_api.deployment_changes.open_fail_fast_client", away)
    made = {"flow_id": UUID(int=1), "deployment_id": UUID(int=2), "expected_start_time": DUE}
    run = FlowRun.model_validate(made)

    assert read_outdated_reason(run, said.append, clock) == ""
    assert sum(clock.sleeps) == 60
    assert said == [
        "Prefect did not say whether the configuration changed (ConnectError): the run uses its own request"
    ]
